"""The committed notebooks: where they are, what parameters they take, and their edition for students."""

from functools import cache
from pathlib import Path

import nbformat
import papermill
from nbformat import NotebookNode

from ddpm_utils.data import PROJECT
from ddpm_utils.files import fingerprint, write_bytes

NOTEBOOKS = PROJECT / "notebooks"
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


def write_student_edition(folder: Path) -> list[Path]:
    """Write each notebook without its answers and outputs, under its own name, so that links between them hold.

    What lies between `### BEGIN SOLUTION` and `### END SOLUTION` becomes a stub that raises NotImplementedError, so
    that the check after it fails until there is an answer.

    Args:
        folder: to write into; made if it is missing.

    Returns:
        the notebooks' paths, in their order.

    Raises:
        ValueError: if nbgrader is missing, or a notebook in the folder has been worked on; nothing is written then.
        CheckpointError: if a notebook cannot be written.
    """
    editions = {folder / path.name: student_edition(path) for path in numbered()}
    for path, content in editions.items():
        if path.exists() and path.read_bytes() != content:
            raise ValueError(f"{path} differs from a fresh student edition: move it away first.")
    for path, content in editions.items():
        write_bytes(path, content)
    return list(editions)


def student_edition(path: Path) -> bytes:
    """One notebook without its answers and outputs, as the content of a file.

    Raises:
        ValueError: if nbgrader is missing.
    """
    try:
        from nbgrader.preprocessors import ClearOutput, ClearSolutions, LockCells
    except ModuleNotFoundError as error:
        raise ValueError("the student edition needs nbgrader, which pip install 'ddpm-utils[dev]' brings.") from error
    notebook = nbformat.read(path, as_version=4)
    for preprocessor in (ClearSolutions(), ClearOutput(), LockCells()):
        notebook, _ = preprocessor.preprocess(notebook, {})
    for cell in notebook.cells:
        if "answer" in cell.metadata.get("tags", []):
            cell.metadata.pop("jupyter", None)  # what had it folded away
    return (nbformat.writes(notebook) + "\n").encode()
