"""One dimension, exactly: closed forms and quadrature, in float64, to compare a model's numbers with.

`LatentModel` is the latent variable model p(x) = ∫ p(x|z) p(z) dz with p(z) = N(0, 1). `ScalarMixture` is one pixel in
the diffusion chain: if x is a Gaussian mixture, so is every density of the chain,

    q(z_t)            components √α_t·μ_k, α_t·v_k + 1 − α_t                          `diffused`
    q(z_{t−1}|z_t)    each component of q(z_{t−1}) times the likelihood of z_t        `reverse`

A decoder replaces q(z_{t−1}|z_t) by one Gaussian. With the right mean and variance it loses the KL divergence of the
two, which quadrature gives (`kl_to_gaussian`, `mean_kl`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import ArrayLike
from scipy.special import logsumexp, softmax

from ddpm_utils.diffusion.schedules import NoiseSchedule

LIMIT = 10.0  # quadrature over z runs from −LIMIT to LIMIT, where N(0, 1) has fallen to 1e-22
GRID_POINTS = 8001
WIDTH = 12.0  # quadrature runs over so many standard deviations to both sides, where a Gaussian has fallen to 1e-32
POINTS = 1501  # of the quadrature over z_{t−1}; as smooth as these densities are, the trapezoidal rule is then exact
CONDITIONS = 201  # of the one over z_t
Values = Float64[np.ndarray, "..."] | np.float64


def log_normal(value: ArrayLike, mean: ArrayLike, deviation: ArrayLike) -> Values:
    """log N(value; mean, deviation²); the three broadcast."""
    value, mean, deviation = (np.asarray(number, dtype=np.float64) for number in (value, mean, deviation))
    scaled = (value - mean) / deviation
    return -0.5 * scaled**2 - np.log(deviation) - 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class LatentModel:
    """x ~ N(f(z), σ²) with z ~ N(0, 1), both in one dimension (Prince 2023, section 17.1).

    Integrals over z are sums over an even grid on −10…10 (the trapezoidal rule, which for smooth integrands that
    vanish at both ends is exact to rounding as soon as the grid resolves them).

    Args:
        f: z of shape (n,) → the mean of x given z, same shape; smooth.
        sigma: σ, the standard deviation of x given z; σ/|f′| must not be much below the grid's step, 0.0025.

    Raises:
        ValueError: if σ is not positive.
    """

    f: Callable[[np.ndarray], np.ndarray]
    sigma: float

    def __post_init__(self):
        if not self.sigma > 0:
            raise ValueError(f"sigma must be positive, not {self.sigma!r}.")

    @property
    def grid(self) -> Float64[np.ndarray, " points"]:
        """The z's of the quadrature."""
        return np.linspace(-LIMIT, LIMIT, GRID_POINTS)

    def log_joint(self, x: ArrayLike, z: ArrayLike) -> Values:
        """log p(x, z) = log p(x|z) + log p(z); x and z broadcast."""
        return log_normal(x, self.f(np.asarray(z, dtype=np.float64)), self.sigma) + log_normal(z, 0.0, 1.0)

    def log_density(self, x: ArrayLike) -> Values:
        """log p(x) = log ∫ p(x|z) p(z) dz, of x's shape."""
        values = np.asarray(x, dtype=np.float64)[..., None]
        return logsumexp(self.log_joint(values, self.grid), axis=-1) + math.log(self.grid[1] - self.grid[0])

    def density(self, x: ArrayLike) -> Values:
        """p(x), of x's shape."""
        return np.exp(self.log_density(x))

    def posterior(self, z: ArrayLike, x: float) -> Values:
        """p(z|x) = p(x, z)/p(x) at given z, of z's shape."""
        return np.exp(self.log_joint(x, z) - self.log_density(x))

    def elbo(self, x: float, mean: ArrayLike, deviation: float) -> Values:
        """E_q[log p(x|z)] − KL(q(z) ‖ p(z)) for q = N(mean, deviation²) (Prince 2023, eq. 17.18); ≤ log p(x).

        Of mean's shape: one number, or many.

        Raises:
            ValueError: if the deviation is not positive, or q reaches beyond the grid.
        """
        weights = self._weights(mean, deviation)
        expected = weights @ log_normal(x, self.f(self.grid), self.sigma)
        from_prior = 0.5 * (np.square(mean) + deviation**2 - 1) - math.log(deviation)
        return expected - from_prior

    def gap(self, x: float, mean: float, deviation: float) -> float:
        """KL(q(z) ‖ p(z|x)) = log p(x) − ELBO for q = N(mean, deviation²) (Prince 2023, eq. 17.17), by quadrature.

        Raises:
            ValueError: as `elbo`.
        """
        weights = self._weights(mean, deviation)
        log_posterior = self.log_joint(x, self.grid) - self.log_density(x)
        return float(weights @ (log_normal(self.grid, mean, deviation) - log_posterior))

    def sample(self, count: int, generator: torch.Generator) -> tuple[Values, Values]:
        """Ancestral sampling: z* ~ N(0, 1), then x* ~ N(f(z*), σ²); both of shape (count,)."""
        z, noise = torch.randn((2, count), dtype=torch.float64, generator=generator).numpy()
        return z, self.f(z) + self.sigma * noise

    def _weights(self, mean: ArrayLike, deviation: float) -> Float64[np.ndarray, "*many points"]:
        """q at the grid's points times their distance, for each mean."""
        step = self.grid[1] - self.grid[0]
        if not deviation > 0:
            raise ValueError(f"the standard deviation of q must be positive, not {deviation!r}.")
        farthest = np.max(np.abs(mean))
        if deviation < step or farthest + 6 * deviation > LIMIT:
            where = f"a q of deviation {deviation:g} at ±{farthest:g}"
            raise ValueError(f"{where} is too narrow, or reaches too far out, for the quadrature.")
        return np.exp(log_normal(self.grid, np.asarray(mean)[..., None], deviation)) * step


