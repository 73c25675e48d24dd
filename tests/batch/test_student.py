"""The exercises, and the student edition: complete, folded away, cut to stubs, and refused by every check."""

import ast
import os
import re
import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.nbgraderformat import MetadataValidator

from ddpm_utils.batch.notebooks import NOTEBOOKS as FOLDER
from ddpm_utils.batch.notebooks import numbered, write_student_edition
from tests.needed_cells import cells_for, stored

NOTEBOOKS = numbered()
SOLUTION = re.compile(r"### BEGIN SOLUTION\n(.*)\n *### END SOLUTION", re.DOTALL)
of_each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def students(tmp_path_factory) -> Path:
    """The folder of a student edition."""
    folder = tmp_path_factory.mktemp("student")
    write_student_edition(folder)
    return folder


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def solution(answer: NotebookNode) -> list[str]:
    return [line.strip() for line in SOLUTION.search(answer.source)[1].splitlines()]


@of_each_notebook
def test_every_exercise_is_a_task_an_answer_and_a_check(path):
    notebook = read(path)
    MetadataValidator().validate_nb(notebook)  # nbgrader's own: valid, and no grade_id twice
    answers = [i for i, cell in enumerate(notebook.cells) if cell in tagged(notebook, "answer")]
    assert len(answers) == 6
    assert [notebook.cells[i + 1] for i in answers] == tagged(notebook, "check")
    for number, i in enumerate(answers, 1):
        task, answer, check = notebook.cells[i - 1 : i + 2]
        assert task.source.startswith(f"### Exercise {number}: ")
        assert answer.metadata.nbgrader.solution and not answer.metadata.nbgrader.grade  # noqa: PT018
        assert check.metadata.nbgrader.grade and check.metadata.nbgrader.points == 1  # noqa: PT018
        assert check.metadata.nbgrader.grade_id == f"{answer.metadata.nbgrader.grade_id}-check"
        assert "assert " in check.source
        assert answer.metadata.jupyter.source_hidden
        assert solution(answer)


@of_each_notebook
def test_exercises_go_from_moving_a_slider_to_implementing(path):
    tasks = [cell.source.split("\n\n")[1] for cell in read(path).cells if cell.source.startswith("### Exercise")]
    assert tasks[0].startswith("Move the slider")
    assert tasks[-1].startswith("Implement")


@of_each_notebook
def test_student_edition_holds_no_solution(path, students):
    full, student = read(path), read(students / path.name)
    assert [cell.cell_type for cell in student.cells] == [cell.cell_type for cell in full.cells]
    lines = {line.strip() for cell in student.cells for line in cell.source.splitlines()}
    for answer, stub in zip(tagged(full, "answer"), tagged(student, "answer"), strict=True):
        assert lines.isdisjoint(solution(answer))
        assert stub.source.endswith("raise NotImplementedError()")
        assert "jupyter" not in stub.metadata
    for before, after in zip(full.cells, student.cells, strict=True):
        assert after.source == before.source or "answer" in before.metadata.tags
        assert not after.get("outputs")


