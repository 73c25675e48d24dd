"""What samples and reconstructions of one trained decoder show, as what JSON can hold: measurements of notebook 04."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ddpm_utils.data.checks import check_images
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.samplers import Latent, ancestral, estimate, remove
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.classifier import load_classifier
from ddpm_utils.evaluation.decoder import reconstruct
from ddpm_utils.evaluation.losses import BATCH, Images, Sizes, steps_by_signal
from ddpm_utils.randomness import Noise, generator_for
from ddpm_utils.shapes import Network
from ddpm_utils.training.base import Decoder
from ddpm_utils.training.experiments import Experiment


def steps_of(beta: float, schedule: NoiseSchedule) -> list[int]:
    """The t's of a chain through the schedule whose steps add about β each, ending at T."""
    wanted = (1 - beta) ** np.arange(1, np.log(schedule.alpha[-1]) / np.log(1 - beta) - 0.5)
    steps = {int(abs(schedule.alpha[1:] - alpha).argmin()) + 1 for alpha in wanted}
    return sorted(steps | {schedule.T})


def shuffled_test(dataset: Dataset, count: int) -> Tensor:
    """Test images in a random order: MNIST's first half is the easier one."""
    order = torch.randperm(len(dataset.test), generator=generator_for(0, "test order"))
    return dataset.test[order[:count]].images


def reconstruction(experiment: Experiment, dataset: Dataset, decoder: Decoder, sizes: Sizes) -> list[dict]:
    """Test images degraded to z_t and restored, over t: error, and whether the digit is still the same."""
    classifier, _ = load_classifier()
    digits = dataset.test[: sizes.reconstructions]
    schedule = experiment.noise_schedule
    original = classes(classifier, digits.images)
    unrelated = metrics.image_quality(digits.images.roll(1, 0), digits.images)
    by_chance = (original == original.roll(1)).float().mean().item()
    rows = []
    for t in steps_by_signal(schedule, 12):
        restored = reconstruct(experiment, decoder, digits.images, calls=sizes.reconstruction_calls, t=t)
        rows.append(
            {
                "t": t,
                "alpha": float(schedule.alpha[t]),
                **metrics.image_quality(restored, digits.images),
                "same digit": (classes(classifier, restored) == original).float().mean().item(),
                "unrelated": unrelated | {"same digit": by_chance},
                "images": len(digits),
            }
        )
    return rows


def one_step_short(
    network: Network, schedule: NoiseSchedule, z: Tensor, noise: Noise, *, variance: str = "beta"
) -> Iterator[Latent]:
    """Ancestral sampling with α_t taken for α_{t+1}, as in published code.

    With such an α step t does what step t+1 should, so that the last one arrives at z_1 instead of x. It adds no noise.
    """
    beta, deviation = schedule.beta[2], np.sqrt(1 - schedule.alpha[2])
    for latent in islice(ancestral(network, schedule, z, noise, variance=variance), schedule.T - 2):
        z = latent.z
    g = estimate(network, z, schedule.time[2])
    x_hat = remove(z, g, deviation, np.sqrt(schedule.alpha[2]))
    yield Latent(0, remove(z, g, beta / deviation, np.sqrt(1 - beta)), x_hat)


@torch.inference_mode()
def classes(classifier: Callable[[Tensor], Tensor], images: Images) -> Int[Tensor, " n"]:
    """The digit that the classifier names for each image, clamped to [−0.5, 0.5]."""
    check_images(images, "images", overshoot=True)
    return torch.cat([classifier(part.clamp(-0.5, 0.5)).argmax(1) for part in images.split(BATCH)])
