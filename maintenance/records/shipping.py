"""What every recording shares: the data it names, a ledger to go on from, and small weights to ship."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ddpm_utils import checkpoints
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.evaluation.classifier import (
    EPOCHS,
    SHIPPED,
    DigitClassifier,
    accuracy,
    load_classifier,
    train_classifier,
)
from ddpm_utils.system import files
from ddpm_utils.system.errors import CheckpointError, DataError
from ddpm_utils.system.files import Ledger, to_csv
from ddpm_utils.training.base import Decoder, TrainingSetup
from ddpm_utils.training.run import EpochRecord, read_history


def named_data(experiment: TrainingSetup) -> Dataset:
    """The data set that the experiment names, and no other in its place.

    Raises:
        DataError: if there is only a replacement: what is shipped must be measured on what it says.
    """
    dataset = experiment.load_data()
    if dataset.name != experiment.dataset:
        raise DataError(f"{experiment.dataset} is needed, not {dataset.name} ({dataset.source})")
    return dataset


def rounded(values: Any) -> Any:
    """Return what JSON can hold with numbers of five significant digits, which take less room in a repository."""
    if isinstance(values, float):
        return float(f"{values:.5g}")
    if isinstance(values, list | tuple):
        return [rounded(value) for value in values]
    return {name: rounded(value) for name, value in values.items()} if isinstance(values, dict) else values


def check_sizes(sizes: dict) -> None:
    """Refuse sizes of a measurement that are not integers.

    Raises:
        ValueError: at the first one.
    """
    for name, value in sizes.items():
        if not isinstance(value, int):
            raise ValueError(f"{name} must be an integer, not {value!r}.")


def ship_weights(experiment: TrainingSetup, bits: int = 8, *, history: bool = True) -> Path:
    """Copy a finished run's best weights, rounded and labelled, to the shipped folder; weights there stay as they are.

    Args:
        bits: of each weight, 8 or 16 (see `checkpoints.compress`).
        history: copy the run's losses, too, with a seal.

    Returns:
        the shipped folder.

    Raises:
        CheckpointError: if there is no such run, it is of other data, or its cycle of the learning rate has not come
            to its end, or the network answers otherwise than when they were written.
    """
    run, folder = experiment.run_folder, experiment.shipped_folder
    network = experiment.make_network()
    label = checkpoints.load_network(run / "best.safetensors", network)
    if label["dataset"] != experiment.dataset:
        raise CheckpointError(f"{run} was trained on {label['dataset']}, not on {experiment.dataset}.")
    require_finished(experiment)
    path, rounded = folder / "weights.safetensors", checkpoints.compress(network.state_dict(), bits)
    shipped, shipped_label = checkpoints.load(path) if path.exists() else ({}, {})
    if shipped_label != label or shipped.keys() != rounded.keys():  # of another run, or with other bits
        checkpoints.save(path, rounded, label)
    network.load_state_dict(checkpoints.expand(checkpoints.load(path)[0]))
    files.write_json(folder / checkpoints.BESIDE, {checkpoints.PROBE: checkpoints.probe(network)}, indent=None)
    if history:
        table = pd.DataFrame(read_history(run), columns=EpochRecord._fields)
        files.write_bytes(folder / "losses.csv", to_csv(table))
    return folder


def has_run(experiment: TrainingSetup) -> bool:
    """Return whether the experiment has a run of its own; nothing is ever trained to be recorded.

    Raises:
        CheckpointError: if it has neither a run nor shipped weights, or names a run that is not there.
    """
    if (experiment.run_folder / "best.safetensors").exists():
        return True
    if experiment.run_name or not (experiment.shipped_folder / "weights.safetensors").exists():
        also = "" if experiment.run_name else f", and {experiment.shipped_folder} no weights"
        raise CheckpointError(f"{experiment.run_folder} holds no run{also}: train it first, or check its name.")
    return False


def require_shipped(experiment: TrainingSetup) -> None:
    """Refuse an experiment without shipped weights, or with the name of a run that is not there.

    Raises:
        CheckpointError: see there.
    """
    if not (experiment.shipped_folder / "weights.safetensors").exists():
        raise CheckpointError(f"there are no shipped weights of {experiment.slug}: record them first.")
    has_run(experiment)


def require_finished(experiment: TrainingSetup) -> None:
    """Refuse a run that has not made all epochs of its experiment, or of its own cycle of the learning rate.

    Raises:
        CheckpointError: if there is no run, or it is not finished.
    """
    folder = experiment.run_folder
    if not (folder / "best.safetensors").exists():
        raise CheckpointError(f"{folder} holds no run: train it first.")
    done, label = len(read_history(folder)), checkpoints.load(folder / "best.safetensors")[1]
    wanted = max(experiment.epochs, label.get("epochs", 0))
    if done < wanted:
        raise CheckpointError(f"{folder} has made {done} of {wanted} epochs: finish it first.")


def minutes_alone(seconds: Sequence[float] | pd.Series) -> float:
    """How long a training takes that has the machine for itself: its fastest epoch, times its epochs.

    Args:
        seconds: of each epoch.
    """
    return round(len(seconds) * min(seconds) / 60, 1)


def ledger_for(
    kind: str,
    experiment: TrainingSetup,
    dataset: Dataset,
    decoder: Decoder,
    sizes: dict,
    on_progress: Callable[[str], None],
) -> Callable[[str, Callable], object]:
    """A ledger in the run folder that tells of each part; its name holds all that results depend on but the code."""
    depends = {
        "weights": checkpoints.digest(decoder.network.state_dict()),
        "data": dataset.sha256,
        "classifier": load_classifier()[1]["sha256"],
        "sizes": sizes,
    }
    key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
    ledger = Ledger(experiment.run_folder / f"{kind}-{key[:16]}.json")

    def remember(name: str, compute: Callable[[], object]) -> object:
        on_progress(f"{experiment.title}: {name}")
        return ledger(name, compute)

    return remember


def ship_classifier(dataset: Dataset, *, epochs: int = EPOCHS, path: Path = SHIPPED) -> dict:
    """Train a classifier from the seed and write what the project ships; returns its description."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DigitClassifier()
    for _ in train_classifier(network, dataset.train, epochs=epochs):
        pass
    description = {
        "network": "digit_classifier",
        "epochs": epochs,
        "train_images": len(dataset.train),
        "data_sha256": dataset.sha256,
        "validation_accuracy": accuracy(network, dataset.validation),
        "test_accuracy": accuracy(network, dataset.test),
    }
    checkpoints.save(path, network.state_dict(), description)
    answers = {checkpoints.PROBE: checkpoints.probe(network, arguments=1)}
    files.write_json(path.with_name(checkpoints.BESIDE), answers, indent=None)
    return description