def needed(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The exercises, from the first task on, and of the cells before them only those whose names they need."""
    first = next(i for i, cell in enumerate(cells) if cell.source.startswith("### Exercise 1"))
    return cells_for(cells, lambda i: i >= first)


def test_only_the_cells_that_are_needed_are_run():
    before = ["import a", "b = a.x", "print(a)", "b = c = 1", "def f(z):\n    return b + z", "draw(c)"]
    cells = [nbformat.v4.new_code_cell(source) for source in before]
    cells.append(nbformat.v4.new_markdown_cell("### Exercise 1"))
    cells += [nbformat.v4.new_code_cell(source) for source in ("d = f(2)", "assert d")]
    assert [cell.source for cell in needed(cells)] == [*before[3:5], "d = f(2)", "assert d"]


def run(cells: list[NotebookNode]) -> list[Exception | None]:
    """Run cells in this process, which has imported all that they need; return what each raised."""
    found: list[Exception | None] = []
    names = {"__name__": "__main__", "In": []}
    for cell in cells:
        try:
            exec(compile(cell.source, "cell", "exec"), names)
            found.append(None)
        except Exception as error:
            found.append(error)
    plt.close("all")
    return found


def test_what_a_cell_raises_stops_no_other():
    cells = [nbformat.v4.new_code_cell(source) for source in ("a = 1", "a / 0", "assert a == 1")]
    assert [type(error).__name__ for error in run(cells)] == ["NoneType", "ZeroDivisionError", "NoneType"]


class Spoil(ast.NodeTransformer):
    """Halves every number, and replaces every text but the keys of a dictionary."""

    def visit_Constant(self, node):
        wrong = {str: lambda value: "something else", int: lambda value: value // 2, float: lambda value: value / 2}
        return ast.Constant(wrong[type(node.value)](node.value))

    def visit_Dict(self, node):
        return ast.Dict(node.keys, [self.visit(value) for value in node.values])


def spoilt(answer: NotebookNode) -> str | None:
    """An answer that is a value, or a few, made wrong; None for one that is a function or a class."""
    tree = ast.parse(answer.source)
    values = all(isinstance(statement, ast.Assign) for statement in tree.body)
    return ast.unparse(ast.fix_missing_locations(Spoil().visit(tree))) if values else None


@of_each_notebook
def test_every_check_refuses_the_stubs(path, students, output, unchecked):
    """Executed: each check fails for want of its answer, and no other cell does; it asserts against a wrong value, too.

    That the full edition passes the same checks is what `test_notebooks` shows, with nbval and with other parameters.
    """
    full, student = read(path), read(students / path.name)
    answers, checks = tagged(student, "answer"), tagged(student, "check")
    spoilt_ones = [(spoilt(a), c) for a, c in zip(tagged(full, "answer"), tagged(full, "check"), strict=True)]
    wrong = [(answer, check) for answer, check in spoilt_ones if answer]
    assert wrong
    again = [nbformat.v4.new_code_cell(source) for answer, check in wrong for source in (answer, check.source)]
    cells = [*needed(student.cells), *again]
    raised = run(cells)
    for answer, check in zip(tagged(full, "answer"), checks, strict=True):
        error = raised[cells.index(check)]
        own = [f"name '{name}' is not defined" for name in stored(compile(answer.source, "answer", "exec"))]
        assert isinstance(error, NotImplementedError) or str(error) in own, (check.source, error)
    for answer, error in zip(again[::2], raised[-len(again) + 1 :: 2], strict=True):
        assert type(error) is AssertionError, answer.source
    expected = [*(cells.index(cell) for cell in answers + checks), *range(len(cells) - len(again) + 1, len(cells), 2)]
    assert [cells[i].source for i, error in enumerate(raised) if error and i not in expected] == []


def test_work_is_not_overwritten(tmp_path):
    paths = write_student_edition(tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [path.name for path in NOTEBOOKS]
    before = [path.read_bytes() for path in paths]
    write_student_edition(paths[0].parent)  # the same again
    assert [path.read_bytes() for path in paths] == before
    paths[1].write_bytes(before[1] + b"\n")
    os.unlink(paths[0])
    with pytest.raises(
        ValueError, match=r"02_training\.ipynb differs from a fresh student edition: move it away first\."
    ):
        write_student_edition(paths[0].parent)
    assert not paths[0].exists()


def test_the_full_edition_is_not_overwritten(tmp_path, monkeypatch):
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr("ddpm_utils.batch.notebooks.NOTEBOOKS", tmp_path)
    before = [path.read_bytes() for path in tmp_path.iterdir()]
    with pytest.raises(ValueError, match="move it away first"):
        write_student_edition(tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == before


def test_without_nbgrader_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbgrader.preprocessors", None)
    with pytest.raises(ValueError, match="the student edition needs nbgrader"):
        write_student_edition(tmp_path)
    assert list(tmp_path.iterdir()) == []
