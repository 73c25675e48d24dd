"""Recorded results: what `python -m maintenance records` measured, read again for notebooks and tables."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from torch import Tensor

from ddpm_utils import checkpoints
from ddpm_utils.cold.mixtures import DEGRADATIONS
from ddpm_utils.system import files
from ddpm_utils.system.files import read_csv, read_json
from ddpm_utils.system.places import RESOURCES
from ddpm_utils.training.base import SNAPSHOT_EPOCHS
from ddpm_utils.training.experiments import LEAN, PUBLISHED, Experiment
from ddpm_utils.training.restorations import RestorationExperiment

RECORDED: list[dict[str, Any]] = [published | decoder for decoder in ({}, LEAN) for published in PUBLISHED.values()]
"""What is measured at full size: both published runs, and the lean decoder on their schedules."""


class Recorded(NamedTuple):
    """What the project ships for one schedule and network."""

    results: dict
    losses: pd.DataFrame
    pictures: dict[str, Tensor]
    explained: dict | None

    @property
    def epochs(self) -> list[int]:
        """The epochs that there are pictures of, which are named "epoch<n>/…"."""
        return [epoch for epoch in SNAPSHOT_EPOCHS if epoch <= len(self.losses)]


def load_recorded(experiment: Experiment) -> Recorded | None:
    """Read what `record` wrote for this schedule and network, or None if there is nothing.

    Raises:
        CheckpointError: if a file is damaged.
    """
    folder = experiment.shipped_folder
    if not (folder / "results.json").exists():
        return None
    pictures, _ = checkpoints.load(folder / "pictures.safetensors")
    explained = folder / "explained.json"
    return Recorded(
        read_json(folder / "results.json"),
        read_csv(folder / "losses.csv"),
        {name: tensor.float() for name, tensor in pictures.items()},
        read_json(explained) if explained.exists() else None,
    )


def shown_steps(T: int) -> list[int]:
    """The three times on the way at which the report shows a reconstruction: T/20, T/2 and T."""
    return sorted({max(1, T // 20), max(1, T // 2), T})


EPOCHS = {"blur": 42}  # 30 minutes of one core, as the coursework's main model
OTHER_EPOCHS = 12  # 8 to 10 minutes
SIGMAS = (0.01, 0.03, 0.1, 0.3)
TRAINED = [RestorationExperiment(name, dataset="mnist", epochs=EPOCHS.get(name, OTHER_EPOCHS)) for name in DEGRADATIONS]
"""One restoration for each degradation."""
FINE_TUNED = [
    RestorationExperiment("blur", sigma=sigma, first_weights="shipped", dataset="mnist", epochs=7, learning_rate=1e-3)
    for sigma in SIGMAS
]
"""The blur with a little noise, fine-tuned for 5 minutes."""
LARGE_RESTORATION = RestorationExperiment(
    "blur", network="unet", dataset="mnist", epochs=5, batch_size=128, learning_rate=1e-3
)
"""The blur with the U-Net of the published size."""


def load_results(experiment: RestorationExperiment) -> dict | None:
    """What `record_restoration` wrote, or None if there is nothing.

    Raises:
        CheckpointError: if the file is damaged.
    """
    path = experiment.shipped_folder / "results.json"
    return read_json(path) if path.exists() else None


DECODERS = RESOURCES / "data" / "checkpoints" / "decoders.json"


def _hot(network: str, epochs: int, run_name: str = "") -> Experiment:
    small = network == "lean_unet"
    return Experiment(
        "cosine",
        T=1000,
        network=network,
        dataset="mnist",
        epochs=epochs,
        batch_size=64 if small else 128,
        learning_rate=2e-3 if small else 1e-3,
        lr_schedule="one_cycle",
        run_name=run_name,
    )


LARGE_DECODER = _hot("unet", 5)
LEAN_DECODER = _hot("lean_unet", 42)
COMPARED = {
    "equal epochs": [_hot("cnn", 5, "five-epochs"), _hot("lean_unet", 5, "five-epochs"), LARGE_DECODER],
    "equal time, 5 minutes": [_hot("cnn", 5, "five-epochs"), _hot("lean_unet", 7, "seven-epochs")],
    "equal time, 21 minutes": [_hot("lean_unet", 30, "thirty-epochs"), LARGE_DECODER],
    "published pair": [LEAN_DECODER, LARGE_DECODER],
}
"""Who is compared with whom; the weights of the last two are shipped."""


def load_decoders() -> dict[str, list[dict]]:
    """What `record_decoders` wrote: the measured decoders by group of `COMPARED`.

    Raises:
        CheckpointError: if the file is damaged.
    """
    return read_json(DECODERS)


def load_record(name: str) -> dict:
    """Read data/checkpoints/<name>.json, a measurement of several networks together.

    Args:
        name: "decomposition", "gaussian_step" or "parameterisation".

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    return read_json(RESOURCES / "data" / "checkpoints" / f"{name}.json")


class Row(NamedTuple):
    """One point of quality against network calls."""

    sampler: str
    spacing: str
    calls: int
    samples: int
    fid: float
    low: float  # of the 95 % interval
    high: float
    floor: float  # FID of as many real digits


def read_rows(path: Path, remedy: str = files.RESTORE) -> list[Row]:
    """A file of what `to_csv` returned; none if there is no file.

    Arguments and errors as for `files.read_json`.
    """
    return [Row(*row) for row in files.read_csv(path, remedy).itertuples(index=False)] if path.exists() else []
