"""A sweep on one core and on all: its time, its memory, and how much of the cores' real capacity it uses."""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil

from ddpm_utils import data
from ddpm_utils.networks.cpu import keep_freed_memory
from ddpm_utils.system.places import PROJECT
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.loop import train
from ddpm_utils.training.run import Run
from maintenance.report import Section, Verdict

EXPERIMENTS = 4
GRID = """
experiments:
  - {beta: [0.01, 0.03, 0.1, 0.2], T: 100, network: lean_unet, batch_size: 64, learning_rate: 0.002, epochs: 4}
notebooks:
  02_training:
"""
SECONDS = 20  # that a rate is measured for
WARM_UP = 25  # seconds to start a process in


def count_steps(begin: float) -> int:
    """Training steps of the lean U-Net in so many seconds from a time on, which several processes may share."""
    experiment = Experiment(network="lean_unet", batch_size=64)
    images = data.load("mnist_5k").train.images
    keep_freed_memory()
    run = Run(experiment.make_network())
    steps = train(run, experiment.objective, images, images[:64], epochs=1000, batch_size=64)
    if time.time() > begin:
        raise RuntimeError(f"a process needs more than {WARM_UP} s to start.")
    while time.time() < begin:
        next(steps)
    return sum(1 for _ in itertools.takewhile(lambda _: time.time() < begin + SECONDS, steps))


def steps_of(cores: list[int]) -> int:
    """Steps that as many processes make in all, each with a core of its own, at the same time."""
    code = f"from maintenance.benchmarks.batch import count_steps; print(count_steps({time.time() + WARM_UP}))"
    processes = [start([sys.executable, "-c", code], [core], OMP_NUM_THREADS="1") for core in cores]
    return sum(int(process.communicate()[0].split()[-1]) for process in processes)


def start(command: list[str], cores: list[int], **environment: str) -> subprocess.Popen:
    """Start a process that may use these cores only."""
    return subprocess.Popen(
        command,
        cwd=PROJECT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )


def sweep(cores: list[int]) -> dict[str, float]:
    """Wall-clock seconds and peak memory in GB of a sweep on these cores."""
    with tempfile.TemporaryDirectory() as folder:
        grid = Path(folder) / "grid.yaml"
        grid.write_text(GRID, encoding="utf-8")
        started = time.perf_counter()
        process = start([sys.executable, "-m", "ddpm_utils", "sweep", str(grid)], cores, DDPM_OUTPUT=folder)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.5)
        seconds = time.perf_counter() - started
        if process.returncode:
            raise RuntimeError(f"the sweep failed: {process.stdout.read()}")
        if len(list(Path(folder).rglob("02_training.ipynb"))) != EXPERIMENTS:
            raise RuntimeError("the sweep is not complete.")
    return {"seconds": seconds, "GB": peak}


def memory(pid: int) -> float:
    """What a process and all below it hold in memory that they do not share, in GB."""
    total = 0
    try:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            total += process.memory_full_info().uss
    except psutil.NoSuchProcess:  # one ended meanwhile
        pass
    return total / 1e9


def efficiency() -> Section:
    """The speed-up of a sweep by more processes, against that of processes that do nothing but train."""
    cores = sorted(os.sched_getaffinity(0))[:EXPERIMENTS]
    alone, together = steps_of(cores[:1]), steps_of(cores)
    capacity = together / alone
    rows = []
    for used in (cores[:1], cores):
        found = sweep(used)
        rows.append({"processes": len(used), **found, "seconds per experiment": found["seconds"] / EXPERIMENTS})
    speedup = rows[0]["seconds"] / rows[1]["seconds"]
    note = (
        f"{EXPERIMENTS} experiments, notebook 02 (lean U-Net, 4 epochs of 3,200 digits), with one process and with "
        f"{len(cores)}. Memory is what all processes hold by themselves. The cores' capacity: "
        f"{len(cores)} processes that only train, at the same time, make {together} steps in {SECONDS} s where one "
        f"makes {alone}, {capacity:.2f}×. The sweep became {speedup:.2f}× faster."
    )
    verdict = Verdict(
        f"a sweep in {len(cores)} processes, share of the cores' capacity", "≥ 0.9", f"{speedup / capacity:.2f}"
    )
    return Section("A sweep in one process and in several", pd.DataFrame(rows).round(1), note, (verdict,))
