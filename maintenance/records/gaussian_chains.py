"""Chains through a known density of images: ancestral sampling with the exact decoder from exact z_T.

The decoder does nothing but shrink z_t outside the mixture's plane, and the last step removes the rest. The chains
therefore run in the plane's coordinates y, which changes none of the samples.
"""

import math

import numpy as np
import torch
from torch import Tensor

from ddpm_utils.diffusion.exact import ImageMixture, optimal_variance
from ddpm_utils.diffusion.forward import posterior_tables
from ddpm_utils.diffusion.samplers import ancestral
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.classifier import load_classifier
from ddpm_utils.randomness import Noise, generator_for

FULL = "full covariance"  # of q(z_{t−1}|z_t) for each z_t, also in the last step: the best Gaussian
FINE, SMALLEST = 20, 1e-3  # steps in place of the last, down to so much of its noise variance, then to none
EXACT = 20_000  # exact samples whose mean log density is compared with
POINTS = 16  # steps at which posterior variances are measured


class PlaneNoise(Noise):
    """Standard normal draws of one shape from one stream, float64."""

    def __init__(self, shape: tuple[int, ...], generator: torch.Generator):
        self.shape, self.generator = shape, generator

    def __call__(self) -> Tensor:
        """Draw once."""
        return torch.randn(self.shape, generator=self.generator, dtype=torch.float64)


class Control:
    """The density, and the exact samples that the samples of chains are compared with.

    Args:
        mixture: the density of images; `plane` is the same density of y, as images of 1 × p pixels.
    """

    def __init__(self, mixture: ImageMixture, samples: int):
        p = mixture.basis.shape[1]
        covariances = (mixture.vectors * mixture.eigenvalues[:, None]) @ mixture.vectors.mT
        self.mixture, self.embed = mixture, load_classifier()[0].embed
        self.plane = ImageMixture(torch.zeros(p), torch.eye(p), mixture.weights, mixture.means, covariances, (1, 1, p))
        exact = self.plane.sample(EXACT, generator_for(0, "log density"))
        self.surprise = torch.cat([-self.plane.log_density(part) / p for part in exact.split(2000)])
        self.reference = self.features(self.plane.sample(samples, generator_for(0, "reference")))

    def images(self, y: Tensor) -> Tensor:
        """m + U·y."""
        flat = self.mixture.center + y.flatten(1).double() @ self.mixture.basis.T
        return flat.float().reshape(-1, *self.mixture.shape)

    def features(self, y: Tensor) -> Tensor:
        """The digit classifier's features of the images."""
        return metrics.features(self.embed, self.images(y))


def chain_of(beta: float, alpha_T: float, *, fine: bool = False) -> NoiseSchedule:
    """A constant β down to α_T; `fine` splits the last step, in which all noise is removed, into 20."""
    T = math.ceil(math.log(alpha_T) / math.log(1 - beta))
    alpha = (1 - beta) ** np.arange(T + 1)
    if fine:
        between = 1 - beta * SMALLEST ** (np.arange(FINE - 1, 0, -1) / FINE)
        alpha = np.concatenate([[1.0], between, alpha[1:]])
    return NoiseSchedule(np.append(0.0, 1 - alpha[1:] / alpha[:-1]), alpha=alpha)


def diffused(plane: ImageMixture, alpha: float, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw y and z_t in the plane, float64."""
    y = plane.sample(count, generator).double()
    return y, alpha**0.5 * y + (1 - alpha) ** 0.5 * torch.randn(y.shape, generator=generator, dtype=torch.float64)


def fitted_variance(control: Control, schedule: NoiseSchedule, count: int) -> np.ndarray:
    """σ*² over t from E tr Cov[x|z_t]/d at some steps, interpolated over log SNR."""
    steps = np.unique(np.geomspace(1, schedule.T, POINTS).round().astype(int))
    generator, pixels, losses = generator_for(0, "variance"), len(control.mixture.center), []
    for t in steps:
        alpha = schedule.alpha[t]
        y, z = diffused(control.plane, alpha, count, generator)
        error = (y.flatten(1) - control.plane.posterior_mean(z, alpha)).square().sum(1).mean().item() / pixels
        losses.append(error * alpha / (1 - alpha))
    known = np.interp(-np.log(schedule.snr[1:]), -np.log(schedule.snr[steps]), np.log(losses))
    return optimal_variance(np.append(0.0, np.exp(known)), schedule)


def draw(control: Control, schedule: NoiseSchedule, variance: str, count: int, seed: int) -> Tensor:
    """Draw y with ancestral sampling from exact z_T."""
    plane, generator = control.plane, generator_for(seed, "chain")
    noise = PlaneNoise((count, *plane.shape), generator)
    z = diffused(plane, schedule.alpha[-1], count, generator)[1]
    if variance == FULL:
        for t in range(schedule.T, 0, -1):
            step_mean, covariance = best_gaussian(plane, schedule, z, t)
            root = torch.linalg.cholesky(covariance)
            z = (step_mean + (root @ noise().flatten(1)[..., None]).squeeze(-1)).reshape(z.shape)
        return z
    sigma = fitted_variance(control, schedule, count) if variance == "optimal" else variance
    for latent in ancestral(plane.decoder(schedule), schedule, z, noise, variance=sigma):
        z = latent.z
    return z


def best_gaussian(plane: ImageMixture, schedule: NoiseSchedule, z: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of q(z_{t−1}|z_t) in the plane, for each z_t."""
    z_weight, x_weight, posterior = (table[t] for table in posterior_tables(schedule))
    alpha, eye = schedule.alpha[t], torch.eye(plane.shape[-1], dtype=torch.float64)
    covariance = x_weight**2 * plane.posterior_covariance(z, alpha) + (posterior + 1e-12) * eye
    return z_weight * z.flatten(1) + x_weight * plane.posterior_mean(z, alpha), covariance


def distances(control: Control, y: Tensor) -> dict[str, float]:
    """Return how far samples are from the density. Of exact samples the surprise is 0, and the spread 1, on average."""
    p, count = control.plane.shape[-1], len(y)
    surprise = -control.plane.log_density(y) / p
    shares = control.plane.shares(y).mean(0)
    error = (surprise.var() / count + control.surprise.var() / len(control.surprise)).sqrt()
    return {
        "FID": metrics.fid(control.features(y), control.reference[:count]),
        "surprise": (surprise.mean() - control.surprise.mean()).item(),  # nats per dimension of the plane
        "surprise error": error.item(),
        "total variation": (shares - control.plane.weights).abs().sum().item() / 2,
        "spread": (torch.cov(y.flatten(1).double().T).trace() / control.plane.covariance.trace()).item(),
    }
