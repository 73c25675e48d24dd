"""A notebook refuses parameters that papermill was given and that it does not have."""

from pathlib import Path

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from ddpm_utils.batch.notebooks import parameters_of
from ddpm_utils.batch.parameters import check_names
from ddpm_utils.training.parameters import ParameterError

NOTEBOOK = "02_training"
IMPORTS = "import ddpm_utils as ddpm"
DEFAULTS = "beta: float = 0.001  # noise\nT: int = 2000"
CHECK = f'ddpm.check_names("{NOTEBOOK}", In)'


def injected(text: str) -> str:
    """The cell that papermill makes of some parameters."""
    return f"# Parameters\n{text}\n"


def executed(*cells: str) -> list[str]:
    """IPython's `In` when the check is executed after these cells."""
    return ["", IMPORTS, DEFAULTS, *cells, CHECK]


@pytest.mark.parametrize(
    "cells",
    [
        executed(),
        executed(injected("beta = 0.1\nT = 20")),
        executed(injected("betas = [0.1, 0.2]\nrun_name = 'it is betta = 3'")),
        executed(injected("beta = 0.1"), IMPORTS, DEFAULTS, injected("T = 20")),
        executed("# Parameters of my own\nbetta = 3", "betta = 0.1\nx, y = 1, 2"),
        executed("#Parameters\nbetta = 3", "\n# Parameters\nbetta = 3"),
        ["", IMPORTS, f"{DEFAULTS}\nmine: int = 3  # of an edited copy", injected("mine = 4"), CHECK],
        executed(injected("this is no Python")),
        [],
    ],
)
def test_what_the_notebook_knows_passes(cells):
    check_names(NOTEBOOK, cells)


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (executed(injected("betta = 0.1")), {"betta": "beta"}),
        (
            executed(injected("betta = 0.1\nnettwork = 'cnn'\nzzz = 3")),
            {"betta": "beta", "nettwork": "network", "zzz": ""},
        ),
        (executed(injected("Beta = 0.1")), {"Beta": "beta"}),
        (executed(injected("t = 20\nbeta = 0.1")), {"t": "T"}),
        (executed(injected("beta = 0.1\nT = 20\nbatchsize = 3\nseed = 1")), {"batchsize": "batch_size"}),
        (executed(injected("beta = 0.1"), injected("epoch = 3")), {"epoch": "epochs"}),
        (executed(injected("epoch = 3"), injected("epoch = 4")), {"epoch": "epochs"}),
        (executed(injected("betta = 3"), IMPORTS, DEFAULTS, injected("beta = 3")), {"betta": "beta"}),
        ([injected("Run_Name = 'a'")], {"Run_Name": "run_name"}),
    ],
)
def test_unknown_names_are_refused(cells, names):
    with pytest.raises(ParameterError) as found:
        check_names(NOTEBOOK, cells)
    assert [name for name, _ in found.value.problems] == list(names)
    known = ", ".join(parameters_of(NOTEBOOK))
    for (name, sentence), meant in zip(found.value.problems, names.values(), strict=True):
        near = f" Did you mean {meant!r}?" if meant else ""
        assert sentence == f"there is no parameter {name!r} in {NOTEBOOK}; there are {known}.{near}"


def write(path: Path) -> Path:
    """A small notebook with a parameters cell and the check."""
    cells = [new_code_cell(code) for code in (IMPORTS, DEFAULTS, CHECK, "print('reach' + 'ed')")]
    cells[1].metadata["tags"] = ["parameters"]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"language_info": {"name": "python"}}), path)
    return path


def prepared(path: Path, parameters: dict | None) -> list[str]:
    """IPython's `In` at the check of what papermill makes of a notebook and parameters; `path` becomes it."""
    notebook = papermill.execute_notebook(str(path), str(path), parameters, kernel_name="python3", prepare_only=True)
    return ["", *(cell.source for cell in notebook.cells if cell.source != "print('reach' + 'ed')")]


def test_papermill_stops_at_an_unknown_name(tmp_path):
    """Also in a copy, with parameters of a YAML file, and when what papermill has left is executed again."""
    path = write(tmp_path / "lab" / "a copy.ipynb")
    done = path.with_suffix(".done.ipynb")
    file = tmp_path / "parameters.yaml"
    file.write_text("beta: 0.1\nbetta: 0.2\n", encoding="utf-8")
    given = papermill.iorw.read_yaml_file(str(file))
    with pytest.raises(papermill.PapermillExecutionError, match=r"'betta' in 02_training; .*Did you mean 'beta'\?"):
        papermill.execute_notebook(str(path), str(done), given, kernel_name="python3", progress_bar=False)
    assert "reached" not in done.read_text(encoding="utf-8")

    left = prepared(done, None)
    assert any("betta = 0.2" in cell for cell in left)
    with pytest.raises(ParameterError, match="no parameter 'betta' in 02_training"):
        check_names(NOTEBOOK, left)
    again = prepared(done, {"beta": 0.1})
    assert not any("betta" in cell for cell in again), "papermill replaces the cell that it has added"
    check_names(NOTEBOOK, again)
    notebook = nbformat.read(done, as_version=4)
    notebook.cells.insert(3, new_code_cell("# Parameters\nepoch = 3\n", metadata={"tags": ["injected-parameters"]}))
    nbformat.write(notebook, done)
    with pytest.raises(ParameterError, match="no parameter 'epoch' in 02_training"):
        check_names(NOTEBOOK, prepared(done, None))
