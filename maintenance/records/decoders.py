"""Three decoders beside each other on the cosine schedule, after equal epochs and equal time: part 2's prelude.

The CNN of part 1, the lean U-Net made for CPUs and the U-Net of the published size (see `networks`); the
two U-Nets are also the hot half of the published pair, whose cold half are the blurs of `restorations`.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ddpm_utils import checkpoints
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.samplers import estimate, sample
from ddpm_utils.evaluation.decoder import NO_SIGNAL, reconstruct, reverse
from ddpm_utils.evaluation.recorded import COMPARED, DECODERS
from ddpm_utils.evaluation.restoration import Judge
from ddpm_utils.randomness import START_SEED
from ddpm_utils.system.files import write_json
from ddpm_utils.training.base import Decoder
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.objectives import validate, validation_steps
from ddpm_utils.training.run import read_history
from maintenance.records.shipping import ledger_for, minutes_alone, named_data, require_finished, ship_weights

TIMES = 10  # parts of 1…T over which the loss is told
SIZES = {"images": 1000, "calls": 30}


def record_decoders(*, on_progress: Callable[[str], None] = print, **sizes: int) -> Path:
    """Ship the two decoders of the published pair, and measure all of `COMPARED`; 10 minutes.

    Args:
        sizes: in place of some of `SIZES`: test images, and network calls for each image.

    Returns:
        the file, data/checkpoints/decoders.json.

    Raises:
        CheckpointError: if a run is missing or not finished.
    """
    sizes = SIZES | sizes
    for experiment in COMPARED["published pair"]:
        require_finished(experiment)
        ship_weights(experiment)
    entries: dict[str, list[dict]] = {}
    for group, experiments in COMPARED.items():
        entries[group] = []
        for experiment in experiments:
            require_finished(experiment)
            dataset = named_data(experiment)
            decoder = experiment.load_decoder("shipped" if experiment in COMPARED["published pair"] else "run")
            remember = ledger_for("compared", experiment, dataset, decoder, sizes, on_progress)
            found = remember("all", lambda e=experiment, d=dataset, n=decoder: measure(e, d, n, **sizes))
            entries[group].append(found)
    write_json(DECODERS, entries)
    return DECODERS


def measure(experiment: Experiment, dataset: Dataset, decoder: Decoder, *, images: int, calls: int) -> dict:
    """One decoder: its size, its times, its loss over t, and what it draws and restores in so many calls.

    Both begin at the last step with α_t ≥ 1e-4, where z_t is noise for all that matters. Few calls cannot begin at the
    cosine schedule's T: the first one would divide the error of ε̂ by √α_T = 5e-5.
    """
    network, schedule = decoder.network, experiment.noise_schedule
    last = int(np.flatnonzero(schedule.alpha >= NO_SIGNAL)[-1])
    sampler, chain = reverse(schedule.subset(range(1, last + 1)), calls)
    judge = Judge(dataset, images)
    test = dataset.test.images
    losses = validate(network, experiment.objective, test, seed=experiment.seed)
    part = (validation_steps(len(test), schedule.T, seed=experiment.seed) - 1) * TIMES // schedule.T
    drawn = sample(sampler, decoder, chain, count=images, seed=START_SEED)
    restored = reconstruct(experiment, decoder, judge.originals.images, calls=calls, t=last)
    return {
        "network": experiment.network,
        "epochs": experiment.epochs,
        "minutes": minutes_alone([record.seconds for record in read_history(experiment.run_folder)]),
        "weights sha256": checkpoints.digest(network.state_dict()),
        "parameters": sum(p.numel() for p in network.parameters()),
        "ms per image": milliseconds(decoder, test[:128]),
        "test loss": losses.mean().item(),
        "loss by t": [losses[part == k].mean().item() for k in range(TIMES)],
        "calls": calls,
        "from step": last,
        "images": images,
        "new": judge.distances(drawn),
        "restored": judge.quality(restored) | judge.distances(restored),
    }


@torch.inference_mode()
def milliseconds(decoder: Decoder, images: torch.Tensor, repeats: int = 7) -> float:
    """Time of one network call per image, in a batch: the median of a few calls after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        estimate(decoder.network, images, 0.5)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[1:]) / len(images)
