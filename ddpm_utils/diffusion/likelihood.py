"""The variational bound in bits per dimension, the yardstick that schedules share (Ho et al. 2020, section 3).

−log p(x) ≤ KL(q(z_T|x) ‖ N(0, I)) + Σ_{t≥2} E KL(q(z_{t−1}|z_t, x) ‖ p(z_{t−1}|z_t)) − E log p(x|z_1)

With Gaussian decoders of variance σ_t² every middle term is an affine function of the loss at its t, so one pass that
measures the loss over t gives the bound for any σ². All terms are divided by d·log 2, d = 784 pixels.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddpm_utils.diffusion.exact import optimal_variance
from ddpm_utils.diffusion.forward import diffuse, posterior_tables
from ddpm_utils.diffusion.samplers import estimate, remove, reverse_variance
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.names import choose
from ddpm_utils.shapes import Images, Network

BIN = 1 / 255  # the distance of two grey levels
VARIANCES = ("beta", "posterior", "optimal")


class Bound(NamedTuple):
    """The bound and its terms, in bits per dimension."""

    prior: float  # KL(q(z_T|x) ‖ N(0, I))
    steps: np.ndarray  # KL at t, shape (T+1,); entries 0 and 1 are 0
    last: float  # −log p(x|z_1), over bins of 1/255
    error: float  # standard error of the total: over images for prior and last, of the losses over t for the steps

    @property
    def total(self) -> float:
        """Their sum, an upper bound on the model's negative log-likelihood."""
        return self.prior + float(self.steps.sum()) + self.last


def variational_bound(
    decoder: Network,
    schedule: NoiseSchedule,
    images: Images,
    loss: np.ndarray,
    error: np.ndarray,
    noise: Images,
    variance: str = "beta",
) -> Bound:
    """The bound of one decoder on some images.

    Args:
        images: with grey levels at multiples of 1/255, in [−0.5, 0.5].
        loss, error: shape (T+1,), the decoder's mean squared error of ε at each t, and its standard error; see
            `loss_by_step`. Entry 0 is not used.
        noise: N(0, I), for z_1.
        variance: of the reverse steps. "beta"; "posterior", with that of t = 2 in the last step, where it would
            be 0 (Ho et al. 2020); "optimal" for these images (see `exact.optimal_variance`), in the last step
            the one that fits 1,000 of them best, since black and white pixels reach to infinity there.

    Raises:
        ValueError: if the variance is unknown.
    """
    variance = choose("variance", variance, VARIANCES)
    optimal = optimal_variance(loss, schedule)
    sigma = np.array(optimal if variance == "optimal" else reverse_variance(schedule, variance))
    posterior = posterior_tables(schedule)[2]
    if variance == "posterior":
        sigma[1] = posterior[min(2, schedule.T)] or schedule.beta[1]
    means = last_means(decoder, schedule, images, noise)
    if variance == "optimal":
        sigma[1] = fitted_variance(images[:1000], means[:1000])
    steps, slope = np.zeros(schedule.T + 1), np.zeros(schedule.T + 1)
    s, p = sigma[2:], posterior[2:]
    per_loss = optimal_variance(np.ones_like(loss), schedule)[2:] - p  # squared distance of the means, over the loss
    steps[2:] = (np.log(s / p) + (p + per_loss * loss[2:]) / s - 1) / (2 * math.log(2))
    slope[2:] = per_loss / s / (2 * math.log(2))
    prior, last = prior_terms(images, schedule), last_terms(images, means, float(sigma[1]))
    of_ends = (prior + last).var().item() / len(images) if len(images) > 1 else 0.0
    return Bound(
        prior=prior.mean().item(),
        steps=steps,
        last=last.mean().item(),
        error=float(np.sqrt((slope**2 * error**2).sum() + of_ends)),
    )


def prior_terms(images: Images, schedule: NoiseSchedule) -> Float[Tensor, " n"]:
    """KL(q(z_T|x) ‖ N(0, I)) = ½[α_T·x² − α_T − log(1−α_T)] of each image, bits per dimension."""
    alpha = schedule.alpha[-1]
    power = images.double().square().flatten(1).mean(1)
    return (alpha * power - alpha - math.log1p(-alpha)) / (2 * math.log(2))


@torch.inference_mode()
def last_means(
    decoder: Network,
    schedule: NoiseSchedule,
    images: Images,
    noise: Images,
    batch_size: int = 128,
) -> Images:
    """The mean of p(x|z_1) for each image."""
    means = []
    for x, e in zip(images.split(batch_size), noise.split(batch_size), strict=True):
        z = diffuse(x, 1, e, schedule)
        means.append(
            remove(z, estimate(decoder, z, schedule.time[1]), schedule.beta[1] ** 0.5, schedule.alpha[1] ** 0.5)
        )
    return torch.cat(means)


def last_terms(images: Images, means: Images, variance: float) -> Float[Tensor, " n"]:
    """−log p(x|z_1) of each image, p a Gaussian over bins of 1/255, the outer ones open-ended; bits per dimension."""
    pairs = zip(images.split(500), means.split(500), strict=True)
    logs = [log_bin(x.double(), mean.double(), math.sqrt(variance)).flatten(1).mean(1) for x, mean in pairs]
    return -torch.cat(logs) / math.log(2)


def fitted_variance(images: Images, means: Images) -> float:
    """The variance of the last step with the lowest mean of `last_terms`, between 1e-6 and 1."""

    def mean_term(log: float) -> float:
        return last_terms(images, means, math.exp(log)).mean().item()

    from scipy.optimize import minimize_scalar  # here, since this import takes half a second

    found = minimize_scalar(mean_term, bounds=(math.log(1e-6), 0))
    return math.exp(found.x)


def log_bin(x: Float[Tensor, "*shape"], mean: Float[Tensor, "*shape"], deviation: float) -> Float[Tensor, "*shape"]:
    """log of the chance that N(mean, deviation²) gives x's grey level; black and white reach to infinity."""
    low, high = ((x + side * BIN / 2 - mean) / deviation for side in (-1, 1))
    low = low.masked_fill(x < -0.5 + BIN / 2, -math.inf)
    high = high.masked_fill(x > 0.5 - BIN / 2, math.inf)
    flip = low > 0  # the far right is the far left, mirrored: differences of small numbers, not of ones
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    upper = torch.special.log_ndtr(high)
    return upper + torch.log1p(-torch.exp(torch.special.log_ndtr(low) - upper))
