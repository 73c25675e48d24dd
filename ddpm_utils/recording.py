"""From a finished training run to what the project ships: weights, losses, pictures and full-size results.

`record` fills data/checkpoints/<slug>/ with
    weights.safetensors   the best weights, labelled with epochs, data and losses
    losses.csv            the history, one row per epoch
    pictures.safetensors  samples and reconstructions made with all T steps, float16, labelled likewise
    results.json          Table 1 at full size, with the hashes of weights, data and classifier
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from ddpm_utils import checkpoints, metrics
from ddpm_utils.classifier import load_classifier
from ddpm_utils.data import Dataset
from ddpm_utils.experiment import Decoder, Experiment
from ddpm_utils.forward import diffuse
from ddpm_utils.sampling import MatchedStart, Noise, ancestral, sample, standard_start
from ddpm_utils.training import NoisePrediction, validate

START_SEED = 1_000_000  # seeds of unconditional samples: this and following ones
NOISE_SEED = 2_000_000  # seeds of reconstructions


class Recorded(NamedTuple):
    """What the project ships for one schedule and network."""

    results: dict
    losses: pd.DataFrame
    pictures: dict[str, Tensor]


def load_recorded(experiment: Experiment) -> Recorded | None:
    """Read what `record` wrote for this schedule and network, or None if there is nothing.

    Raises:
        CheckpointError: if the pictures are damaged.
    """
    folder = experiment.shipped_folder
    if not (folder / "results.json").exists():
        return None
    pictures, _ = checkpoints.load(folder / "pictures.safetensors")
    return Recorded(
        json.loads((folder / "results.json").read_text(encoding="utf-8")),
        pd.read_csv(folder / "losses.csv"),
        {name: tensor.float() for name, tensor in pictures.items()},
    )


def shown_steps(T: int) -> list[int]:
    """The three times on the way at which the report shows a reconstruction: T/20, T/2 and T."""
    return sorted({max(1, T // 20), max(1, T // 2), T})


def record(
    experiment: Experiment,
    *,
    samples: int = 2000,
    reconstructions: int = 1000,
    calls: int = 100,
    on_progress: Callable[[str], None] = print,
) -> Path:
    """Evaluate the run of an experiment at full size and ship it; minutes to hours.

    Args:
        samples: unconditional images for FID and KID, from each start.
        reconstructions: test images that are degraded to z_T and restored.
        calls: network calls for each of these images (ancestral on an even subset of the steps).
        on_progress: is told what is done.

    Returns:
        the folder.
    """
    dataset = experiment.load_data()
    decoder = experiment.load_decoder("run")
    folder = experiment.shipped_folder
    label = decoder.description | {"data_sha256": dataset.sha256}
    weights = decoder.network.state_dict()
    on_progress(decoder.source)
    pictures = _pictures(experiment, dataset, decoder, on_progress)
    results = {
        "experiment": experiment.identity,
        "weights": label | {"sha256": checkpoints.digest(weights)},
        **evaluate(
            experiment,
            dataset,
            decoder,
            samples=samples,
            reconstructions=reconstructions,
            calls=calls,
            on_progress=on_progress,
        ),
    }
    checkpoints.save(folder / "weights.safetensors", weights, label)
    checkpoints.save(folder / "pictures.safetensors", {k: v.half() for k, v in pictures.items()}, label)
    checkpoints.write_bytes(folder / "losses.csv", (experiment.run_folder / "losses.csv").read_bytes())
    text = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    checkpoints.write_bytes(folder / "results.json", text.encode())
    return folder


def evaluate(
    experiment: Experiment,
    dataset: Dataset,
    decoder: Decoder,
    *,
    samples: int,
    reconstructions: int,
    calls: int,
    starts: tuple[str, ...] = ("standard", "matched"),
    on_progress: Callable[[str], None] = lambda line: None,
) -> dict:
    """Table 1 for one decoder: test loss, reconstruction by both protocols, FID and KID from each start.

    Args:
        starts: "standard", N(0, I), and "matched", a Gaussian with z_T's true mean and covariance.

    Raises:
        ValueError: if the test set holds fewer images than asked for.
    """
    test = dataset.test.images
    if not 1 <= reconstructions <= len(test):
        raise ValueError(f"reconstructions must be in 1…{len(test)}, the test images, not {reconstructions}.")
    if not 2 <= samples <= len(test) // 2:
        raise ValueError(f"samples must be in 2…{len(test) // 2}, half the test images, not {samples}.")
    losses = validate(decoder.network, NoisePrediction(experiment.noise_schedule), test, seed=experiment.seed)
    on_progress(f"Test loss on {len(test)} images: {losses.mean():.5f}.")
    restored = reconstruct(experiment, decoder, test[:reconstructions], calls=calls)
    quality = {p: metrics.image_quality(restored, test[:reconstructions], p) for p in metrics.PROTOCOLS}
    on_progress(f"Reconstructions: {quality}.")
    classifier, description = load_classifier()
    real = metrics.features(classifier.embed, test[: 2 * samples])
    distributions = {}
    for start in starts:
        images = generate(experiment, dataset, decoder, samples, calls=calls, start=start)
        fake = metrics.features(classifier.embed, images)
        distributions[start] = metrics.distribution_quality(fake, real, seed=experiment.seed)
        distributions[start]["mean pixel"] = metrics.to_unit(images).mean().item()
        on_progress(f"From the {start} start: {distributions[start]}.")
    return {
        "sampler": f"ancestral, variance beta, {min(calls, experiment.T)} calls",
        "test images": len(test),
        "test loss": losses.mean().item(),
        "test loss standard error": (losses.std() / len(test) ** 0.5).item(),
        "reconstruction": {"images": reconstructions, "from step": experiment.T, **quality},
        "distribution": distributions,
        "features": {
            "network": "digit classifier",
            "layer": "global mean before the last linear layer",
            "width": classifier.features,
            "sha256": description["sha256"],
            "test accuracy": description["test_accuracy"],
        },
        "data sha256": dataset.sha256,
    }


def generate(
    experiment: Experiment,
    dataset: Dataset,
    decoder: Decoder,
    count: int,
    *,
    calls: int,
    start: str = "standard",
    **options,
) -> Tensor:
    """Unconditional samples by strided ancestral sampling, shape (count, 1, 28, 28).

    Raises:
        ValueError: if the start is neither "standard" nor "matched".
    """
    schedule = experiment.noise_schedule.subset(min(calls, experiment.T))
    if start not in ("standard", "matched"):
        raise ValueError(f"start must be standard or matched, not {start!r}.")
    first = standard_start if start == "standard" else MatchedStart(dataset.train.images, schedule)
    seeds = range(START_SEED, START_SEED + count)
    return sample(partial(ancestral, decoder.network, schedule), seeds, start=first, **options)[0]


def degrade(experiment: Experiment, images: Tensor, t: int | None = None) -> Tensor:
    """z_t of each image (z_T if t is None), with noise of its own seed."""
    noise = Noise(range(NOISE_SEED, NOISE_SEED + len(images)))()
    return diffuse(images, experiment.T if t is None else t, noise, experiment.noise_schedule)


def reconstruct(
    experiment: Experiment, decoder: Decoder, images: Tensor, *, calls: int, t: int | None = None
) -> Tensor:
    """Conditional samples: images degraded to z_t (z_T if t is None) and restored in at most `calls` steps."""
    t = experiment.T if t is None else t
    steps = np.unique(np.linspace(t / min(calls, t), t, min(calls, t)).round().astype(int))
    sampler = partial(ancestral, decoder.network, experiment.noise_schedule.subset(steps))
    seeds = range(2 * NOISE_SEED, 2 * NOISE_SEED + len(images))  # other noise than went in
    return sample(sampler, seeds, z=degrade(experiment, images, t))[0]


def _pictures(experiment: Experiment, dataset: Dataset, decoder: Decoder, on_progress: Callable[[str], None]) -> dict:
    """Figures 2 to 4 of the report, with all T steps: samples, and samples by epoch."""
    all_steps = {"calls": experiment.T}
    pictures = {}
    for start in ("standard", "matched"):
        pictures[f"samples/{start}"] = generate(experiment, dataset, decoder, 64, start=start, **all_steps)
        on_progress(f"64 samples from the {start} start.")
    digits = dataset.test.images[:4]
    z = degrade(experiment, digits)
    times = shown_steps(experiment.T)
    pictures["conditional/x"] = digits
    for t in times:
        pictures[f"conditional/z{t}"] = degrade(experiment, digits, t)
    epochs = sorted(int(path.stem.removeprefix("epoch")) for path in experiment.run_folder.glob("epoch*.safetensors"))
    for epoch in epochs:
        network = experiment.make_network().eval()
        checkpoints.load_network(experiment.run_folder / f"epoch{epoch}.safetensors", network, **experiment.identity)
        then = Decoder(network, {}, "")
        name = f"epoch{epoch}"
        pictures[f"{name}/samples"] = generate(experiment, dataset, then, 16, **all_steps)
        images, kept = sample(
            partial(ancestral, network, experiment.noise_schedule),
            range(2 * NOISE_SEED, 2 * NOISE_SEED + len(digits)),
            z=z,
            keep=times[:-1],
        )
        pictures[f"{name}/restored"] = images
        for t, latent in kept.items():
            pictures[f"{name}/z{t}"] = latent.z
        on_progress(f"Samples and reconstructions of epoch {epoch}.")
    return pictures
