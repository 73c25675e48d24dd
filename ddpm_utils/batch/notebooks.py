"""The committed notebooks: where they are, what parameters they take, copies to work in, an edition for students."""

import hashlib
import json
from functools import cache
from pathlib import Path

import nbformat
import papermill
from nbformat import NotebookNode

from ddpm_utils.names import suggestion
from ddpm_utils.system.files import fingerprint, read_json, write_bytes, write_json
from ddpm_utils.system.places import RESOURCES

NOTEBOOKS = RESOURCES / "notebooks"
COPIED = ".copied.json"  # in a folder of copies: the sha256 of what was copied
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
        names = [path.stem for path in numbered()]
        raise ValueError(f"there is no notebook {name!r}; there are {', '.join(names)}.{suggestion(name, names)}")
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


def copy_notebooks(folder: Path) -> list[Path]:
    """Copy the notebooks to a folder to work in; those that were edited there stay as they are.

    Args:
        folder: to copy into; made if it is missing.

    Returns:
        the edited copies of which there is a newer version than the one that was copied.

    Raises:
        CheckpointError: if the list of copies is damaged, or a copy cannot be written.
    """
    copied, outdated = _copied(folder), []
    for path in [*numbered(), NOTEBOOKS / "app.ipynb", NOTEBOOKS / "README.md"]:
        name, target, version = path.name, folder / path.name, _version(path)
        there = _version(target) if target.exists() else None
        if there in (None, copied.get(name)) and there != version:
            write_bytes(target, path.read_bytes())
        if there in (None, copied.get(name), version):
            copied[name] = version
        elif copied.get(name) != version:
            outdated.append(target)
    write_json(folder / COPIED, copied)
    return outdated


def edited_notebooks(folder: Path) -> list[Path]:
    """Return the copies in a folder that are not what `copy_notebooks` wrote; executed ones are, edited ones are not.

    Raises:
        CheckpointError: if the list of copies is damaged.
    """
    paths = {folder / name: version for name, version in _copied(folder).items()}
    return [path for path, version in paths.items() if path.exists() and _version(path) != version]


def _copied(folder: Path) -> dict[str, str]:
    path = folder / COPIED
    return read_json(path, "delete it; notebooks beside it then count as edited") if path.exists() else {}


def _version(path: Path) -> str:
    """The sha256 of a notebook's cells without outputs; of another file, or a damaged notebook, that of its bytes."""
    content = path.read_bytes()
    try:
        cells = json.loads(content)["cells"]
        return fingerprint([[cell["cell_type"], "".join(cell["source"])] for cell in cells])
    except (ValueError, KeyError, TypeError):
        return hashlib.sha256(content).hexdigest()


def write_student_edition(folder: Path) -> list[Path]:
    """Write each notebook without its solutions and outputs, under its own name, so that links between them hold.

    Args:
        folder: to write into; made if it is missing.

    Returns:
        the notebooks' paths, in their order.

    Raises:
        ValueError: if a notebook in the folder has been worked on; nothing is written then.
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
    """Return one notebook without its solutions and outputs, with checks that Jupyter refuses to edit."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if "check" in cell.metadata.get("tags", []):
            cell.metadata.editable = cell.metadata.deletable = False
    return (nbformat.writes(notebook) + "\n").encode()
