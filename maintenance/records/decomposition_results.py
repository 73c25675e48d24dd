"""All measurements of the decomposition: data/checkpoints/decomposition.json.

What is drawn and trained so far is measured; the file says which seeds each number comes from. Parts that are done are
kept in data/runs, so that the same command goes on after a stop.
"""

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_utils import checkpoints, data
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.samplers import sample
from ddpm_utils.evaluation import metrics, statistics
from ddpm_utils.evaluation.classifier import DigitClassifier, load_classifier, train_classifier
from ddpm_utils.evaluation.decoder import degrade
from ddpm_utils.evaluation.losses import loss_profile
from ddpm_utils.evaluation.neighbours import neighbours
from ddpm_utils.evaluation.samples import classes, shuffled_test
from ddpm_utils.randomness import RESTORE_SEED
from ddpm_utils.system.files import Ledger, to_text, write_json
from ddpm_utils.system.places import RESOURCES, output
from ddpm_utils.training.experiments import Experiment
from maintenance.records import seeds
from maintenance.records.decomposition import CELLS, SAMPLES, VARIANCES, cells_of, draw, from_bytes, images_path, walk
from maintenance.records.device import OnDevice, device_name, timed
from maintenance.records.shipping import rounded

PATH = RESOURCES / "data" / "checkpoints" / "decomposition.json"
ALPHAS = 0.9 ** np.array([1, 2, 3, 5, 8, 12, 19])  # steps of β = 0.1 from pixels
PROFILED, RECONSTRUCTED = 1000, 250  # images
PERMUTED = 200
SECOND_EPOCHS = 3


def second_classifier(dataset: Dataset) -> DigitClassifier:
    """Return a digit classifier with other first weights and batches, trained once and kept in data/runs."""
    path = output() / "data" / "runs" / "classifier-seed1" / "weights.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = DigitClassifier()
    if path.exists():
        network.load_state_dict(checkpoints.load(path)[0])
    else:
        for _ in train_classifier(network, dataset.train, epochs=SECOND_EPOCHS, seed=1):
            pass
        checkpoints.save(path, network.state_dict(), {"seed": 1})
    return network.requires_grad_(False).eval()


class Examiner:
    """Measures sets of samples against the same real digits.

    Args:
        classifier: whose features are compared.
    """

    def __init__(self, dataset: Dataset, classifier: DigitClassifier):
        self.dataset, self.classifier = dataset, classifier
        self.digits = shuffled_test(dataset, 2 * SAMPLES)
        self.real, self.other = self.features(self.digits).split(SAMPLES)

    def features(self, images: Tensor) -> Tensor:
        """Features of images."""
        return metrics.features(self.classifier.embed, images)

    def __call__(self, images: Tensor) -> dict[str, Any]:
        """FID with interval, FID∞, precision and recall, copies, and classes."""
        fake = self.features(images)
        infinity, interval = statistics.fid_infinity(fake, self.real)
        precision, recall = statistics.precision_recall(fake, self.real)
        return {
            "FID": metrics.fid(fake, self.real),
            "FID interval": metrics.fid_interval(fake, self.real),
            "FID∞": infinity,
            "FID∞ interval": interval,
            "precision": precision,
            "recall": recall,
            "copies": neighbours(images, self.dataset)["copies"],
            "classes": torch.bincount(classes(self.classifier, images), minlength=10).tolist(),
        }

    def fid(self, images: Tensor) -> dict[str, float]:
        """The FID alone."""
        return {"FID, second classifier": metrics.fid(self.features(images), self.real)}


def record_decomposition(say: Callable[[str], None] = print) -> Path:
    """Draw what is missing of the trained networks, measure everything, and write `PATH`.

    Returns:
        the file.
    """
    dataset = data.load("mnist")
    trained = [experiment for experiment in seeds.DECOMPOSED if seeds.is_trained(experiment)]
    for experiment in trained:
        draw(experiment, say=say)
    return measure(dataset, trained, say)


