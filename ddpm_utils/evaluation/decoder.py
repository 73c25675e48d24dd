"""The measurements of Table 1 for one trained decoder: test loss, reconstructions, FID and KID."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_utils import data
from ddpm_utils.data.checks import SMALLEST, check_images
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.forward import diffuse
from ddpm_utils.diffusion.samplers import MatchedStart, Sampler, ancestral, sample, standard_start
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.diffusion.solvers import METHODS
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.classifier import fitting_classifier, withheld
from ddpm_utils.evaluation.neighbours import neighbours
from ddpm_utils.randomness import NOISE_SEED, RESTORE_SEED, START_SEED, Noise
from ddpm_utils.system.files import compute_always, to_text
from ddpm_utils.training.base import Decoder
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.objectives import mean_loss

STARTS = ("standard", "matched")
SHOWN = 16  # samples kept as a picture
NO_SIGNAL = 1e-4  # with a smaller α_T the two starts are the same
FEW = METHODS["ancestral, posterior σ²"]


def evaluate(
    experiment: Experiment,
    dataset: Dataset,
    decoder: Decoder,
    *,
    samples: int,
    reconstructions: int,
    calls: int,
    full: int = 0,
    repeats: int = 1,
    inception_weights: str = "",
    remember: Callable[[str, Callable[[], Any]], Any] = compute_always,
) -> dict:
    """Table 1 for one decoder: test loss, reconstruction by both protocols, FID and KID from each start.

    For other data sets than MNIST, FID and KID are withheld, since they compare features of a digit classifier; what
    needs no features, distances to the nearest training images and the share of copies, takes their place.

    Args:
        samples: unconditional images, compared with as many test images; validation images give the floor.
        reconstructions: test images to degrade to z_T and restore with `calls` network calls each (see `reverse`).
        full: how many of these to restore with all T steps as well, as the report did.
        repeats: how many sets of samples to draw, each with seeds of its own.
        inception_weights: "" for none, "download", or a local file (see `metrics.inception_extractor`); where
            they cannot be had the result says why.
        remember: keeps each part of the result as soon as it is known (see `Ledger`).

    Raises:
        ValueError: if the data set holds fewer images than asked for.
    """
    _check_sizes(dataset, samples, reconstructions, full, repeats)
    test = dataset.test.images
    inception, inception_said = _load_inception(inception_weights)
    options: dict[str, Any] = {"calls": calls, "repeats": repeats, "inception": inception}
    distribution = {
        start: remember(
            f"distribution, {start}, {'with' if inception else 'without'} Inception",
            partial(_distribution, experiment, dataset, decoder, samples, start=start, **options),
        )
        for start in STARTS[: 2 if experiment.noise_schedule.alpha[-1] > NO_SIGNAL else 1]
    }
    return {
        "sampler": f"{sampler_name(calls, experiment.T)} (FID, reconstructions)",
        "calls": min(calls, experiment.T),
        "test images": len(test),
        **remember("test loss", lambda: _test_loss(experiment, decoder, test)),
        "reconstruction": remember(
            "reconstruction",
            lambda: _reconstruction(experiment, decoder, test[:reconstructions], calls=calls, full=full),
        ),
        "distribution": distribution,
        "inception": inception_said,
        "features": _features(dataset),
        "data sha256": dataset.sha256,
    }


def _features(dataset: Dataset) -> dict | str:
    """What FID and KID are measured with, or why they are withheld."""
    if not (found := fitting_classifier(dataset)):
        return withheld(dataset.name)
    classifier, description = found
    return {
        "network": "digit classifier",
        "layer": "global mean before the last linear layer",
        "width": classifier.features,
        "sha256": description["sha256"],
        "test accuracy": description["test_accuracy"],
    }


def _check_sizes(dataset: Dataset, samples: int, reconstructions: int, full: int, repeats: int) -> None:
    """Refuse sizes that `evaluate` does not allow for this data set."""
    test, most = len(dataset.test), min(len(dataset.test), len(dataset.validation))
    if not 1 <= reconstructions <= test:
        raise ValueError(f"reconstructions must be in 1…{test}, the test images, not {reconstructions}.")
    if not SMALLEST <= samples <= most:
        raise ValueError(f"samples must be in {SMALLEST}…{most}, as many as there are real images, not {samples}.")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}.")
    if not 0 <= full <= reconstructions:
        raise ValueError(f"full must be in 0…{reconstructions}, the reconstructions, not {full}.")


def _load_inception(weights: str) -> tuple[Callable[[Tensor], Tensor] | None, str]:
    """Return the Inception network, or None, and what the result says of it."""
    if not weights:
        return None, "not measured: inception_weights is empty"
    try:
        return metrics.inception_extractor(weights), "measured"
    except OSError as error:
        return None, f"not measured: {str(error).rstrip('.')}"


def _test_loss(experiment: Experiment, decoder: Decoder, test: Tensor) -> dict[str, float]:
    mean, error = mean_loss(decoder.network, experiment.objective, test, seed=experiment.seed)
    return {"test loss": mean, "test loss standard error": error}


def _reconstruction(experiment: Experiment, decoder: Decoder, x: Tensor, *, calls: int, full: int) -> dict:
    """Quality of images restored from z_T by few calls, by all steps, and the paired difference of the two."""
    restored = reconstruct(experiment, decoder, x, calls=calls)
    result: dict[str, Any] = {
        "from step": experiment.T,
        "few calls": {"images": len(x), "calls": min(calls, experiment.T)},
    }
    result["few calls"] |= {p: metrics.image_quality(restored, x, p) for p in metrics.PROTOCOLS}
    if full == 0:
        return result
    slow = reconstruct(experiment, decoder, x[:full], calls=experiment.T)
    result["all steps"] = {"images": full, "calls": experiment.T}
    result["all steps"] |= {p: metrics.image_quality(slow, x[:full], p) for p in metrics.PROTOCOLS}
    result["few − all"] = {"images": full}
    for protocol in metrics.PROTOCOLS:
        pair = [metrics.quality_of_each(images, x[:full], protocol) for images in (restored[:full], slow)]
        differences = {name: pair[0][name] - pair[1][name] for name in pair[0]}
        result["few − all"][protocol] = {name: d.mean().item() for name, d in differences.items()}
        errors = {name: (d.std() / full**0.5).item() for name, d in differences.items()}
        result["few − all"][f"{protocol}, standard error"] = errors
    return result


def _distribution(
    experiment: Experiment,
    dataset: Dataset,
    decoder: Decoder,
    samples: int,
    *,
    calls: int,
    repeats: int,
    start: str,
    inception: Callable[[Tensor], Tensor] | None,
) -> dict:
    """FID and KID of samples, averaged over draws, with their spread; interval, floor, pictures of the first.

    Where the classifier does not fit, distances to the nearest training images in their place (see `evaluate`).
    """
    found = fitting_classifier(dataset)
    real = torch.cat([part.images[:samples] for part in (dataset.test, dataset.validation)])
    measured: list[dict[str, Any]] = []
    means, inceptions, pictures = [], [], []
    for repeat in range(repeats):
        first = START_SEED + repeat * samples
        images = generate(experiment, dataset, decoder, samples, calls=calls, start=start, first_seed=first)
        means.append(data.to_unit(images).mean().item())
        pictures.append(to_text(images[:SHOWN]))
        if found:
            embedded = [metrics.features(found[0].embed, i) for i in (images, real)]
            measured.append(metrics.distribution_quality(*embedded, seed=experiment.seed))
        else:
            of_test = neighbours(dataset.test.images[:samples], dataset)["nearest"]
            measured.append(neighbours(images, dataset) | {"nearest, test images": of_test, "samples": samples})
        if inception:
            fake, reference = (metrics.features(inception, i) for i in (images, real[:samples]))
            kid = metrics.kid(fake, reference, seed=experiment.seed)[0]
            inceptions.append({"FID": metrics.fid(fake, reference), "KID": kid})
    result = measured[0] | {"mean pixel": float(np.mean(means)), "pictures": pictures[0]}
    for name in ("FID", "KID") if found else ("nearest", "copies"):
        values = [one[name] for one in measured]
        result[name] = float(np.mean(values))
        if repeats > 1:
            result |= {f"{name}s": values, f"{name} spread": float(np.std(values, ddof=1))}
    return result | ({"inception": inceptions} if inceptions else {})


def reverse(schedule: NoiseSchedule, calls: int) -> tuple[Sampler, NoiseSchedule]:
    """The reverse process in at most so many calls: a sampler, and the steps that it visits.

    All T steps with σ² = β, as in the report; or fewer, with the posterior's variance and steps spread evenly in √t,
    the best of the few-call samplers (notebook 03).
    """
    return (ancestral, schedule) if calls >= schedule.T else (FEW.sampler, FEW.subset(schedule, calls))


def sampler_name(calls: int, T: int) -> str:
    """What `reverse` does."""
    return f"ancestral, all {T} steps, σ² = β" if calls >= T else f"ancestral, posterior σ², {calls} calls"


def generate(
    experiment: Experiment,
    dataset: Dataset,
    decoder: Decoder,
    count: int,
    *,
    calls: int,
    start: str = "standard",
    first_seed: int = START_SEED,
    **options,
) -> Tensor:
    """Unconditional samples by `reverse`, shape (count, 1, 28, 28).

    Raises:
        ValueError: if the start is neither "standard" nor "matched".
    """
    schedule = experiment.noise_schedule
    if start not in STARTS:
        raise ValueError(f"start must be one of {', '.join(STARTS)}, not {start!r}.")
    first = standard_start if start == "standard" else MatchedStart(dataset.train.images, schedule)
    sampler, chain = reverse(schedule, calls)
    return sample(sampler, decoder, chain, count=count, seed=first_seed, start=first, **options)


def degrade(experiment: Experiment, images: Tensor, t: int | None = None) -> Tensor:
    """z_t of each image (z_T if t is None), with noise of its own seed."""
    check_images(images, "images")
    noise = Noise(range(NOISE_SEED, NOISE_SEED + len(images)))()
    return diffuse(images, experiment.T if t is None else t, noise, experiment.noise_schedule)


def reconstruct(
    experiment: Experiment, decoder: Decoder, images: Tensor, *, calls: int, t: int | None = None
) -> Tensor:
    """Conditional samples: images degraded to z_t (z_T if t is None) and restored by `reverse`."""
    schedule = experiment.noise_schedule
    t = schedule.T if t is None else t
    sampler, chain = reverse(schedule.subset(range(1, t + 1)), calls)
    return sample(sampler, decoder, chain, z=degrade(experiment, images, t), seed=RESTORE_SEED)
