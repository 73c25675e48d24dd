"""How the tests wait: for conditions, never for times, so that a busy machine makes them slower but not wrong."""

import random
import socket
import time
from collections.abc import Callable, Iterable

import psutil

PATIENCE = 1800
"""Seconds after which what has not happened is taken to hang. It is no measure of speed: the longest wait, for all
cells of a notebook in the browser, takes a minute or two on a quiet machine."""
A_MOMENT = 0.2
"""Seconds in which something is watched not to happen. Too short a moment on a busy machine hides a fault, once; it
cannot make a test fail."""
PATIENTLY = {"timeout": PATIENCE, "startup_timeout": PATIENCE, "iopub_timeout": PATIENCE}
"""Of nbclient, which by default drops outputs that come more than four seconds after a cell's end."""
PORTS = range(10_000, 30_000)
"""Below those that systems give to whoever asks for any: nobody gets one of these between its choice and its use."""


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return once it is true.

    Args:
        condition: asked again and again; what it raises is raised, so that a wait can end early.
        what: is waited for, as the failure names it.
    """
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {PATIENCE} s"
        time.sleep(0.02)


def outliving(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that do not end."""
    return psutil.wait_procs(list(processes), timeout=PATIENCE)[1]


def pytest_collection_modifyitems(items) -> None:
    """As a plugin of nbval, which waits five seconds for a cell's output: wait longer."""
    for item in items:
        item.output_timeout = PATIENCE


def listens(port: int) -> bool:
    """Whether a server answers at a port of this machine. It tells its port before it does."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    while listens(port := random.SystemRandom().choice(PORTS)):
        pass
    return port
