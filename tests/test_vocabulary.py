"""The student's vocabulary: `import ddpm_utils as ddpm` loads nothing, and the README's ten lines run as written."""

import inspect
import re
import subprocess
import sys
from importlib import import_module

import pytest

import ddpm_utils
from ddpm_utils.system.places import PROJECT

FOLDERS = ("cold", "diffusion", "evaluation", "lab", "plots", "training")
FACES = ["ddpm_utils", *(f"ddpm_utils.{name}" for name in FOLDERS)]


def run(code: str, folder) -> str:
    """What a fresh process prints."""
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(PROJECT), "DDPM_OUTPUT": str(folder), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    found = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8")
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_the_import_alone_loads_no_library(tmp_path):
    heavy = "torch numpy matplotlib pandas ipywidgets papermill"
    code = f"import sys, ddpm_utils; print([name for name in {heavy!r}.split() if name in sys.modules])"
    assert run(code, tmp_path) == "[]\n"


def test_the_ten_lines_run_as_written(tmp_path):
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    lines = re.search(r"```python\n(import torch\nimport ddpm_utils as ddpm\n.*?)```", readme, re.DOTALL)[1]
    code = f"{lines}\nprint(tuple(new.shape), bool(new.isfinite().all()), new.std().item() > 0.2, decoder.source)"
    printed = run(code, tmp_path)
    assert printed.startswith("(8, 1, 28, 28) True True Weights shipped with the project:")


@pytest.mark.parametrize("name", FACES)
def test_every_name_of_a_folder_is_there(name):
    """Once: no name stands for two things."""
    module = import_module(name)
    for offered in module.__all__:
        found = getattr(module, offered)
        assert inspect.ismodule(found) == (found is sys.modules.get(f"{name}.{offered}")), offered
    with pytest.raises(AttributeError):
        module.no_such_name  # noqa: B018


def test_the_vocabulary_is_small_and_documented():
    names = ddpm_utils.__all__
    assert len(names) <= 21
    assert all(inspect.getdoc(getattr(ddpm_utils, name)) for name in names)
