"""Peak memory of training and sampling, and how long a notebook takes to its first figure."""

import itertools
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pandas as pd
from nbclient import NotebookClient

from ddpm_utils.batch.notebooks import numbered
from ddpm_utils.diffusion.samplers import sample
from ddpm_utils.diffusion.solvers import METHODS
from ddpm_utils.networks.cpu import keep_freed_memory
from ddpm_utils.system.places import PROJECT
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.loop import train
from ddpm_utils.training.objectives import NoisePrediction
from ddpm_utils.training.run import Run
from maintenance.benchmarks.networks import BATCH
from maintenance.report import Section, Verdict


def use_memory(task: str, network: str, amount: int) -> float:
    """Do a task in this process and return its peak resident memory so far, in GB.

    Args:
        task: "train" (amount: steps, with a validation after every 60), "images" (amount: to sample, 5 calls each) or
            "calls" (amount: network calls for one batch).
    """
    keep_freed_memory()
    experiment = Experiment(network=network, dataset="mnist")
    model, schedule, digits = experiment.make_network(), experiment.noise_schedule, experiment.load_data()
    if task == "train":
        images, validation = digits.train.images, digits.validation.images[:1024]
        steps = train(Run(model), NoisePrediction(schedule), images[: 60 * BATCH], validation, epochs=1000)
        list(itertools.islice(steps, amount))
    elif task == "images":
        method = METHODS["DPM-Solver++(2M)"]
        sample(method.sampler, model, method.subset(schedule, 5), count=amount)
    else:
        method = METHODS["ancestral, σ² = β"]
        sample(method.sampler, model, method.subset(schedule, amount), count=BATCH)
    return peak()


def peak() -> float:
    """This process's peak resident memory so far, in GB.

    Linux hands `ru_maxrss` on from the process that started this one; its own file tells the truth.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def peak_memory() -> Section:
    """Peak memory against the number of steps, images and calls; each in a fresh process."""
    tasks = {
        "training": ("train", 20, 130),
        "sampling, 5 calls": ("images", 1000, 10_000),
        f"sampling {BATCH} images": ("calls", 10, 200),
    }
    units = {"train": "steps", "images": "images", "calls": "calls"}
    rows, peaks = [], []
    for (title, (task, few, many)), network in itertools.product(tasks.items(), ("cnn", "lean_unet")):
        row = {"task": title, "network": network}
        for label, amount in {"fewer": few, "more": many}.items():
            call = f"use_memory({task!r}, {network!r}, {amount})"
            code = f"from maintenance.benchmarks.resources import use_memory; print({call})"
            command = [sys.executable, "-c", code]
            printed = subprocess.run(command, cwd=PROJECT, capture_output=True, encoding="utf-8", check=True).stdout
            peaks.append(float(printed.split()[-1]))
            row[label] = f"{amount:,} {units[task]}: {peaks[-1]:.2f} GB"
        rows.append(row)
    note = "Resident memory of the whole process: Python, PyTorch and the data set are in it."
    verdict = Verdict(
        "peak memory of training, and of sampling 10,000 images", "≤ 1.5 GB", f"at most {max(peaks):.2f} GB"
    )
    return Section("Peak memory", pd.DataFrame(rows), note, (verdict,))


def first_figures(repeats: int = 3) -> Section:
    """Seconds from starting a notebook's kernel to the end of the cell that shows its first figure."""
    rows = []
    for path in numbered():
        seconds = [time_to_first_figure(path) for _ in range(repeats)]
        rows.append({"notebook": path.stem, "seconds": statistics.median(seconds), "highest": max(seconds)})
    table = pd.DataFrame(rows)
    verdict = Verdict(
        "a notebook from kernel start to its first figure", "≤ 8 s", f"at most {table.highest.max():.1f} s"
    )
    note = f"Median and highest of {repeats}, each in a fresh kernel, nothing kept from runs before."
    return Section("First figures", table.round(1), note, (verdict,))


def time_to_first_figure(path: Path) -> float:
    """Execute a notebook up to its first figure, without touching the project's figures and runs."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}})
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"DDPM_OUTPUT": folder}
        started = time.perf_counter()
        with client.setup_kernel(env=environment):
            for index, cell in enumerate(notebook.cells):
                cell = client.execute_cell(cell, index)
                if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
                    return time.perf_counter() - started
    raise RuntimeError(f"{path.stem} shows no figure.")
