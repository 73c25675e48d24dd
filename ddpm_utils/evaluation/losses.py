"""The loss of one decoder taken apart: over t, beside exact decoders, in bits, and on unseen images.

Decoders are networks, or any of `diffusion.exact`; all are called as decoder(z, t/T). The functions in the second half
return what JSON can hold, for notebook 04. They choose steps t by signal share, so that two schedules are measured at
comparable places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddpm_utils.data.checks import check_images
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.exact import AffineDecoder, ExactDecoder, identity_loss
from ddpm_utils.diffusion.likelihood import VARIANCES, variational_bound
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.randomness import generator_for
from ddpm_utils.shapes import Images, Network
from ddpm_utils.training.base import Decoder
from ddpm_utils.training.objectives import NoisePrediction

BATCH = 128


@dataclass(frozen=True)
class Sizes:
    """How much is measured: images, samples and rounds."""

    profile: int = 1000  # images at each of `points` steps
    points: int = 24
    floor: int = 8000  # images for the mean of the exact floor over t
    per_step: int = 20  # losses at every t, at least
    gap: int = 12_000  # pairs of a seen and an unseen image
    reconstructions: int = 1000
    reconstruction_calls: int = 30


def steps_by_signal(schedule: NoiseSchedule, count: int) -> list[int]:
    """At most so many different t, evenly spread in log SNR between its values at t = 1 and T, both included."""
    noise = -np.log(schedule.snr[1:])
    wanted = np.interp(np.linspace(noise[0], noise[-1], count), noise, np.arange(1, schedule.T + 1))
    return np.unique(wanted.round().astype(int)).tolist()


@torch.inference_mode()
def losses_at(
    decoder: Network, schedule: NoiseSchedule, images: Images, t: Int[Tensor, " n"], noise: Images
) -> Float[Tensor, " n"]:
    """‖g(z_t, t/T) − ε‖²/d of each image at its t."""
    objective = NoisePrediction(schedule)
    parts = zip(images.split(BATCH), t.split(BATCH), noise.split(BATCH), strict=True)
    return torch.cat([objective(decoder, *part) for part in parts])


def loss_profile(
    decoder: Network, schedule: NoiseSchedule, images: Images, steps: Sequence[int], *, seed: int = 0
) -> Float[Tensor, "steps n"]:
    """The loss of the same images with the same noise at each of some steps; equal seeds make decoders comparable."""
    check_images(images, "images")
    noise = torch.randn(images.shape, generator=generator_for(seed, "profile"))
    rows = [losses_at(decoder, schedule, images, torch.full((len(images),), t), noise) for t in steps]
    return torch.stack(rows)


def loss_by_step(
    decoder: Network, schedule: NoiseSchedule, images: Images, *, rounds: int = 1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The mean loss at every t = 1…T and its standard error, both of shape (T+1,) with 0 at t = 0.

    Args:
        rounds: how often each image is used; each t gets rounds·n/T losses, at least 2.

    Raises:
        ValueError: if that is too few.
    """
    check_images(images, "images")
    T, n = schedule.T, len(images)
    if rounds * n < 2 * T:
        raise ValueError(f"{rounds} rounds of {n} images are too few for {T} steps: take {-(-2 * T // n)} rounds.")
    order = torch.randperm(rounds * n, generator=generator_for(seed, "order by step"))
    noise = generator_for(seed, "noise by step")
    steps, losses = [], []
    for one in range(rounds):
        steps.append(1 + order[one * n : (one + 1) * n] % T)
        losses.append(losses_at(decoder, schedule, images, steps[-1], torch.randn(images.shape, generator=noise)))
    t, loss = torch.cat(steps).numpy(), torch.cat(losses).double().numpy()
    count = np.bincount(t, minlength=T + 1).clip(1)
    mean = np.bincount(t, loss, minlength=T + 1) / count
    variance = np.bincount(t, (loss - mean[t]) ** 2, minlength=T + 1) / (count - 1).clip(1)
    return mean, np.sqrt(variance / count)