@dataclass(frozen=True)
class ScalarMixture:
    """Σ_k w_k·N(μ_k, v_k); or many of them at once, along leading axes.

    Args:
        weights: w_k, which sum to 1 over the last axis.
        means: μ_k.
        variances: v_k, positive.
    """

    weights: Float64[np.ndarray, "*many components"]
    means: Float64[np.ndarray, "*many components"]
    variances: Float64[np.ndarray, "*many components"]

    def log_density(self, z: ArrayLike) -> Values:
        """log of the density at z, which broadcasts with the leading axes."""
        z = np.asarray(z, dtype=np.float64)[..., None]
        with np.errstate(divide="ignore"):  # a weight may round to 0
            of_each = log_normal(z, self.means, np.sqrt(self.variances)) + np.log(self.weights)
        return np.logaddexp.reduce(of_each, axis=-1)

    @property
    def mean(self) -> Values:
        """E z."""
        return (self.weights * self.means).sum(-1)

    @property
    def variance(self) -> Values:
        """Var z, within the components and between them."""
        apart = self.means - np.asarray(self.mean)[..., None]
        return (self.weights * (self.variances + apart**2)).sum(-1)


def two_peaks(position: float = 0.5, deviation: float = 0.05) -> ScalarMixture:
    """x = ±position, as likely as each other, and blurred a little: a pixel that is black or white."""
    return ScalarMixture(np.full(2, 0.5), np.array([-position, position]), np.full(2, deviation**2))


def diffused(x: ScalarMixture, alpha: float) -> ScalarMixture:
    """q(z_t), z_t = √α·x + √(1−α)·ε (equation 2).

    Args:
        alpha: α_t, in (0, 1].
    """
    return ScalarMixture(x.weights, np.sqrt(alpha) * x.means, alpha * x.variances + 1 - alpha)


def reverse(before: ScalarMixture, beta: float, z: ArrayLike) -> ScalarMixture:
    """q(z_{t−1}|z_t) ∝ q(z_t|z_{t−1})·q(z_{t−1}), by Bayes' rule for each component.

    Args:
        before: q(z_{t−1}).
        beta: β_t, in (0, 1).
        z: z_t, one number or many.

    Returns:
        the mixture, or one for each z along the leading axes.
    """
    kept = np.sqrt(1 - beta)
    z = np.asarray(z, dtype=np.float64)[..., None]
    evidence = log_normal(z, kept * before.means, np.sqrt((1 - beta) * before.variances + beta))
    variances = before.variances * beta / ((1 - beta) * before.variances + beta)
    means = variances * (before.means / before.variances + kept * z / beta)
    weights = softmax(np.log(before.weights) + evidence, axis=-1)
    return ScalarMixture(weights, means, np.broadcast_to(variances, means.shape))


def kl_to_gaussian(mixture: ScalarMixture) -> Values:
    """KL(mixture ‖ N(its mean, its variance)) ≥ 0 in nats: the least that any Gaussian in its place can lose."""
    mean, deviation = np.asarray(mixture.mean), np.sqrt(np.asarray(mixture.variance))
    grid = np.linspace(-WIDTH, WIDTH, POINTS).reshape(-1, *[1] * mean.ndim)
    z = mean + deviation * grid
    log_density = mixture.log_density(z)
    integrand = np.exp(log_density) * (log_density - log_normal(z, mean, deviation))
    return integrand.sum(0) * deviation * (2 * WIDTH / (POINTS - 1))


def mean_kl(before: ScalarMixture, beta: float) -> float:
    """E over z_t of KL(q(z_{t−1}|z_t) ‖ its Gaussian): what one step of a perfect Gaussian decoder loses, in nats."""
    after = diffused(before, 1 - beta)
    z = after.mean + np.sqrt(after.variance) * np.linspace(-6, 6, CONDITIONS)
    weights = softmax(after.log_density(z))
    return float(weights @ kl_to_gaussian(reverse(before, beta, z)))


def mean_kl_over_steps(x: ScalarMixture, schedule: NoiseSchedule, steps: Sequence[int]) -> Float64[np.ndarray, " n"]:
    """`mean_kl` at some t's ≥ 1 of a schedule."""
    return np.array([mean_kl(diffused(x, schedule.alpha[t - 1]), schedule.beta[t]) for t in steps])
