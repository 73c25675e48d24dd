"""The notebooks: executed and complete, the same again (nbval), and with other parameters (papermill)."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from ddpm_utils.batch import jobs
from ddpm_utils.batch.jobs import Job, execute
from ddpm_utils.batch.notebooks import EXERCISES, numbered, outputs_sha256
from ddpm_utils.batch.notebooks import NOTEBOOKS as FOLDER
from ddpm_utils.system.files import METADATA
from ddpm_utils.system.places import PROJECT
from tests.needed_cells import stored, without_own_degradation
from tests.patience import PATIENCE

NOTEBOOKS = numbered()
COMPARED = 3  # cells with text output that nbval compares, at least, in each notebook
OTHER_PARAMETERS = {
    "01_forward_process": {"schedule": "linear", "beta_max": 0.05, "T": 3},
    "03_sampling": {"schedule": "cosine", "T": 1000, "network": "lean_unet", "calls": 10, "shown": 8},
    "05_custom_degradation": {"degradation": "noise", "algorithm": "1", "calls": 5, "shown": 4},
}
"""Besides the parameters in `test_other_images`, where 02 and 05 train and 04 evaluates."""


def by_name(path: Path) -> str:
    return path.stem


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def text_outputs(cell: dict) -> list[str]:
    """What nbval compares of a cell: its text, unless the cell is marked."""
    if "NBVAL_IGNORE_OUTPUT" in "".join(cell["source"]):
        return []
    return ["".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream"]


def nbval(path: Path, folder: Path) -> subprocess.CompletedProcess:
    options = ["-p", "no:cacheprovider", "-p", "nbval.plugin", "-p", "tests.patience", "-q"]
    limits = [f"--nbval-kernel-startup-timeout={PATIENCE}"]
    command = [sys.executable, "-m", "pytest", "--nbval", *options, *limits, str(path)]
    environment = os.environ | {"DDPM_OUTPUT": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the other plugins take seconds to import
    return subprocess.run(command, cwd=path.parent, env=environment, capture_output=True, encoding="utf-8")


def test_all_five_are_there():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_is_executed_from_top_to_bottom(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])
    assert sum(bool(text_outputs(cell)) for cell in cells) >= COMPARED
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_follows_the_skeleton(path):
    cells = code_cells(path)
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in cells) == 1
    assert max(len("".join(cell["source"]).splitlines()) for cell in cells if not cell["metadata"].get("tags")) <= 15
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_reads_well_without_a_kernel(path):
    """Few cells, equations that GitHub does not take for lists, alternative texts, and no widget's code as its text."""
    notebook = nbformat.read(path, as_version=4)
    sources = [cell.source for cell in notebook.cells]
    assert next(i for i, source in enumerate(sources) if source.startswith(EXERCISES)) <= 45
    equations = re.findall(r"\$\$(.*?)\$\$", "\n".join(sources), re.DOTALL)
    assert len(equations) > 2
    assert not [equation for equation in equations if re.search(r"^\s*[-+=]", equation, re.MULTILINE)]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not any("(children=" in str(output.get("data", {}).get("text/plain")) for output in outputs)
    alternatives = [o.metadata["image/png"]["alt"] for o in outputs if "image/png" in o.get("data", {})]
    assert all(len(text) > 30 and text.endswith(".") for text in alternatives)
    assert len(set(alternatives)) == len(alternatives) > 5


@pytest.mark.parametrize("path", [*NOTEBOOKS, FOLDER / "app.ipynb"], ids=by_name)
def test_no_stored_output_was_changed_by_hand(path):
    """Also those that nbval does not compare, since they differ between machines: one changed digit is noticed."""
    notebook = nbformat.read(path, as_version=4)
    noted = notebook.metadata[METADATA]["outputs"]
    assert outputs_sha256(notebook) == noted, "execute it again: make notebooks"
    for output in [output for cell in notebook.cells for output in cell.get("outputs", ())]:
        shown = output if "text" in output else output.get("data", {})
        for kind, text in list(shown.items()):
            if isinstance(text, str) and re.search(r"\d", text):
                shown[kind] = re.sub(r"\d(?=\D*$)", lambda digit: str((int(digit[0]) + 1) % 10), text)
                assert outputs_sha256(notebook) != noted
                shown[kind] = text


@pytest.mark.parametrize("path", [*NOTEBOOKS, FOLDER / "app.ipynb"], ids=by_name)
def test_imports_little_and_builds_experiments_by_keyword(path):
    trees = [ast.parse("".join(cell["source"])) for cell in code_cells(path)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert len({name for name in modules if name.split(".")[0] == "ddpm_utils"}) <= 8
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    assert not any(call.args for call in calls if call.func.attr in ("Experiment", "RestorationExperiment"))


def reassigned(cells: list[str]) -> set[str]:
    """Global names that a function in one cell uses and a later cell assigns: a slider moved at the end would break."""
    found = set()
    for number, cell in enumerate(cells):
        functions = [node for node in ast.parse(cell).body if isinstance(node, ast.FunctionDef)]
        names = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.Name)]
        own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        own |= {node.arg for function in functions for node in ast.walk(function) if isinstance(node, ast.arg)}
        for other in cells[number + 1 :]:
            outside = stored(compile(other, "cell", "exec"))  # of functions
            later = [node for node in ast.walk(ast.parse(other)) if isinstance(node, ast.Name)]
            assigned = {node.id for node in later if isinstance(node.ctx, ast.Store)} & outside
            found |= ({node.id for node in names} - own) & assigned
    return found


def test_finds_a_name_that_is_assigned_again():
    draw = "def draw(t):\n    x = steps[t]\n    return x + 1"
    assert reassigned(["steps = [1]", draw, "x = 2\nsteps = [2]"]) == {"steps"}
    assert reassigned(["steps = [1]", draw, "x = 2"]) == set()
    assert reassigned(["steps = [1]", draw, "def other():\n    steps = [2]"]) == set()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_sliders_work_after_the_last_cell(path):
    assert reassigned(["".join(cell["source"]) for cell in code_cells(path)]) == set()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_gives_the_stored_outputs_again(path, tmp_path):
    result = nbval(path, tmp_path)
    assert result.returncode == 0, result.stdout[-4000:]
    assert re.search(r"\d+ passed", result.stdout)


@pytest.mark.parametrize(("stored", "failures"), [("0.25\n", 0), ("0.26\n", 1)], ids=["same", "changed"])
def test_a_changed_number_is_noticed(stored, failures, tmp_path):
    """As `test_gives_the_stored_outputs_again` calls nbval, one changed digit makes it fail."""
    output = nbformat.v4.new_output("stream", name="stdout", text=stored)
    cell = nbformat.v4.new_code_cell("print(1 / 4)", execution_count=1, outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "copy.ipynb")
    assert nbval(tmp_path / "copy.ipynb", tmp_path).returncode == failures


@pytest.mark.parametrize("name", OTHER_PARAMETERS)
def test_runs_with_other_parameters(name, tmp_path, monkeypatch):
    if name.startswith("05"):  # what is trained there does not depend on the parameters
        notebook = jobs.without_exercises(name)
        notebook.cells = without_own_degradation(notebook.cells)
        monkeypatch.setattr(jobs, "without_exercises", lambda name: notebook)
    job = Job(name, OTHER_PARAMETERS[name], tmp_path, tmp_path)
    event = execute(job, threads=1)
    assert event.state == "done", event.message
    assert job.target.exists()
    assert list(tmp_path.rglob("figures/*.png"))
