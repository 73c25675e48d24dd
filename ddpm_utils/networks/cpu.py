"""The faster form of the 7×7 convolutions, measured once per machine, and memory that a process keeps."""

import contextlib
import ctypes
import os
import platform
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ddpm_utils.networks.spectral import FORMS, SpectralConv2d
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.files import fingerprint, read_json, write_json

VARIABLE = "DDPM_CONVOLUTION"
"""The environment variable that chooses the form instead of a measurement: "direct" or "spectral"."""
MEASURED = {"channels": 32, "size": 28, "kernel": 7, "batch": 16}  # the widest layer of the report's CNN
STEADY, FEWEST = 2.0, 3  # the slowest round over the fastest, and rounds in time: otherwise the machine is busy
ROUNDS, SECONDS = 5, 0.7  # of the measurement: it ends after so many rounds, or so much time

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
TRIM_THRESHOLD, TOP_PAD = 2**31 - 1, 2**26  # bytes; so many are asked of the system at a time
TUNABLES = f"glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold={TRIM_THRESHOLD}:glibc.malloc.top_pad={TOP_PAD}"
"""What the environment variable GLIBC_TUNABLES must say for a new process to do as `keep_freed_memory`."""


def convolution(threads: int | None = None) -> str:
    """Return the form that 7×7 convolutions take on this machine: "direct", as PyTorch computes them, or "spectral".

    `DDPM_CONVOLUTION` decides, if it is set. Otherwise it is a measurement of less than a second, in training and
    without gradients, which is made once for each processor, number of threads and version of PyTorch, and kept in the
    user's cache folder. "spectral" must be faster in both, so that no choice is slower than PyTorch's own. A
    measurement on a busy machine, whose rounds differ or are few, counts for this process only.

    Args:
        threads: that the networks will use; by default those of this process.

    Raises:
        ValueError: if `DDPM_CONVOLUTION` is neither of the two.
    """
    asked = os.environ.get(VARIABLE)
    if asked and asked not in FORMS:
        raise ValueError(f"{VARIABLE} must be {' or '.join(FORMS)}, not {asked!r}.")
    return asked or _kept_choice(threads or torch.get_num_threads())


@cache
def _kept_choice(threads: int) -> str:
    """Return the form that was measured on such a machine, now or before. Without a usable cache, measure now."""
    import platformdirs  # here, since it is slow to import

    units = torch.backends.cpu.get_cpu_capability()
    key = MEASURED | {"processor": processor(), "units": units, "threads": threads, "torch": torch.__version__}
    folder = Path(platformdirs.user_cache_dir("ddpm-utils", appauthor=False))
    path = folder / f"convolution-{fingerprint(key)[:16]}.json"
    with contextlib.suppress(CheckpointError, OSError):
        found = read_json(path, "delete it")
        if found.get("form") in FORMS:
            return found["form"]
    rounds = measure(threads)
    seconds = {name: min(values) for name, values in rounds.items()}
    faster = all(seconds[f"spectral, {work}"] < seconds[f"direct, {work}"] for work in ("training", "calls"))
    form = "spectral" if faster else "direct"
    if all(len(values) >= FEWEST and max(values) <= STEADY * min(values) for values in rounds.values()):
        with contextlib.suppress(CheckpointError, OSError):
            write_json(path, key | {"seconds": seconds, "form": form})
    return form


def measure(threads: int) -> dict[str, list[float]]:
    """Time the widest 7×7 layer of the report's CNN in both forms, side by side.

    torch's global generator is not touched.

    Args:
        threads: to use; afterwards the process has those that it had.

    Returns:
        the seconds of each round of "direct, training", "spectral, training", "direct, calls", "spectral, calls".
    """
    size, channels = MEASURED["size"], MEASURED["channels"]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            x = torch.randn(MEASURED["batch"], channels, size, size)
            runs = {f"{form}, {work}": _run(form, work, x) for work in ("training", "calls") for form in FORMS}
            for run in runs.values():
                run()
            seconds: dict[str, list[float]] = {name: [] for name in runs}
            started = time.perf_counter()
            for _ in range(ROUNDS):
                for name, run in runs.items():
                    begun = time.perf_counter()
                    run()
                    seconds[name].append(time.perf_counter() - begun)
                if time.perf_counter() - started > SECONDS:
                    break
    finally:
        torch.set_num_threads(before)
    return seconds


def _run(form: str, work: str, x: Tensor) -> Callable[[], object]:
    """One pass through the layer: with the gradients of weights and input, or without any."""
    channels = MEASURED["channels"]
    layer = SpectralConv2d(channels, channels, MEASURED["kernel"]).requires_grad_(work == "training")
    layer.form = form
    if work == "calls":
        return torch.no_grad()(lambda: layer(x))
    learned = [x.clone().requires_grad_(), *layer.parameters()]
    return torch.enable_grad()(lambda: torch.autograd.grad(layer(learned[0]).sum(), learned))


def processor() -> str:
    """The processor's name, as the system knows it."""
    if Path("/proc/cpuinfo").exists():
        named = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        if named:
            return named[1]
    return platform.processor() or platform.machine()


def keep_freed_memory() -> bool:
    """Keep the memory that tensors free, for the rest of the process; glibc otherwise returns buffers above 32 MB.

    A buffer that comes from the system is zeroed page by page when it is first touched, which costs the report's
    training step 4 % of its time, and 10 % with direct convolution (see the benchmarks). The process's memory then
    stays at its peak. `TrainingSetup.train` calls this; the kernels of `ddpm run` and `ddpm sweep` start this way.

    Returns:
        whether it was done: False where the C library is not glibc (macOS, Windows).
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: TRIM_THRESHOLD, M_TOP_PAD: TOP_PAD}
    return all(mallopt(name, value) == 1 for name, value in settings.items())
