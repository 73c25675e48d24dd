"""Checks of the exercises: one sentence says whether an answer is right, and if it is not, which way to go."""

import dis
import inspect
import os
import reprlib
from collections.abc import Callable
from types import FunctionType
from typing import Any

EMPTY = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"}
"""The opcodes of a function that does nothing, with a docstring or without: Python 3.11 to 3.13 use no others."""
ENTRIES = 6  # of a list or tuple that a sentence shows


def check(judge: Callable[..., tuple]) -> None:
    """Judge the answers of an exercise, and print one sentence. It is used as a decorator.

    The parameters of `judge` are the answers: variables of the notebook with the same names. `judge` returns whether
    they are right, a sentence that says what was set and what follows from it, and a hint, which is printed if they are
    wrong. It may leave the hint out where they are right.

    What is printed begins with "Not answered yet", if an answer is still `...` (see `is_open`), with "Not yet." or with
    "Right.". An error that `judge` raises is part of the sentence.

    Raises:
        AssertionError: instead of printing, if the answers are missing or wrong and nbgrader executes the notebook
            (NBGRADER_EXECUTION is set): it gives points for cells that raise nothing.
    """
    right, sentence = verdict(judge)
    sentence = " ".join(sentence.split())
    if not right and os.environ.get("NBGRADER_EXECUTION"):
        raise AssertionError(sentence)
    print(sentence)


def verdict(judge: Callable[..., tuple]) -> tuple[bool, str]:
    """Return whether the answers are right, and the sentence about them; see `check`."""
    answers = {name: judge.__globals__.get(name, ...) for name in inspect.signature(judge).parameters}
    if missing := [f"`{name}`" for name, value in answers.items() if is_open(value)]:
        return False, f"Not answered yet: fill in {' and '.join(missing)} in the cell above, and run both cells."
    try:
        right, facts, *hint = judge(**answers)
        return bool(right), f"Right. {facts}" if right else " ".join(["Not yet.", facts, *hint])
    except Exception as error:
        told = " and ".join(f"`{k}`" if callable(v) else f"`{k}` = {short(v)}" for k, v in answers.items())
        return False, f"Not yet. {told} could not be checked: {type(error).__name__}: {error}"


def is_open(value: Any) -> bool:
    """Return whether an answer is still `...`.

    A function is open if it does nothing, and returns None or `...`; a class, if no method of its own does anything; a
    list, tuple, set or dictionary, if one of its values is open.
    """
    if isinstance(value, type):
        return all(is_open(method) for method in vars(value).values() if isinstance(method, FunctionType))
    if isinstance(value, FunctionType):
        steps = list(dis.get_instructions(value))
        constants = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
        return {step.opname for step in steps} <= EMPTY and all(constant in (None, ...) for constant in constants)
    if isinstance(value, dict):
        return any(is_open(entry) for entry in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return any(is_open(entry) for entry in value)
    return value is ...


def short(value: Any) -> str:
    """Return a value as a few words: floats with four digits, six entries of a list, the shape of images."""
    if getattr(value, "ndim", 0) > 1:
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        shown = ", ".join([short(entry) for entry in value[:ENTRIES]] + ["…"] * (len(value) > ENTRIES))
        return f"[{shown}]" if isinstance(value, list) else f"({shown})"
    return reprlib.repr(value)
