"""What the loss of one trained decoder hides, as what JSON can hold: measurements of notebook 04.

Steps t are chosen by signal share, so that two schedules are measured at comparable places.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ddpm_utils import analysis
from ddpm_utils.analysis import Sizes, steps_by_signal
from ddpm_utils.data import Dataset
from ddpm_utils.exact import AffineDecoder, ExactDecoder, identity_loss
from ddpm_utils.likelihood import VARIANCES, variational_bound
from ddpm_utils.schedules import NoiseSchedule
from ddpm_utils.training import generator_for
from ddpm_utils.training_setup import Decoder


def losses(schedule: NoiseSchedule, dataset: Dataset, decoder: Decoder, sizes: Sizes) -> dict:
    """Per-t losses of the network, the identity, the best affine decoder and the exact one, and their means over t.

    The exact decoder knows the training images. On them it is the floor; on test images it is not.
    """
    seen, unseen = dataset.train.images, dataset.test.images
    affine, exact = AffineDecoder(seen, schedule), ExactDecoder(seen, schedule)
    steps = steps_by_signal(schedule, sizes.points)
    alpha = schedule.alpha[steps]
    profile = {
        f"{name}, {part}": analysis.loss_profile(which, schedule, images[: sizes.profile], steps)
        for part, images in {"training": seen, "test": unseen}.items()
        for name, which in {"network": decoder.network, "exact": exact}.items()
    }
    above = profile["network, training"] - profile["exact, training"]
    rounds = -(-sizes.per_step * schedule.T // len(unseen))
    mean, error = analysis.loss_by_step(decoder.network, schedule, unseen, rounds=rounds)
    some = seen[: sizes.floor]
    t = 1 + torch.arange(len(some)) * schedule.T // len(some)
    noise = torch.randn(some.shape, generator=generator_for(0, "floor"))
    floor = analysis.losses_at(exact, schedule, some, t, noise)
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
    loss, error = analysis.loss_by_step(decoder.network, schedule, images, rounds=rounds)
    noise = torch.randn(images.shape, generator=generator_for(0, "z_1"))
    edges = steps_by_signal(schedule, 21)
    result = {"edges": edges, "alpha": schedule.alpha[edges].tolist(), "images": len(images)}
    for variance in VARIANCES:
        bound = variational_bound(decoder.network, schedule, images, loss, error, noise, variance)
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
    t, differences = analysis.generalisation_gap(decoder.network, schedule, seen, unseen)
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
