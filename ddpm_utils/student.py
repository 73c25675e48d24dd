"""The student edition: the notebooks with every answer cut to a stub, by the markers of nbgrader."""

from pathlib import Path

import nbformat

from ddpm_utils import notebooks
from ddpm_utils.checkpoints import write_bytes


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
    editions = {folder / path.name: student_edition(path) for path in notebooks.numbered()}
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
