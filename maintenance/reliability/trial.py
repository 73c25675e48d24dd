"""Tests in a copy of the project, in processes that are forked from one that has imported the libraries.

It must not import `ddpm_utils`: each process imports the copy's, with its fault.
"""

import math
import multiprocessing
import os
import resource
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

LIBRARIES = (
    *("torch", "torchvision", "torchmetrics.image.fid", "torchmetrics.image.kid", "piq", "scipy.stats", "pandas"),
    *("sklearn.decomposition", "sklearn.mixture", "matplotlib.pyplot", "safetensors.torch", "jaxtyping", "beartype"),
    *("diffusers.schedulers.scheduling_ddpm", "diffusers.schedulers.scheduling_ddim", "xdist.plugin", "nbval.plugin"),
    *("diffusers.schedulers.scheduling_dpmsolver_multistep", "diffusers.schedulers.scheduling_heun_discrete"),
)
NOT_COPIED = (".git", ".venv", "runs", "MNIST", "FashionMNIST", "figures", "__pycache__", ".*_cache")
WAIT = 20
PASSED, WRONG_COPY = 10, 99
"""Exit codes: pytest's own, which are 0 … 5, begin at 10, so that no failure to begin looks like a test's."""


def copy(project: Path, folder: Path) -> Path:
    """The project without its environment, downloads and runs, to put faults into; one that was left is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
    return folder.resolve()


def run_tests(tree: Path, tests: Sequence[str], seconds: float, libraries: Sequence[str] = LIBRARIES) -> str:
    """How the tests of a copy end, at the first failure: "passed", "failed" or "timeout".

    Args:
        tests: files, as seen from the copy, in this order.
        seconds: of processor time, so that a busy machine makes no timeouts; or, for tests that wait, `WAIT` times
            as many by the clock.
        libraries: imported once, before any test.

    Raises:
        RuntimeError: if pytest could not be run, or the tests saw another package than the copy's.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *libraries])
    process = context.Process(target=_pytest, args=(tree, tests, math.ceil(seconds)))
    process.start()
    try:
        process.join(WAIT * seconds)
        ended = process.exitcode
    finally:
        if process.is_alive():
            _kill(process.pid)
            process.join()
    if ended == WRONG_COPY:
        raise RuntimeError(f"the tests in {tree} imported another package than that of {tree}.")
    if ended is not None and 0 <= ended < PASSED:
        raise RuntimeError(f"pytest could not be run in {tree}.")
    return "timeout" if ended in (None, -signal.SIGXCPU) else "passed" if ended == PASSED else "failed"


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has not made its group yet
        os.kill(pid, signal.SIGKILL)


def _pytest(tree: Path, files: Sequence[str], seconds: int) -> None:
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    log = os.open(tree / "pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    os.environ.pop("DDPM_DATA", None)  # CI has the embedded digits only
    sys.dont_write_bytecode = True  # a fault is written within the second in which the last one was taken back
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files])
    package = sys.modules.get("ddpm_utils")
    sys.exit(PASSED + code if package is None or Path(package.__file__).is_relative_to(tree) else WRONG_COPY)
