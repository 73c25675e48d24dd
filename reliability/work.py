"""Real work of the package in processes of its own, to be killed or refused a disk; and what it leaves there.

python -m reliability.work train 12 READY     # `ddpm train` on few digits; the file READY is made when it begins
python -m reliability.work sample READY       # an evaluation that keeps its parts in a ledger
"""

import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import accelerate  # noqa: F401  (before the work begins)
import pandas as pd
from tqdm import auto  # noqa: F401

from ddpm_utils import checkpoints, data
from ddpm_utils.__main__ import main
from ddpm_utils.data import PROJECT
from ddpm_utils.evaluation import evaluate
from ddpm_utils.experiment import Experiment
from ddpm_utils.ledger import Ledger
from ddpm_utils.shipping import ledger_for

LOG, READY = "log.txt", "ready"  # in the folder of some work: what it prints; there when it has been started up
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
    """An evaluation of shipped weights whose parts are kept in a ledger, as `ddpm record` does it."""
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
    except checkpoints.CheckpointError as error:  # as `main` says it
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


def start(command: Sequence[str], folder: Path, log: Path | None = None) -> subprocess.Popen:
    """Start some work in a process group of its own, and wait until it has imported what it needs.

    Args:
        command: "ddpm" and its arguments, as users start it; or those of this module.
        folder: that its files go below.
        log: where its output goes; by default into the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = log or folder / LOG
    ready = log.with_name(READY)
    ready.unlink(missing_ok=True)
    module = ["ddpm_utils", *command[1:]] if command[0] == "ddpm" else ["reliability.work", *command, str(ready)]
    environment = {"DDPM_OUTPUT": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=PROJECT,
            env=os.environ | environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    while command[0] != "ddpm" and not ready.exists() and process.poll() is None:
        time.sleep(0.01)
    return process


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
        except (checkpoints.CheckpointError, ValueError):
            found.append(path)
    return found


def temporary(folder: Path) -> set[Path]:
    """Files and folders that have not become what they were to be."""
    return {path for path in folder.rglob(".*") if path.name != ".lock"}


if __name__ == "__main__":
    name, *arguments, ready = sys.argv[1:]
    data.load = load_few
    Path(ready).touch()
    sys.exit({"train": train, "sample": sample}[name](*arguments))