def generalisation_gap(
    decoder: Network, schedule: NoiseSchedule, seen: Images, unseen: Images, *, seed: int = 0
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The loss of unseen images minus that of seen ones, pair by pair at the same t with the same noise.

    Args:
        seen, unseen: equally many.

    Returns:
        t, evenly spread over 1…T, and the differences.
    """
    check_images(seen, "seen")
    check_images(unseen, "unseen")
    t = 1 + torch.arange(len(seen)) * schedule.T // len(seen)
    t = t[torch.randperm(len(seen), generator=generator_for(seed, "gap t"))]
    noise = torch.randn(seen.shape, generator=generator_for(seed, "gap noise"))
    return t, losses_at(decoder, schedule, unseen, t, noise) - losses_at(decoder, schedule, seen, t, noise)


def losses(schedule: NoiseSchedule, dataset: Dataset, decoder: Decoder, sizes: Sizes) -> dict:
    """Per-t losses of the network, the identity, the best affine decoder and the exact one, and their means over t.

    The exact decoder knows the training images. On them it is the floor; on test images it is not.
    """
    seen, unseen = dataset.train.images, dataset.test.images
    affine, exact = AffineDecoder(seen, schedule), ExactDecoder(seen, schedule)
    steps = steps_by_signal(schedule, sizes.points)
    alpha = schedule.alpha[steps]
    compared: dict[str, Network] = {"network": decoder, "exact": exact}
    profile = {
        f"{name}, {part}": loss_profile(which, schedule, images[: sizes.profile], steps)
        for part, images in {"training": seen, "test": unseen}.items()
        for name, which in compared.items()
    }
    above = profile["network, training"] - profile["exact, training"]
    rounds = -(-sizes.per_step * schedule.T // len(unseen))
    mean, error = loss_by_step(decoder, schedule, unseen, rounds=rounds)
    some = seen[: sizes.floor]
    t = 1 + torch.arange(len(some)) * schedule.T // len(some)
    noise = torch.randn(some.shape, generator=generator_for(0, "floor"))
    floor = losses_at(exact, schedule, some, t, noise)
    return {
        "steps": steps,
        "alpha": alpha.tolist(),
        "network, test": profile["network, test"].mean(1).tolist(),
        "network, training": profile["network, training"].mean(1).tolist(),
        "exact, training": profile["exact, training"].mean(1).tolist(),
        "exact, test": profile["exact, test"].mean(1).tolist(),
        "affine": affine.loss(alpha).tolist(),
        "identity": identity_loss(unseen, alpha).tolist(),
        "network above exact": above.mean(1).tolist(),
        "network above exact, standard error": (above.std(1) / above.shape[1] ** 0.5).tolist(),
        "mean over t": {
            "network": float(mean[1:].mean()),
            "network, standard error": float(np.sqrt((error[1:] ** 2).sum()) / schedule.T),
            "affine": float(affine.loss(schedule.alpha[1:]).mean()),
            "exact": floor.mean().item(),
            "exact, standard error": (floor.std() / len(floor) ** 0.5).item(),
            "identity": float(identity_loss(unseen, schedule.alpha[1:]).mean()),
        },
        "mean over t, α off by one": off_by_one(schedule, mean, affine, unseen),
    }


def off_by_one(schedule: NoiseSchedule, loss: np.ndarray, affine: AffineDecoder, images: Tensor) -> dict[str, float]:
    """Mean losses where step t has the signal share of step t+1, as in published code.

    For a network that share is all that counts, so its loss at t is taken from t+1; at T that is T's own.
    """
    alpha = np.append(schedule.alpha[2:], schedule.alpha[-1] * (1 - schedule.beta[-1]))
    return {
        "network": float(np.append(loss[2:], loss[-1]).mean()),
        "affine": float(affine.loss(alpha).mean()),
        "identity": float(identity_loss(images, alpha).mean()),
    }


def bits(schedule: NoiseSchedule, dataset: Dataset, decoder: Decoder, sizes: Sizes) -> dict:
    """The variational bound on the test images for each reverse variance, its terms over t summed in 20 bins."""
    images = dataset.test.images
    rounds = -(-sizes.per_step * schedule.T // len(images))
    loss, error = loss_by_step(decoder, schedule, images, rounds=rounds)
    noise = torch.randn(images.shape, generator=generator_for(0, "z_1"))
    edges = steps_by_signal(schedule, 21)
    result = {"edges": edges, "alpha": schedule.alpha[edges].tolist(), "images": len(images)}
    for variance in VARIANCES:
        bound = variational_bound(decoder, schedule, images, loss, error, noise, variance)
        sums = [bound.steps[low + 1 : high + 1].sum() for low, high in pairwise(edges)]
        result[variance] = {
            "total": bound.total,
            "standard error": bound.error,
            "prior": bound.prior,
            "steps": float(bound.steps.sum()),
            "last": bound.last,
            "terms": [float(value) for value in sums],
        }
    return result


def gap(schedule: NoiseSchedule, dataset: Dataset, decoder: Decoder, sizes: Sizes) -> dict:
    """Validation loss minus training loss on the same grid of (t, ε), in at most 10 bins of t and in all."""
    count = min(sizes.gap, len(dataset.train), len(dataset.validation))
    seen, unseen = dataset.train.images[-count:], dataset.validation.images[-count:]
    t, differences = generalisation_gap(decoder, schedule, seen, unseen)
    edges = np.linspace(0, schedule.T, min(10, schedule.T) + 1).round().astype(int).tolist()
    groups = [differences[(low < t) & (t <= high)] for low, high in pairwise(edges)]
    return {
        "pairs": count,
        "mean": differences.mean().item(),
        "standard error": (differences.std() / count**0.5).item(),
        "until t": edges[1:],
        "means": [group.mean().item() for group in groups],
        "standard errors": [(group.std() / len(group) ** 0.5).item() for group in groups],
    }
