"""No test sleeps, measures time or has a time limit of its own: a busy machine would break it. See `patience`."""

import ast
import re
import socket
from pathlib import Path

import pytest

from tests import patience

TESTS = Path(__file__).parent
SOURCES = sorted(TESTS.rglob("*.py"))
PATIENT = ("PATIENCE", "A_MOMENT", "None")
SLEEPS = ("sleep", "wait_for_timeout")
MEASURES = ("monotonic", "perf_counter", "process_time", "monotonic_ns", "perf_counter_ns")
WAITS = ("wait", "join", "settimeout", "set_default_timeout", "communicate", "result", "create_connection")
ALLOWED = {
    "patience.py": {"sleep(0.02)", "monotonic()"},
    "maintenance/test_mutants.py": {"sleep(1)"},  # a fault that never ends
    "maintenance/contenders.py": {"sleep(seconds)"},  # what is measured takes at least so long
}
"""What stands in a file all the same."""


def impatient(source: str) -> set[str]:
    """The calls in a source, and in the programs in its strings, that a busy machine can break."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"sleep|timeout", node.value):
            try:
                found |= impatient(node.value)
            except SyntaxError:  # no program
                continue
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        call = f"{name}({', '.join(map(ast.unparse, node.args))})"
        if name in SLEEPS + MEASURES:
            found.add(call)
        if name in WAITS and any(isinstance(a, ast.Constant) and isinstance(a.value, int | float) for a in node.args):
            found |= set() if ast.unparse(node.args[-1]) == "0" else {call}
        for keyword in node.keywords:
            value = ast.unparse(keyword.value)
            if re.search("timeout|deadline", keyword.arg or "") and not any(word in value for word in PATIENT):
                found.add(f"{keyword.arg}={value}")
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("time.sleep(0.3)", {"sleep(0.3)"}),
        ("page.wait_for_timeout(500)", {"wait_for_timeout(500)"}),
        ("page.locator('img').first.wait_for(timeout=120_000)", {"timeout=120000"}),
        ("psutil.wait_procs(others, timeout=10)", {"timeout=10"}),
        ("AT_MOST = 300\nprocess.communicate(timeout=AT_MOST)", {"timeout=AT_MOST"}),
        ("end = time.monotonic() + 20", {"monotonic()"}),
        ("assert perf_counter() - started < 5", {"perf_counter()"}),
        ("process.wait(10)", {"wait(10)"}),
        ("probe.settimeout(5)", {"settimeout(5)"}),
        ("socket.create_connection((address, port), 2)", {"create_connection((address, port), 2)"}),
        ("NotebookClient(page, startup_timeout=60)", {"startup_timeout=60"}),
        ("CODE = 'import time\\ntime.sleep(1)'", {"sleep(1)"}),
        ("settings(deadline=200)", {"deadline=200"}),
        ("event.wait(PATIENCE)\nprocess.wait(0)\nsettings(deadline=None)\n' '.join(words)", set()),
        ("page.set_default_timeout(PATIENCE * 1000)\nwait_until(lambda: ready, 'a start')", set()),
    ],
)
def test_time_limits_are_found(source, expected):
    assert impatient(source) == expected


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_waits_for_conditions(path):
    name = path.relative_to(TESTS).as_posix()
    expected = ALLOWED.get(name, set())
    if path != Path(__file__):
        assert impatient(path.read_text(encoding="utf-8")) == expected


def test_a_wait_ends_with_its_condition_and_names_what_did_not_come(monkeypatch):
    asked = iter([False, None, "yes"])
    patience.wait_until(lambda: next(asked), "three questions")
    assert list(asked) == []
    monkeypatch.setattr(patience, "PATIENCE", 0)
    with pytest.raises(AssertionError, match="a miracle: not within 0 s"):
        patience.wait_until(lambda: False, "a miracle")


def test_an_error_ends_a_wait():
    with pytest.raises(ZeroDivisionError):
        patience.wait_until(lambda: 1 / 0, "a number")


def test_ports_are_free_and_not_those_that_the_system_gives_to_anybody():
    ports = {patience.free_port() for _ in range(5)}
    assert len(ports) > 1
    assert ports <= set(range(10_000, 30_000))
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert patience.listens(server.getsockname()[1])
