"""The diffusion chain of one pixel, exactly: if x is a Gaussian mixture, so is every density of the chain.

    q(z_t)            components √α_t·μ_k, α_t·v_k + 1 − α_t                          `diffused`
    q(z_{t−1}|z_t)    each component of q(z_{t−1}) times the likelihood of z_t        `reverse`

A decoder puts one Gaussian in the place of q(z_{t−1}|z_t). What that loses at best, with the right mean and
variance, is the KL divergence of the two, by quadrature (`kl_to_gaussian`, `mean_kl`). All in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike
from scipy.special import logsumexp, softmax

from ddpm_utils.latent_model import Values, log_normal
from ddpm_utils.schedules import NoiseSchedule

WIDTH = 12.0  # quadrature runs over so many standard deviations to both sides, where a Gaussian has fallen to 1e-32
POINTS = 1501  # of the quadrature over z_{t−1}; as smooth as these densities are, the trapezoidal rule is then exact
CONDITIONS = 201  # of the one over z_t


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
            return logsumexp(log_normal(z, self.means, np.sqrt(self.variances)) + np.log(self.weights), axis=-1)

    @property
    def mean(self) -> Values:
        """E z."""
        return (self.weights * self.means).sum(-1)

    @property
    def variance(self) -> Values:
        """Var z, within the components and between them."""
        apart = self.means - self.mean[..., None]
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
