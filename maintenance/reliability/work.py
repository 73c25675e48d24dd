"""Real work of the package in processes of its own, to be killed or refused a disk; and what it leaves there."""

import csv
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import accelerate  # noqa: F401  (before the work begins)
import pandas as pd
import torch
from tqdm import auto  # noqa: F401

from ddpm_utils import checkpoints, data
from ddpm_utils.__main__ import main
from ddpm_utils.evaluation.decoder import evaluate
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.files import Ledger
from ddpm_utils.system.locks import LOCK
from ddpm_utils.system.places import PROJECT
from ddpm_utils.training.experiments import Experiment
from maintenance.records.shipping import ledger_for

LOG = "log.txt"  # in the folder of some work: what it prints
NETWORK = {"network": "lean_unet", "learning_rate": 0.002}
TRAINING = {"beta": 0.1, "T": 20, "dataset": "mnist_5k", "batch_size": 64, **NETWORK}
GRID = """
experiments:
  - {beta: 0.1, T: [10, 20], network: lean_unet, batch_size: 1601, learning_rate: 0.002, epochs: 2}
notebooks:
  02_training:
  04_evaluation: {weights: run, calls: 2, samples: 20, images: 2}
"""
SIZES = {"samples": 40, "reconstructions": 40, "calls": 4, "full": 0, "repeats": 1}

_load = data.load


def load_few(name: str) -> data.Dataset:
    """A data set of 128 digits to train on, 64 to validate and 64 to test with."""
    dataset = _load(name)
    return replace(dataset, train=dataset.train[:128], validation=dataset.validation[:64], test=dataset.test[:64])


def train(epochs: str) -> int:
    """`ddpm train`; returns its exit status."""
    return main(["train", *(f"{name}={value}" for name, value in TRAINING.items()), f"epochs={epochs}"])


def sample() -> int:
    """An evaluation of shipped weights whose parts are kept in a ledger, as `records measure` does it."""
    experiment = Experiment(beta=0.001, T=2000, **NETWORK)
    dataset, decoder = experiment.load_data(), experiment.load_decoder("shipped")
    try:
        evaluate(
            experiment,
            dataset,
            decoder,
            **SIZES,
            remember=ledger_for("results", experiment, dataset, decoder, SIZES, print),
        )
    except CheckpointError as error:  # as `main` says it
        print(f"ddpm: {error}", file=sys.stderr)
        return 1
    return 0


def sweep(folder: Path, *options: str) -> list[str]:
    """The command `ddpm sweep` of a small grid, with one thread for each of two workers on two cores."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = folder / "grid.yaml"
    if not grid.exists():
        grid.write_text(GRID, encoding="utf-8")
    return ["ddpm", "sweep", str(grid), "--workers", "2", *options]


class Forked:
    """A process with work of this module, forked from one that has imported the libraries; used as a `Popen` is.

    Args:
        name: "train" (`ddpm train` on few digits) or "sample" (an evaluation that keeps its parts in a ledger).
        arguments: of the function of that name.
        folder: that its files go below.
        log: where its output goes.
    """

    def __init__(self, name: str, arguments: Sequence[str], folder: Path, log: Path):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._process = context.Process(target=_work, args=(name, arguments, folder, log))
        self._process.start()
        self.pid, self.kill = self._process.pid, self._process.kill

    @property
    def returncode(self) -> int | None:
        """Its exit status, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; returns `returncode`.

        Raises:
            subprocess.TimeoutExpired: after so many seconds.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return self.returncode


def _work(name: str, arguments: Sequence[str], folder: Path, log: Path) -> None:
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ["DDPM_OUTPUT"] = str(folder)
    torch.set_num_threads(1)
    data.load = load_few
    sys.exit({"train": train, "sample": sample}[name](*arguments))


def start(command: Sequence[str], folder: Path, log: Path | None = None) -> subprocess.Popen | Forked:
    """Start some work in a session of its own.

    Args:
        command: "ddpm" and its arguments, as users start it; or those of `Forked`.
        folder: that its files go below.
        log: where its output goes; by default into the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = log or folder / LOG
    if command[0] != "ddpm":
        return Forked(command[0], command[1:], folder, log)
    environment = {"DDPM_OUTPUT": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "ddpm_utils", *command[1:]],
            cwd=PROJECT,
            env=os.environ | environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def left(folder: Path) -> dict[str, str]:
    """What work leaves below a folder, by its name: every tensor and number but the seconds that something took.

    Raises:
        CheckpointError: if a file is damaged.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".safetensors" and not path.name.startswith("."):
            tensors, text = checkpoints.load(path)
            found[name] = checkpoints.digest(tensors, json.dumps(without_seconds(text), sort_keys=True))
        elif path.name == "losses.csv":
            found[name] = str([row[:3] for row in csv.reader(path.read_text(encoding="utf-8").splitlines())])
        elif path.name in ("results.csv", "results.md") or path.match("results-*.json"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.match("[0-9][0-9]_*.ipynb"):  # holds dates
            found[name] = "there"
    return found


def without_seconds(description: dict) -> dict:
    """A checkpoint's description without the time that its epochs took."""
    history = [row[:3] for row in description.get("history", [])]
    return {name: value for name, value in description.items() if name != "seconds"} | {"history": history}


def damaged(folder: Path) -> list[Path]:
    """Files below a folder that a reader would take for results and cannot read."""
    found = []
    for path in folder.rglob("*"):
        if path.name.startswith(".") or path.match("*.unfinished.ipynb") or path.match("*.failed.ipynb"):
            continue
        try:
            if path.suffix == ".safetensors":
                checkpoints.load(path)
            elif path.suffix == ".json":
                Ledger(path)
            elif path.suffix == ".ipynb":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".csv":
                pd.read_csv(path)
        except (CheckpointError, ValueError):
            found.append(path)
    return found


def temporary(folder: Path) -> set[Path]:
    """Files and folders that have not become what they were to be."""
    return {path for path in folder.rglob(".*") if not path.name.startswith(LOCK)}
