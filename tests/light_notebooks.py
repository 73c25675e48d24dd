"""Light notebooks in place of the committed ones, for tests of what executes them, in whatever process it does."""

import ast
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from ddpm_utils.__main__ import main as command
from ddpm_utils.batch import jobs, notebooks, sweep
from ddpm_utils.batch.jobs import Job
from tests.needed_cells import cells_for, loaded

PARAMETERS = {"tags": ["parameters"]}


class LightJob(Job):
    """A job that takes light notebooks along to the process that executes it."""

    def __reduce__(self):
        """Pickle it with where the process that made it reads notebooks."""
        return arrive, (jobs.without_exercises, tuple(self))


def arrive(reads: Callable[[str], NotebookNode], values: tuple) -> Job:
    """Make the process that unpickles a job read the same notebooks."""
    jobs.without_exercises = reads
    return LightJob(*values)


def read(folder: Path, name: str) -> NotebookNode:
    """Read a light notebook."""
    return nbformat.read(folder / f"{name}.ipynb", as_version=4)


def use(folder: Path, monkeypatch) -> None:
    """Execute the light notebooks of a folder in this process, and on those that its jobs are sent to."""
    monkeypatch.setattr(jobs, "without_exercises", partial(read, folder))
    monkeypatch.setattr(sweep, "Job", LightJob)


def main(folder: str, *arguments: str) -> int:
    """Run `ddpm` with the light notebooks of a folder, in a process that does nothing else."""
    jobs.without_exercises, sweep.Job = partial(read, Path(folder)), LightJob
    return command(list(arguments))


def write(folder: Path, name: str, *sources: str) -> Path:
    """Write a light notebook: its first cell holds the parameters."""
    cells = [new_code_cell(source, metadata={} if number else PARAMETERS) for number, source in enumerate(sources)]
    folder.mkdir(parents=True, exist_ok=True)
    notebook = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def write_needed(folder: Path, name: str, *words: str, more: str = "") -> None:
    """Write the cells of a committed notebook that hold one of some words, and of the others what they need.

    Args:
        folder, name: of the light notebook; the committed one has the same name.
        words: in what is wanted, besides the parameters and their check.
        more: code of a last cell.
    """
    notebook = nbformat.read(notebooks.NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cells = [*notebook.cells, new_code_cell(more)]
    wanted = [cell.source == more or any(word in cell.source for word in (*words, "check_names")) for cell in cells]
    notebook.cells = cells_for(cells, lambda i: wanted[i])
    used = set().union(*(loaded(compile(cell.source, name, "exec")) for cell in notebook.cells))
    notebook.cells[0].source = without_unused(notebook.cells[0].source, used)
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")


def without_unused(imports: str, used: set[str]) -> str:
    """Leave out of a cell of imports those whose names are not used."""
    lines = ast.parse(imports).body
    for line in lines:
        line.names = [alias for alias in line.names if (alias.asname or alias.name).partition(".")[0] in used]
    return "\n".join(ast.unparse(line) for line in lines if line.names)
