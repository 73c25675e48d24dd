"""Checks of the exercises: what counts as no answer yet, and what is said of the others."""

import numpy as np
import pytest
import torch

from ddpm_utils.lab import exercises


def only_dots(): ...


def documented(x, y: float = 1.0) -> float:
    """A docstring."""
    ...


def passing():
    pass


def returns_dots():
    return ...


class Open:
    """A class that was not filled in."""

    T = 20

    def __init__(self):
        """A docstring."""

    def __call__(self, x): ...


class Inherits(str):
    """It has no method of its own."""


class Closed(Open):
    def __call__(self, x):
        return x


class Answered:
    """One method that does nothing is allowed."""

    def reset(self): ...

    def __call__(self, x):
        return x


def constant():
    return 0


def refuses():
    """A docstring."""
    raise NotImplementedError


def assigns():
    x = 1  # noqa: F841


def calls(x):
    x()


def generator():
    yield


NOTHING = [..., only_dots, documented, passing, returns_dots, Open, Inherits, {"a": 1, "b": ...}, [1, ...], (...,)]
SOMETHING = [None, 0, "", "...", constant, refuses, assigns, calls, generator, Closed, Answered, len, {"a": 1}, [], {1}]


@pytest.mark.parametrize("value", NOTHING)
def test_an_open_answer_is_recognised(value):
    assert exercises.is_open(value)


@pytest.mark.parametrize("value", [*SOMETHING, np.zeros(3), torch.zeros(2, 2), lambda x: x])
def test_an_answer_is_no_stub(value):
    assert not exercises.is_open(value)


def judged(source: str, **answers) -> None:
    """Run a check in a notebook that has these answers."""
    exec(f"@exercises.check\n{source}", {"exercises": exercises, **answers})


HALF = """def _(half):
    return half == 3, f"You set {half},\\n  which is {half}.", "Choose another."
"""


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({}, "Not answered yet: fill in `half` in the cell above, and run both cells."),
        ({"half": ...}, "Not answered yet: fill in `half` in the cell above, and run both cells."),
        ({"half": 3}, "Right. You set 3, which is 3."),
        ({"half": 2}, "Not yet. You set 2, which is 2. Choose another."),
        (
            {"half": np.ones(2)},
            "Not yet. `half` = [1, 1] could not be checked: ValueError: The truth value of an array ",
        ),
    ],
)
def test_one_sentence(answers, sentence, capsys, monkeypatch):
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    judged(HALF, **answers)
    printed = capsys.readouterr().out
    assert printed.startswith(sentence)
    assert printed.index("\n") == len(printed) - 1
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate")
    if sentence.startswith("Right"):
        judged(HALF, **answers)
        assert capsys.readouterr().out == printed
        return
    with pytest.raises(AssertionError) as found:
        judged(HALF, **answers)
    assert f"{found.value}\n" == printed
    assert capsys.readouterr().out == ""


def test_every_answer_is_named(capsys, monkeypatch):
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    source = "def _(mean, f):\n    return f(mean) > 0, 'Positive.'"
    judged(source, mean=..., f=documented)
    judged(source, mean="abc", f=abs)
    judged(source, mean=1, f=abs)
    judged(source, mean=0, f=abs)  # without a hint
    missing, error, right, wrong = capsys.readouterr().out.splitlines()
    assert missing == "Not answered yet: fill in `mean` and `f` in the cell above, and run both cells."
    assert error.startswith("Not yet. `mean` = 'abc' and `f` could not be checked: TypeError: bad operand type")
    assert (right, wrong) == ("Right. Positive.", "Not yet. Positive.")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (7, "7"),
        ("abc", "'abc'"),
        ((0.5, 1), "(0.5, 1)"),
        (np.float64(2), "2"),
        (torch.tensor(0.25), "0.25"),
        (np.arange(8), "[0, 1, 2, 3, 4, 5, …]"),
        (torch.zeros(6, 1, 28, 28), "Tensor of shape (6, 1, 28, 28)"),
        (np.zeros((2, 3)), "ndarray of shape (2, 3)"),
    ],
)
def test_values_are_short(value, text):
    assert exercises.short(value) == text
    assert len(exercises.short("long" * 100)) < 60
