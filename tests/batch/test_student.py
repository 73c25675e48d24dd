"""The exercises, and the student edition: complete, unanswered, and judged by their checks in one sentence."""

import ast
import contextlib
import inspect
import io
import json
import os
import re
import shutil
from pathlib import Path
from types import FunctionType
from typing import NamedTuple

import jaxtyping
import matplotlib.pyplot as plt
import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.nbgraderformat import MetadataValidator

from ddpm_utils.batch.notebooks import NOTEBOOKS as FOLDER
from ddpm_utils.batch.notebooks import numbered, write_student_edition
from ddpm_utils.lab.exercises import is_open
from tests.needed_cells import cells_for

NOTEBOOKS = numbered()
SOLUTION = re.compile(
    r"<details><summary>Solution</summary>\n\n```python\n(?P<code>.+?)\n```\n\n(?P<prose>.+)\n\n</details>", re.DOTALL
)
of_each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


class Exercise(NamedTuple):
    """The cells of one exercise."""

    task: NotebookNode
    answer: NotebookNode
    check: NotebookNode
    solution: NotebookNode

    @property
    def solved(self) -> str:
        """The code of the solution."""
        return SOLUTION.fullmatch(self.solution.source)["code"]

    @property
    def names(self) -> list[str]:
        """The names that the answer defines, in order."""
        nodes = ast.parse(self.answer.source).body
        return [node.targets[0].id if isinstance(node, ast.Assign) else node.name for node in nodes]


class Notebook(NamedTuple):
    """The exercises of a notebook, and what the cells before them define."""

    names: dict
    exercises: list[Exercise]


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def exercises_of(notebook: NotebookNode) -> list[Exercise]:
    starts = [i for i, cell in enumerate(notebook.cells) if cell.source.startswith("### Exercise")]
    return [Exercise(*notebook.cells[i : i + 4]) for i in starts]


def executed(*sources: str, names: dict) -> dict:
    """All names after sources have run, with the names of the cells before them."""
    found = {**names, "__name__": "__main__", "In": []}
    for source in sources:
        exec(compile(source, "cell", "exec"), found)
    return found


