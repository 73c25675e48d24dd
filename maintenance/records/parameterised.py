"""Section 11 of the evaluation: three targets and two weightings, trained equally long, measured with four samplers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.samplers import sample
from ddpm_utils.diffusion.solvers import METHODS
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.classifier import load_classifier
from ddpm_utils.evaluation.losses import loss_profile, steps_by_signal
from ddpm_utils.evaluation.samples import shuffled_test
from ddpm_utils.randomness import START_SEED
from ddpm_utils.shapes import Network
from ddpm_utils.system.files import write_json
from ddpm_utils.system.places import RESOURCES
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.objectives import NoisePrediction, mean_loss
from maintenance.records import seeds
from maintenance.records.device import OnDevice, device_name
from maintenance.records.shipping import ledger_for, named_data, rounded

PATH = RESOURCES / "data" / "checkpoints" / "parameterisation.json"
SAMPLES, CALLS = 2000, 20
SPACINGS = ("even", "quadratic")


def measure(experiment: Experiment, dataset: Dataset, network, decoder: Network, remember: Callable) -> dict:
    """Measure one network: its unweighted loss, in all and over t, and FID with each sampler and spacing.

    Args:
        network: the module, for the loss on the validation grid.
        decoder: the same network as a function on the CPU.
        remember: keeps each part (see `Ledger`).
    """
    schedule = experiment.noise_schedule
    chain = schedule.subset(range(1, int(np.flatnonzero(schedule.alpha >= 1e-4)[-1]) + 1))
    embed = OnDevice(load_classifier()[0].embed)
    real = metrics.features(embed, shuffled_test(dataset, 2 * SAMPLES))
    steps = steps_by_signal(schedule, 16)

    def fid(name: str, spacing: str) -> float:
        method = METHODS[name]._replace(spacing=spacing)
        options = {"count": SAMPLES, "batch_size": 500, "seed": START_SEED + experiment.seed * SAMPLES}
        images = sample(method.sampler, decoder, method.subset(chain, CALLS), **options)
        return metrics.fid(metrics.features(embed, images), real[:SAMPLES])

    unweighted = NoisePrediction(schedule)
    return {
        "test loss": remember("loss", lambda: mean_loss(network, unweighted, dataset.test.images, seed=0)[0]),
        "steps": steps,
        "loss at steps": remember(
            "profile", lambda: loss_profile(decoder, schedule, dataset.test.images[:1000], steps).mean(1).tolist()
        ),
        "FID": {
            f"{name}, {spacing}": remember(f"{name}, {spacing}", lambda n=name, s=spacing: fid(n, s))
            for name in METHODS
            for spacing in SPACINGS
        },
        "FID floor": metrics.fid(real[SAMPLES:], real[:SAMPLES]),
        "samples": SAMPLES,
        "calls": CALLS,
    }


def record_parameterisation(say: Callable[[str], None] = print) -> Path:
    """Measure all networks of `seeds.PARAMETERISED` that are trained, and write `PATH`.

    A training that diverged is listed, too: it is a result.

    Returns:
        the file.
    """
    sizes = {"samples": SAMPLES, "calls": CALLS}
    found = []
    for experiment in seeds.PARAMETERISED:
        about = {"network": experiment.network, "epochs": experiment.epochs, "target": experiment.target}
        about |= {"weighting": experiment.weighting, "seed": experiment.seed}
        if error := seeds.divergence(experiment):
            found.append(about | {"diverged": error})
        if not seeds.is_trained(experiment):
            continue
        dataset, decoder = named_data(experiment), seeds.load(experiment)
        remember = ledger_for("parameterisation", experiment, dataset, decoder, sizes, say)
        found.append(about | measure(experiment, dataset, decoder.network, OnDevice(decoder.network), remember))
    write_json(PATH, rounded({"targets": found, "device": device_name()}))
    return PATH
