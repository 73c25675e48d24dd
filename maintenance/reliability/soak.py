"""A long run: one process trains, samples, measures and draws for half an hour; its memory and files are plotted."""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import psutil
import torch
from matplotlib.figure import Figure

from ddpm_utils import data
from ddpm_utils.diffusion.samplers import sample
from ddpm_utils.diffusion.solvers import METHODS
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.classifier import load_classifier
from ddpm_utils.lab.canvas import Blit
from ddpm_utils.lab.images import NoisyDigits
from ddpm_utils.plots.images import BLUE, mosaics, styled, to_png
from ddpm_utils.system.files import Ledger, write_bytes
from ddpm_utils.system.places import PROJECT
from ddpm_utils.training.experiments import Experiment
from maintenance.report import Section, Verdict

MINUTES = 30
EVERY = 2  # seconds between two readings
MOST_GROWTH = 20  # MB from the second quarter to the last
PICTURE = PROJECT / "maintenance" / "reliability" / "soak.png"


def work(seconds: float, folder: Path) -> None:
    """Train, save, sample, measure and move a slider, again and again; prints a line for each round."""
    experiment = Experiment(network="lean_unet", batch_size=64, T=200, beta=0.1)
    digits = data.load("mnist_5k")
    few = data.Dataset("few digits", "", digits.train[:640], digits.validation[:256], digits.test)
    classifier, _ = load_classifier()
    real = metrics.features(classifier.embed, few.test.images[:64])
    ledger, draw = Ledger(folder / "fids.json"), Blit()
    picture = NoisyDigits(few.test.images[:8], torch.zeros(8, 1, 28, 28))
    until = time.monotonic() + seconds
    for number in itertools.count(1):
        run = experiment.open_run(few)  # from its folder, as after a stop
        made = sum(1 for _ in experiment.with_values(epochs=number).train(run, few))
        method = METHODS["ancestral, posterior σ²"]
        images = sample(method.sampler, run.network.eval(), method.subset(experiment.noise_schedule, 20), count=64)
        drawn = metrics.features(classifier.embed, images)
        fid = ledger(f"round {number}", partial(metrics.fid, drawn, real))
        for t in range(0, 200, 10):
            draw(picture(0.1, 200, t))
        to_png(mosaics({("drawn", "8 × 8"): images}))
        print(f"round {number}: {made} steps, FID {fid:.1f}", flush=True)
        if time.monotonic() > until:
            return


def watch(process: subprocess.Popen) -> pd.DataFrame:
    """What a process holds, read until it ends: minutes, memory in MB, open files, threads."""
    rows, started = [], time.monotonic()
    found = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            own = found.memory_full_info().uss / 1e6  # what it holds by itself: shared libraries come and go
            row = {"MB": own, "files": found.num_fds(), "threads": found.num_threads()}
        except psutil.Error:  # it has just ended
            break
        rows.append({"minutes": (time.monotonic() - started) / 60} | row)
        time.sleep(EVERY)
    return pd.DataFrame(rows)


def growth(readings: pd.DataFrame) -> dict[str, float]:
    """The median of the last quarter of the time less that of the second: the first one warms up."""
    quarter = readings["minutes"].iloc[-1] / 4
    second = readings[readings["minutes"].between(quarter, 2 * quarter)]
    last = readings[readings["minutes"] >= 3 * quarter]
    return {name: float(last[name].median() - second[name].median()) for name in ("MB", "files", "threads")}


@styled()
def plot(readings: pd.DataFrame) -> Figure:
    """Memory, open files and threads over time."""
    figure, axes = plt.subplots(3, 1, figsize=(7, 4.6), sharex=True, height_ratios=[2, 1, 1])
    for ax, (name, label) in zip(
        axes, {"MB": "memory, MB", "files": "open files", "threads": "threads"}.items(), strict=True
    ):
        ax.plot(readings["minutes"], readings[name], color=BLUE, linewidth=1)
        ax.set(ylabel=label, ylim=(0, 1.15 * readings[name].max()))
    axes[-1].set_xlabel("minutes")
    return figure


def report() -> Section:
    """See the module."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "maintenance.reliability.soak", str(60 * MINUTES), folder]
        environment = os.environ | {"DDPM_OUTPUT": folder}
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, encoding="utf-8")
        readings = watch(process)
        said = process.communicate()[0].splitlines()
    if process.returncode:
        raise RuntimeError(f"it stopped with exit status {process.returncode}.")
    write_bytes(PICTURE, to_png(plot(readings)))
    grown = growth(readings)
    rounds = len(said)
    span = (readings["minutes"] // (MINUTES / 6)).astype(int).clip(upper=5)
    shown = readings.groupby(span)[["MB", "files", "threads"]].median()
    shown.insert(0, "minutes", [f"{int(i * MINUTES / 6)} to {int((i + 1) * MINUTES / 6)}" for i in shown.index])
    note = (
        f"{rounds} rounds in one process. Each opens its run again, trains an epoch of 640 digits, draws 64 "
        "digits in 20 calls, measures their FID, notes it in a ledger, moves a slider 20 times and saves a figure. The "
        "table has the median of each span (a file being written is open for a moment); growth is the median of the "
        "last quarter less that of the second."
        "\n\n![memory, open files and threads](soak.png)"
    )
    verdicts = (
        Verdict("growth of memory in half an hour", f"≤ {MOST_GROWTH} MB", f"{grown['MB']:.1f} MB"),
        Verdict("growth of open files, threads", "0, 0", f"{grown['files']:.0f}, {grown['threads']:.0f}"),
    )
    return Section("A long run", shown.round(0).astype({"files": int, "threads": int}), note, verdicts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m maintenance reliability.soak")
    parser.add_argument("seconds", type=float)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    work(chosen.seconds, chosen.folder)