def needed(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Of the cells before the first task, only those whose names the exercises and their solutions need."""
    exercises = exercises_of(NotebookNode(cells=cells))
    first = cells.index(exercises[0].task)
    solved = [nbformat.v4.new_code_cell(exercise.solved) for exercise in exercises]
    after = [*(exercise.check for exercise in exercises), *solved]
    return cells_for([*cells[:first], *after], lambda i: i >= first)[: -len(after)]


def test_only_the_cells_that_are_needed_are_run():
    before = ["import a", "b = a.x", "print(a)", "b = c = 1", "def f(z):\n    return b + z", "draw(c)"]
    cells = [nbformat.v4.new_code_cell(source) for source in before]
    solution = "<details><summary>Solution</summary>\n\n```python\nd = f(2)\n```\n\nWhy.\n\n</details>"
    cells += [nbformat.v4.new_markdown_cell("### Exercise 1"), nbformat.v4.new_code_cell("d = ...")]
    cells += [nbformat.v4.new_code_cell("c"), nbformat.v4.new_markdown_cell(solution)]
    assert [cell.source for cell in needed(cells)] == before[3:5]


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request, tmp_path_factory) -> Notebook:
    """One notebook: what the exercises need of it has run in this process."""
    found = read(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # annotations are not checked, as for students
        patch.setenv("DDPM_OUTPUT", str(tmp_path_factory.mktemp("output")))
        patch.delenv("NBGRADER_EXECUTION", raising=False)
        with contextlib.redirect_stdout(io.StringIO()):
            names = executed(*(cell.source for cell in needed(found.cells)), names={})
        plt.close("all")
        yield Notebook(names, exercises_of(found))


def said(notebook: Notebook, exercise: Exercise, answer: str) -> str:
    """What the check prints after an answer: one line."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        executed(answer, exercise.check.source, names=notebook.names)
    (line,) = printed.getvalue().splitlines()
    return line


def assert_no_points(notebook: Notebook, exercise: Exercise, answer: str, line: str) -> None:
    """While nbgrader grades, the check raises its sentence."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBGRADER_EXECUTION", "autograde")
        with pytest.raises(AssertionError, match=f"^{re.escape(line)}$"):
            said(notebook, exercise, answer)


class Spoil(ast.NodeTransformer):
    """Halves every number, and replaces every text but the keys of a dictionary."""

    def visit_Constant(self, node):
        wrong = {str: lambda value: "something else", int: lambda value: value // 2, float: lambda value: value / 2}
        return ast.Constant(wrong[type(node.value)](node.value))

    def visit_Dict(self, node):
        return ast.Dict(node.keys, [self.visit(value) for value in node.values])


def spoilt(code: str) -> str:
    """The code of a solution that consists of values, with wrong ones."""
    return ast.unparse(ast.fix_missing_locations(Spoil().visit(ast.parse(code))))


def is_value(exercise: Exercise) -> bool:
    """Whether the answer is a value, or a few, and not a function or a class."""
    return all(isinstance(statement, ast.Assign) for statement in ast.parse(exercise.answer.source).body)


def returning(exercise: Exercise, body: str) -> str:
    """The answer of a function or class, with a wrong body: it may use the first argument, `first`."""
    head, dots, end = exercise.answer.source.rpartition("...")
    assert (dots, end) == ("...", "")
    (function,) = [node for node in ast.walk(ast.parse(exercise.answer.source)) if isinstance(node, ast.FunctionDef)]
    first = next(argument.arg for argument in function.args.args if argument.arg != "self")
    return head + body.format(first=first)


def constants(code: str) -> list[str]:
    """Every number and text of an answer, as a sentence shows them."""
    return [str(node.value) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]


@of_each_notebook
def test_every_exercise_is_a_task_an_answer_a_check_and_a_solution(path):
    notebook = read(path)
    MetadataValidator().validate_nb(notebook)  # nbgrader's own: valid, and no grade_id twice
    exercises = exercises_of(notebook)
    assert len(exercises) == 6
    for tag in ("answer", "check", "solution"):
        assert [getattr(exercise, tag) for exercise in exercises] == tagged(notebook, tag)
    for number, (task, answer, check, solution) in enumerate(exercises, 1):
        assert task.source.startswith(f"### Exercise {number}: ")
        assert answer.metadata.nbgrader.solution and not answer.metadata.nbgrader.grade  # noqa: PT018
        assert check.metadata.nbgrader.grade and check.metadata.nbgrader.points == 1  # noqa: PT018
        assert check.metadata.nbgrader.locked
        assert check.metadata.nbgrader.grade_id == f"{answer.metadata.nbgrader.grade_id}-check"
        assert max(len(cell.source.splitlines()) for cell in (answer, check)) <= 15
        assert [cell.cell_type for cell in (task, answer, check, solution)] == ["markdown", "code", "code", "markdown"]
        assert SOLUTION.fullmatch(solution.source)
        assert "#" not in SOLUTION.fullmatch(solution.source)["code"]  # it is explained in prose


@of_each_notebook
def test_exercises_go_from_moving_a_slider_to_implementing(path):
    tasks = [exercise.task.source.split("\n\n")[1] for exercise in exercises_of(read(path))]
    assert tasks[0].startswith(("Move the slider", "Read the"))  # of a panel, or off a figure
    assert tasks[-1].startswith("Implement")


def test_answers_are_empty_and_solutions_complete(notebook):
    for exercise in notebook.exercises:
        assert "jupyter" not in exercise.answer.metadata
        sources = (exercise.answer.source, exercise.solved)
        answers, solved = (executed(source, names=notebook.names) for source in sources)
        for name in exercise.names:
            assert is_open(answers[name])
            assert not is_open(solved[name])
            if isinstance(answers[name], FunctionType):
                assert inspect.signature(answers[name]) == inspect.signature(solved[name])
                assert answers[name].__doc__ == solved[name].__doc__


def test_an_empty_answer_is_not_answered_yet(notebook):
    for exercise in notebook.exercises:
        line = said(notebook, exercise, exercise.answer.source)
        assert line.startswith("Not answered yet: ")
        assert all(f"`{name}`" in line for name in exercise.names)
        assert said(notebook, exercise, "").startswith("Not answered yet: ")  # its cell has not run
        assert_no_points(notebook, exercise, exercise.answer.source, line)


def test_every_solution_is_right(notebook, monkeypatch):
    for exercise in notebook.exercises:
        line = said(notebook, exercise, exercise.solved)
        assert re.match(r"Right\. .*\d.*\.$", line), line
        if exercise is notebook.exercises[0]:
            with monkeypatch.context() as patch:
                patch.setenv("NBGRADER_EXECUTION", "autograde")
                assert said(notebook, exercise, exercise.solved) == line


def test_a_wrong_value_is_named(notebook):
    found = [exercise for exercise in notebook.exercises if is_value(exercise)]
    assert found
    for exercise in found:
        wrong = spoilt(exercise.solved)
        line = said(notebook, exercise, wrong)
        assert line.startswith("Not yet. ")
        assert line.endswith((".", "?"))
        assert "could not be checked" not in line
        assert all(value in line for value in constants(wrong))
        assert_no_points(notebook, exercise, wrong, line)


def test_a_wrong_function_is_not_right(notebook):
    found = [exercise for exercise in notebook.exercises if not is_value(exercise)]
    assert found
    for exercise in found:
        for body in ("return {first}", "return {first}, {first}", "return 0 * {first}", "return [None]"):
            assert said(notebook, exercise, returning(exercise, body)).startswith("Not yet. ")


def test_an_error_is_told_in_one_line(notebook):
    """What a student may set, and what their function may raise."""
    for exercise in notebook.exercises:
        if is_value(exercise):
            for value in ("'abc'", "None"):
                answers = "\n".join(f"{name} = {value}" for name in exercise.names)
                assert said(notebook, exercise, answers).startswith("Not yet. ")
        else:
            line = said(notebook, exercise, returning(exercise, "raise ValueError('one\\ntwo')"))
            assert line == f"Not yet. `{exercise.names[0]}` could not be checked: ValueError: one two"


@pytest.mark.parametrize("notebook", [NOTEBOOKS[2]], indirect=True, ids=["03_sampling"])
def test_other_samplers_are_not_the_midpoint_method(notebook):
    """Among them Euler's method with half of the steps."""
    exercise = notebook.exercises[-1]
    assert exercise.names == ["midpoint"]
    changes = {"slope(middle, t - 1)": "slope(z_bar, t)", "* (s[t - 1] - s[t])": "* 0", "s = (": "s = 2 * ("}
    for right, wrong in changes.items():
        assert right in exercise.solved
        line = said(notebook, exercise, exercise.solved.replace(right, wrong))
        assert line.startswith("Not yet. T = 20, 40: your error is")


@pytest.fixture(scope="module")
def students(tmp_path_factory) -> Path:
    """The folder of a student edition."""
    folder = tmp_path_factory.mktemp("student")
    write_student_edition(folder)
    return folder


@of_each_notebook
def test_student_edition_holds_no_solution(path, students):
    full, student = read(path), read(students / path.name)
    MetadataValidator().validate_nb(student)
    text = json.dumps([cell.source for cell in student.cells], ensure_ascii=False)
    for solution in tagged(full, "solution"):
        assert json.dumps(SOLUTION.fullmatch(solution.source)["prose"], ensure_ascii=False)[1:-1] not in text
    assert "<details>" not in text
    kept = [cell for cell in full.cells if "solution" not in cell.metadata.get("tags", [])]
    assert [cell.source for cell in student.cells] == [cell.source for cell in kept]
    for cell in student.cells:
        assert not cell.get("outputs")
        assert not cell.get("execution_count")
    for check in tagged(student, "check"):
        assert check.metadata.nbgrader.locked
        assert check.metadata.editable is check.metadata.deletable is False


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
