"""No user's command changes a tracked file: each is run in a copy of the repository, and git sees no change."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm_utils.system.places import PROJECT

GRID = "experiments:\n  - {beta: 0.1, T: 3}\nnotebooks:\n  01_forward_process:\n"
COMMANDS = """
import os, subprocess, sys
from functools import partial
from pathlib import Path
from tests import light_notebooks
from tests.few_digits import load, load_few
from tests.needed_cells import cells_for
from tests.patience import PATIENTLY
from ddpm_utils import commands, data
from ddpm_utils.__main__ import main
from ddpm_utils.batch import jobs, sweep
import nbformat
from nbclient import NotebookClient

light = Path(sys.argv[1]).parent / "light"
light_notebooks.write_needed(light, "01_forward_process", "01_data")
jobs.without_exercises, sweep.Job = partial(light_notebooks.read, light), light_notebooks.LightJob
main_job = sweep.main_job
short = {"schedule": "constant", "beta": 0.1, "T": 3, "dataset": "mnist_5k"}
sweep.main_job = lambda *given: [[main_job(*given)[0][0]._replace(parameters=short)]]  # one notebook, three steps

def serve(command, env, cwd=None):
    # what somebody does in JupyterLab: open a notebook, run some of its cells, save it
    if "jupyterlab" in command:
        notebook = nbformat.read(command[-1], as_version=4)
        cells = notebook.cells
        for cell in cells:
            if cell.cell_type == "code":
                cell.outputs = []
        run = nbformat.v4.new_notebook(cells=cells_for(cells, lambda i: "01_data" in cells[i].source))
        NotebookClient(run, kernel_name="python3", **PATIENTLY).execute(cwd=cwd, env=env)
        assert any(cell.outputs for cell in cells if cell.cell_type == "code")
        nbformat.write(notebook, command[-1])
    return 0

commands.subprocess.call = serve
train = ["train", "dataset=mnist_5k", "T=20", "network=lean_unet", "batch_size=64", "epochs=1"]
lines = [["run"], ["sweep", "grids/beta_T.yaml", "--dry-run"], ["sweep", sys.argv[1]], train, ["site"]]
for line in [*lines, ["lab"], ["app"], ["student"], ["lab"], ["clean"]]:
    data.load = load_few if line == train else load  # a step of 1,600 images takes long
    assert main(line) == 0, line
    changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, encoding="utf-8", check=True).stdout
    assert not changed, f"ddpm {line[0]} changed {changed}"
    print(line[0], *sorted(entry.name for entry in os.scandir("data/runs")) if os.path.exists("data/runs") else "")
"""


@pytest.fixture
def repository(tmp_path) -> Path:
    """A repository of all files that this one tracks or would track, as they are now."""
    if not (PROJECT / ".git").exists():
        pytest.skip("needs a git repository")

    def git(*arguments: str, cwd: Path) -> str:
        return subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, encoding="utf-8", check=True).stdout

    copy = tmp_path / "repository"
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=PROJECT).split("\0"):
        if name and (PROJECT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, copy / name)
    git("init", "--quiet", cwd=copy)
    git("add", "--all", cwd=copy)
    git("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "All of it", cwd=copy)
    return copy


def test_no_command_changes_a_tracked_file(repository, tmp_path):
    (tmp_path / "tiny.yaml").write_text(GRID, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DDPM_")}
    environment |= {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMMANDS, str(tmp_path / "tiny.yaml")]
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    written = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line[:1].islower()}
    assert {"constant-beta0.1-T3-cnn", "lab", "results.csv", "site", "student", "tiny"} <= set(written["lab"])
    assert written["clean"] == [".lock"]  # which the next command takes
    assert [path.name for path in (repository / "data" / "runs").iterdir()] == [".lock"]