def measure(dataset: Dataset, trained: list[Experiment], say: Callable[[str], None]) -> Path:
    """Measure the samples that are there, and the losses and reconstructions of the trained networks."""
    remember = _timed(Ledger(output() / "data" / "runs" / f"decomposition-{dataset.sha256[:8]}.json"), say)
    examiner = Examiner(dataset, load_classifier()[0])
    second = Examiner(dataset, second_classifier(dataset))
    cells: dict[str, Any] = {name: cell._asdict() | {v: {} for v in VARIANCES} for name, cell in CELLS.items()}
    kept = drawn(trained)
    for (name, variance, seed), (key, images, spent) in kept.items():
        found = remember(f"{name}, {variance}, {seed}, {key}", lambda i=images: examiner(i))
        found |= remember(f"{name}, {variance}, {seed}, {key}, second classifier", lambda i=images: second.fid(i))
        cells[name][variance][str(seed)] = found | spent
        if variance == "beta":
            cells[name].setdefault("pictures", to_text(images[:8]))
    floor = remember("floor", lambda: examiner(examiner.digits[SAMPLES:]))
    found = {
        "samples": SAMPLES,
        "floor": floor,
        "cells": cells,
        "differences": _differences(examiner, kept, remember),
        "networks": {_name(e): _network(e, dataset, remember) for e in trained},
        "data sha256": dataset.sha256,
    }
    write_json(PATH, rounded(found))
    return PATH


def drawn(trained: list[Experiment]) -> dict[tuple[str, str, int], tuple[str, Tensor, dict]]:
    """Return the samples that are there by cell, variance and seed: their digest, the images, and what they took."""
    kept = {}
    for experiment, name, variance in ((e, n, v) for e in trained for n in cells_of(e) for v in VARIANCES):
        path = images_path(experiment, name, variance)
        if path.exists():
            stored = np.load(path)
            key = hashlib.sha256(stored["images"].tobytes()).hexdigest()[:12]
            spent = {"drawn in seconds": float(stored["seconds"]), "drawn on": str(stored["device"])}
            kept[name, variance, experiment.seed] = key, from_bytes(stored["images"]), spent
    return kept


def _timed(ledger: Ledger, say: Callable[[str], None]) -> Callable[[str, Callable[[], dict]], dict]:
    """A ledger whose entries hold their time and device, too."""

    def remember(name: str, compute: Callable[[], dict]) -> dict:
        def work() -> dict:
            spent: dict[str, Any] = {}
            with timed(spent):
                found = compute()
            say(f"{name}: {spent['seconds']} s")
            return found | spent

        return ledger(name, work)

    return remember


def _differences(examiner: Examiner, kept: dict, remember: Callable) -> list[dict]:
    """Permutation tests of neighbouring cells with equal seeds: p-values of equal distributions of features."""
    rows = []
    for one, other in pairwise(CELLS):
        for variance in VARIANCES:
            for seed in seeds.SEEDS:
                pair = [kept[name, variance, seed][1] for name in (one, other) if (name, variance, seed) in kept]
                if len(pair) < 2:
                    continue

                def test(pair=pair) -> dict:
                    both = [examiner.features(images) for images in pair]
                    return {"p": statistics.fid_difference_test(*both, examiner.real, permutations=PERMUTED)}

                about = {"cells": [one, other], "variance": variance, "seed": seed}
                rows.append(about | remember(f"difference, {one}, {other}, {variance}, {seed}", test))
    return rows


def _name(experiment: Experiment) -> str:
    trained_on = next(
        name
        for name in seeds.TRAINED_ON
        if seeds.decoder_of(experiment.network, name, experiment.seed).run_folder == experiment.run_folder
    )
    return f"{experiment.network}, {trained_on}, seed {experiment.seed}"


def _network(experiment: Experiment, dataset: Dataset, remember: Callable) -> dict:
    """Losses at equal α, and reconstructions by the published protocol, of one network."""
    decoder, schedule = seeds.load(experiment), experiment.noise_schedule
    on = OnDevice(decoder.network)
    steps = [int(abs(schedule.alpha - alpha).argmin()) for alpha in ALPHAS]
    name = _name(experiment)

    def profile() -> dict:
        losses = loss_profile(on, schedule, dataset.test.images[:PROFILED], steps)
        error = losses.std(1) / PROFILED**0.5
        return {"alpha": schedule.alpha[steps].tolist(), "loss": losses.mean(1).tolist(), "error": error.tolist()}

    result = {
        "epoch": decoder.description["epoch"],
        "validation loss": decoder.description["validation_loss"],
        "losses at α": remember(f"{name}: losses at α", profile),
    }
    off = [cell for cell in cells_of(experiment).values() if cell.index == "off by one"]
    for cell in off:

        def restored(cell=cell) -> dict:
            x = dataset.test.images[:RECONSTRUCTED]
            sampler, network, chain = walk(cell, on, schedule)
            images = sample(sampler, network, chain, z=degrade(experiment, x), seed=RESTORE_SEED)
            return {"images": len(x), **metrics.image_quality(images, x, "published")}

        result["reconstructions"] = remember(f"{name}: reconstructions", restored)
    return result | {"device": device_name()}
