"""Closed forms and quadrature, in float64: what a model's numbers can be held against.

So far: the latent variable model in one dimension, p(x) = ∫ p(x|z) p(z) dz with p(z) = N(0, 1).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import ArrayLike
from scipy.special import logsumexp

LIMIT = 10.0  # quadrature over z runs from −LIMIT to LIMIT, where N(0, 1) has fallen to 1e-22
POINTS = 8001

Values = Float64[np.ndarray, "..."] | np.float64


def log_normal(value: ArrayLike, mean: ArrayLike, deviation: ArrayLike) -> Values:
    """log N(value; mean, deviation²); the three broadcast."""
    scaled = (np.asarray(value, dtype=np.float64) - mean) / deviation
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
        return np.linspace(-LIMIT, LIMIT, POINTS)

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
