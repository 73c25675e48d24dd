"""The committed notebooks: where they are, what parameters they take, and how they are executed again."""

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import nbformat
import papermill
from nbformat import NotebookNode

from ddpm_utils.checkpoints import write_bytes
from ddpm_utils.data import PROJECT
from ddpm_utils.sealed import METADATA, fingerprint

NOTEBOOKS = PROJECT / "notebooks"
STRIPPED_KEYS = "metadata.widgets metadata.papermill cell.metadata.papermill cell.metadata.execution"
EXERCISES = "## Exercises"  # begins the last part of each


def numbered() -> list[Path]:
    """The notebooks 01 to 05, in order."""
    return sorted(NOTEBOOKS.glob("0*.ipynb"))


@cache
def parameters_of(name: str) -> dict[str, str]:
    """What a notebook's parameters cell holds: name → type, as annotated there ("int", "str", …).

    Args:
        name: of the notebook, without ending.

    Raises:
        ValueError: if there is no such notebook.
    """
    path = NOTEBOOKS / f"{name}.ipynb"
    if path not in numbered():
        raise ValueError(f"there is no notebook {name!r}; there are {', '.join(path.stem for path in numbered())}.")
    return {key: found["inferred_type_name"] for key, found in papermill.inspect_notebook(str(path)).items()}


def without_exercises(name: str) -> NotebookNode:
    """A notebook up to its exercises: what a batch executes."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    starts = [number for number, cell in enumerate(notebook.cells) if cell.source.startswith(EXERCISES)]
    notebook.cells = notebook.cells[: min(starts, default=None)]
    return notebook


def outputs_sha256(notebook: NotebookNode) -> str:
    """sha256 of the code cells with their outputs: a committed notebook notes it, so that no output can be edited."""
    cells = [[cell.source, cell.outputs] for cell in notebook.cells if cell.cell_type == "code"]
    return fingerprint(cells)


def refresh() -> None:
    """Execute the committed notebooks from top to bottom at their default parameters, and strip them."""
    for path in [*numbered(), NOTEBOOKS / "app.ipynb"]:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["DDPM_OUTPUT"] = folder  # figures and runs of this execution are not kept
            executed = Path(folder) / path.name
            papermill.execute_notebook(str(path), str(executed), kernel_name="python3")
            keep = ["--keep-output", "--keep-count", "--extra-keys", STRIPPED_KEYS]
            subprocess.run([sys.executable, "-m", "nbstripout", *keep, str(executed)], check=True)
            notebook = nbformat.read(executed, as_version=4)
            notebook.metadata[METADATA] = {"outputs": outputs_sha256(notebook)}
            write_bytes(path, (nbformat.writes(notebook) + "\n").encode())
