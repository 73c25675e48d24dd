"""What makes β = 0.1 fail: named cells that change one factor at a time, from the published row to our best one.

`draw` samples the cells of one network, on a GPU if there is one, and keeps the images beside its run.
`record_decomposition` measures all that is drawn: data/checkpoints/decomposition.json.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion import schedules
from ddpm_utils.diffusion.samplers import MatchedStart, Sampler, ancestral, sample, standard_start
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.evaluation.samples import one_step_short, steps_of
from ddpm_utils.randomness import START_SEED, Noise
from ddpm_utils.shapes import Images, Network
from ddpm_utils.training.base import TrainingSetup
from ddpm_utils.training.experiments import Experiment
from maintenance.records import seeds
from maintenance.records.device import OnDevice, device, timed
from maintenance.records.shipping import named_data

SAMPLES = 2000
BATCH = {"cuda": 1000, "cpu": 128}
VARIANCES = ("beta", "posterior")
OWN, COARSE, FINE = "200 steps of β = 0.1", "19 steps of β = 0.1", "200 fine steps"
STANDARD, MATCHED = "N(0, I)", "matched"


class Cell(NamedTuple):
    """One way to draw samples; each is measured with both reverse variances."""

    network: str  # "cnn" or "lean_unet"
    trained_on: str  # one of `seeds.TRAINED_ON`
    grid: str  # the steps visited: OWN from α = 7e-10, COARSE and FINE from α = 0.135
    index: str  # of α_t in the sampler: "right", or "off by one" as in the published code
    start: str  # STANDARD, or MATCHED: the Gaussian with the mean and the covariance of z at the first step


CELLS = {
    "published": Cell("cnn", "high β, off by one", OWN, "off by one", STANDARD),
    "index right in training": Cell("cnn", "high β", OWN, "off by one", STANDARD),
    "CNN, high β": Cell("cnn", "high β", OWN, "right", STANDARD),
    "CNN, high β, from α = 0.135": Cell("cnn", "high β", COARSE, "right", MATCHED),
    "CNN, low β, coarse": Cell("cnn", "low β", COARSE, "right", MATCHED),
    "CNN, low β, fine": Cell("cnn", "low β", FINE, "right", MATCHED),
    "CNN, low β, fine, N(0, I)": Cell("cnn", "low β", FINE, "right", STANDARD),
    "U-Net, high β": Cell("lean_unet", "high β", OWN, "right", STANDARD),
    "U-Net, high β, from α = 0.135": Cell("lean_unet", "high β", COARSE, "right", MATCHED),
    "U-Net, low β, coarse": Cell("lean_unet", "low β", COARSE, "right", MATCHED),
    "U-Net, low β, fine": Cell("lean_unet", "low β", FINE, "right", MATCHED),
    "U-Net, low β, fine, N(0, I)": Cell("lean_unet", "low β", FINE, "right", STANDARD),
}


def cells_of(experiment: TrainingSetup) -> dict[str, Cell]:
    """Return the cells that an experiment of `seeds.DECOMPOSED` draws, by name."""
    seed = experiment.seed
    return {
        name: cell
        for name, cell in CELLS.items()
        if seeds.decoder_of(cell.network, cell.trained_on, seed).run_folder == experiment.run_folder
    }


def chain_of(cell: Cell, schedule: NoiseSchedule) -> NoiseSchedule:
    """Return the steps that a cell visits, of the schedule that its network was trained on."""
    if cell.grid == OWN:
        return schedule
    if cell.grid == FINE:
        return schedule.subset(200)
    if cell.trained_on == "low β":
        return schedule.subset(steps_of(0.1, schedule))
    return schedule.subset(range(1, 20))  # 0.9^19 = 0.135 = 0.999^2000


def walk(cell: Cell, network: Network, schedule: NoiseSchedule) -> tuple[Sampler, Network, NoiseSchedule]:
    """Return sampler, decoder and steps of a cell.

    Where α_t is off by one in training and in sampling, the published chain is the right chain of T + 1 steps without
    its last step: step t of the published one is step t + 1, and the network's clock lags by one step.
    """
    if cell.index == "right":
        return ancestral, network, chain_of(cell, schedule)
    if cell.trained_on == "high β":
        return one_step_short, network, schedule
    T = schedule.T

    def lagging(z: Images, time: Tensor) -> Images:
        return network(z, (time * (T + 1) - 1) / T)

    return one_step_short, lagging, schedules.constant(beta=0.1, T=T + 1)


def images_path(experiment: TrainingSetup, name: str, variance: str) -> Path:
    """Return where the samples of a cell are kept, as bytes."""
    return experiment.run_folder / "cells" / f"{list(CELLS).index(name)}-{variance}.npz"


def draw(experiment: Experiment, *, samples: int = SAMPLES, say: Callable[[str], None] = print) -> None:
    """Draw the samples of an experiment's cells that are not there yet; the seeds differ between networks.

    Each file holds the images as bytes, 0 black, and what it took: seconds and device.
    """
    dataset = named_data(experiment)
    network = OnDevice(seeds.load(experiment).network)
    for name, cell in cells_of(experiment).items():
        sampler, decoder, chain = walk(cell, network, experiment.noise_schedule)
        for variance in VARIANCES:
            path = images_path(experiment, name, variance)
            if path.exists():
                continue
            spent: dict[str, Any] = {}
            with timed(spent):
                images = sample(
                    partial(sampler, variance=variance), decoder, chain, count=samples, batch_size=BATCH[device().type],
                    seed=START_SEED + experiment.seed * samples, start=_start(cell, dataset, chain),
                )  # fmt: skip
            path.parent.mkdir(parents=True, exist_ok=True)
            partial_path = path.with_suffix(".part.npz")
            np.savez_compressed(partial_path, images=to_bytes(images), **spent)
            partial_path.replace(path)
            say(f"{experiment.title}, seed {experiment.seed}: {name}, {variance}, {spent['seconds']} s")


def _start(cell: Cell, dataset: Dataset, chain: NoiseSchedule) -> Callable[[Noise], Tensor]:
    return standard_start if cell.start == STANDARD else MatchedStart(dataset.train.images, chain)


def to_bytes(images: Images) -> np.ndarray:
    """Return clamped images as bytes, (n, 28, 28)."""
    return ((images.clamp(-0.5, 0.5) + 0.5) * 255).round().byte()[:, 0].numpy()


def from_bytes(array: np.ndarray) -> Images:
    """Return what `to_bytes` made of images, to the nearest of 256 grey levels."""
    return torch.from_numpy(array)[:, None].float() / 255 - 0.5
