"""The wheel holds all that it needs: unpacked and used from another folder, it writes below that folder alone."""

import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from ddpm_utils.system.places import PROJECT

LAB = """
from ddpm_utils import commands
from ddpm_utils.__main__ import main
commands.subprocess.call = lambda command, env, cwd: print(cwd, env["DDPM_OUTPUT"])
commands.lab()
main(["sweep", "grids/beta_T.yaml", "--dry-run"])
"""
TRAIN = """
import sys
from dataclasses import replace
from ddpm_utils import data
load = data.load
data.load = lambda name: replace(load(name), train=load(name).train[:64], validation=load(name).validation[:64])
from ddpm_utils.__main__ import main
sys.exit(main())
"""


def files(folder: Path) -> dict[str, int]:
    """What is in a folder: paths and times of their last change."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    """The folder of an unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(PROJECT)], check=True)
    (wheel,) = folder.glob("ddpm_utils-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture
def python(unpacked, tmp_path):
    """Runs Python in a folder without the repository; what it prints. Nothing may change in the unpacked wheel."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DDPM_")}
    environment |= {"PYTHONPATH": str(unpacked), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "HOME": str(tmp_path / "home")}
    (tmp_path / "work").mkdir()
    before = files(unpacked)

    def run(*arguments: str, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path / "work",
            env=environment | more,
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    yield run
    assert files(unpacked) == before


def test_holds_what_is_read(unpacked):
    package = unpacked / "ddpm_utils"
    tracked = ("data/checkpoints", "data/mnist_5k.npz", "notebooks", "grids")
    for name in (p for t in tracked for p in [PROJECT / t, *(PROJECT / t).rglob("*")] if p.is_file()):
        if ".ipynb_checkpoints" not in name.parts:
            assert (package / "resources" / name.relative_to(PROJECT)).read_bytes() == name.read_bytes()
    inside = [path.relative_to(PROJECT) for path in (PROJECT / "ddpm_utils").rglob("*") if path.is_file()]
    assert all((unpacked / path).exists() for path in inside if "__pycache__" not in path.parts)
    assert {path.suffix for path in inside} >= {".py", ".pyi", ".js", ".j2", ".typed"}
    assert not any(path.parts[0] in ("tests", "maintenance", "data") for path in unpacked.iterdir())


def test_ten_lines_run_and_write_nothing(python, unpacked, tmp_path):
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    lines = re.search(r"```python\n(import torch\nimport ddpm_utils as ddpm\n.*?)```", readme, re.DOTALL)[1]
    printed = python("-c", f"{lines}\nprint(ddpm.__file__, decoder.source)")
    assert f"{unpacked / 'ddpm_utils' / '__init__.py'} Weights shipped with the project" in printed
    assert files(tmp_path / "work") == {}


def test_trains_below_the_current_folder(python, tmp_path):
    few = ["dataset=mnist_5k", "T=20", "network=lean_unet", "batch_size=64", "epochs=1"]
    assert "Run folder: data/runs/constant-beta0.001-T20-lean_unet/" in python("-c", TRAIN, "train", *few)
    assert any(name.endswith("best.safetensors") for name in files(tmp_path / "work" / "data" / "runs"))
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["data"]


def test_lab_and_the_projects_grids_are_there(python, unpacked, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    folders, *planned = python("-c", LAB, DDPM_OUTPUT=str(elsewhere)).splitlines()
    assert folders == f"{elsewhere / 'data/runs/lab'} {elsewhere}"
    copies = {path.name for path in (elsewhere / "data" / "runs" / "lab").iterdir()}
    assert copies >= {path.name for path in (unpacked / "ddpm_utils" / "resources" / "notebooks").iterdir()}
    assert len(planned) == 60
    assert python("-m", "ddpm_utils", "--version") == f"ddpm-utils {version('ddpm-utils')}\n"
    assert files(tmp_path / "work") == {}
