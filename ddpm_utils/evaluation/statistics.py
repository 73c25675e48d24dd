"""Statistics for comparisons of feature sets: FID∞, permutation tests, precision and recall.

All functions take features (n, width), as `metrics.features` returns them, and draw random numbers from a seed only.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddpm_utils.data.checks import SMALLEST
from ddpm_utils.evaluation.metrics import check_features

First = Float[Tensor, "n features"]
Second = Float[Tensor, "m features"]
Real = Float[Tensor, "k features"]
POINTS = 15  # numbers of images in the fit of FID∞, as in Chong & Forsyth (2020)
HALF_SAMPLES = 20  # repeated fits, for the interval of FID∞
NORMAL_95 = 1.96  # standard deviations on each side of a 95 % interval


class _Moments(NamedTuple):
    """The mean and the covariance of features, both in float64."""

    mean: Float[Tensor, " features"]
    covariance: Float[Tensor, "features features"]


def _check(**sets: Tensor) -> None:
    """Raise a ValueError for features that `metrics.fid` refuses, and for shapes other than (n, width)."""
    check_features(**sets)
    shapes = [tuple(features.shape) for features in sets.values()]
    if any(len(shape) != 2 or shape[1] != shapes[0][1] for shape in shapes):
        found = ", ".join(map(str, shapes))
        raise ValueError(f"features must have the shape (n, width), with the same width in all sets (got {found}).")


def _moments(features: First) -> _Moments:
    """Return the mean and the unbiased covariance of features."""
    features = features.double()
    return _Moments(features.mean(0), features.T.cov())


def _root(covariance: Float[Tensor, "features features"]) -> Float[Tensor, "features features"]:
    """Return a matrix R with R Rᵀ = covariance, from its eigenvectors and eigenvalues."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()


def _frechet(fake: _Moments, real: _Moments, root: Float[Tensor, "features features"]) -> float:
    """Return ‖μ_f − μ_r‖² + tr(Σ_f + Σ_r − 2 (Σ_f Σ_r)^½), which is the FID.

    Σ_f Σ_r has the eigenvalues of the symmetric matrix Rᵀ Σ_f R. The trace of the square root of Σ_f Σ_r is the sum
    of the square roots of these eigenvalues.

    Args:
        root: R, with R Rᵀ = Σ_r.
    """
    shared = torch.linalg.eigvalsh(root.T @ fake.covariance @ root).clamp(min=0).sqrt().sum()
    shift = (fake.mean - real.mean).square().sum()
    return (shift + fake.covariance.trace() + real.covariance.trace() - 2 * shared).item()


def _draw(features: First, count: int, generator: torch.Generator) -> Float[Tensor, "count features"]:
    """Draw `count` of the features without replacement."""
    return features[torch.randperm(len(features), generator=generator)[:count]]


def _fit(fake: First, real: Second, points: int, generator: torch.Generator) -> float:
    """Return the intercept of a least-squares line through the FID at n images over 1/n, n = N/4 … N."""
    count = min(len(fake), len(real))
    counts = torch.linspace(count / 4, count, points).round().int().tolist()
    values = []
    for n in counts:
        moments = _moments(_draw(real, n, generator))
        values.append(_frechet(_moments(_draw(fake, n, generator)), moments, _root(moments.covariance)))
    return float(np.polyfit([1 / n for n in counts], values, 1)[1])


def fid_infinity(
    fake: First, real: Second, *, points: int = POINTS, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Return FID∞, the FID extrapolated to infinitely many images, with a 95 % confidence interval.

    The FID of n fakes and n reals is approximately FID∞ + c/n. The line is fitted to n = N/4 … N, where N is the
    smaller number of images. Each n has its own draw of fakes and of reals, without replacement.

    The interval is FID∞ ± 1.96 · deviation. The deviation is the standard deviation of FID∞ over random halves of the
    fakes and of the reals. It is not rescaled: the variance of a mean over a random half, given all N values, is
    (2/N − 1/N) σ² = σ²/N, which is the variance of the mean of N values. The interval is conservative (too wide) where
    both sets have the same distribution, because the variance of the FID then falls with 1/N² and not with 1/N.

    Args:
        fake: features (n, width), n ≥ 160. A quarter of a half, n/8, should be larger than the number of directions in
            which the features vary. The FID is not linear in 1/n for fewer features.
        real: features (m, width), m ≥ 160.
        points: number of values of n in the fit, at least 3.

    Returns:
        FID∞ and its interval, in squared units of the features. Near 0 both may be negative, because FID∞ is
        approximately unbiased.

    Raises:
        ValueError: if there are features that are not finite, too few features, different widths, or too few points.

    Reference: Chong & Forsyth (2020), Effectively unbiased FID and Inception Score and where to find them.
    """
    _check(fake=fake, real=real)
    if points < 3:
        raise ValueError(f"points must be at least 3 (got {points}).")
    if min(len(fake), len(real)) < 8 * SMALLEST:
        raise ValueError(f"fake and real must hold at least {8 * SMALLEST} images (got {len(fake)} and {len(real)}).")
    generator = torch.Generator().manual_seed(seed)
    value = _fit(fake, real, points, generator)
    repeated = []
    for _ in range(HALF_SAMPLES):
        half, real_half = (_draw(features, len(features) // 2, generator) for features in (fake, real))
        repeated.append(_fit(half, real_half, points, generator))
    margin = NORMAL_95 * torch.tensor(repeated, dtype=torch.float64).std().item()
    return value, (value - margin, value + margin)


def permutation_test(
    first: First,
    second: Second,
    statistic: Callable[[Tensor, Tensor], float],
    *,
    permutations: int = 200,
    seed: int = 0,
) -> float:
    """Return the p-value of a permutation test that two feature sets are exchangeable.

    p = (1 + number of permutations with a statistic ≥ the observed one) / (1 + permutations).

    Args:
        first: features (n, width), n ≥ 20.
        second: features (m, width), m ≥ 20.
        statistic: takes two sets of n and m features; larger values mean a larger difference.
        permutations: number of random divisions of all features into n and m, at least 1.

    Returns:
        p, between 1 / (1 + permutations) and 1. It is uniform if both sets have the same distribution.

    Raises:
        ValueError: if there are features that are not finite, too few features, different widths, or no permutations.

    Reference: Phipson & Smyth (2010), Permutation p-values should never be zero.
    """
    _check(first=first, second=second)
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1 (got {permutations}).")
    generator = torch.Generator().manual_seed(seed)
    pooled, observed, as_large = torch.cat([first, second]), statistic(first, second), 0
    for _ in range(permutations):
        shuffled = pooled[torch.randperm(len(pooled), generator=generator)]
        as_large += statistic(shuffled[: len(first)], shuffled[len(first) :]) >= observed
    return (1 + as_large) / (1 + permutations)


def fid_difference_test(first: First, second: Second, real: Real, *, permutations: int = 200, seed: int = 0) -> float:
    """Return the p-value of a permutation test on |FID(first, real) − FID(second, real)|.

    The null hypothesis is that first and second have the same distribution. Use equal numbers of images: the bias of
    the FID depends on the number. Unequal numbers keep the p-value valid, but they lower the power of the test.

    Args:
        first: features (n, width) of the first sampler or network, n ≥ 20.
        second: features (m, width) of the second one, m ≥ 20.
        real: features (k, width) of the real images for both FIDs, k ≥ 20.
        permutations: number of random divisions of first and second, at least 1.

    Returns:
        p, between 1 / (1 + permutations) and 1.

    Raises:
        ValueError: as `permutation_test` does, also for the real features.

    Reference: Heusel et al. (2017) for the FID; the test is `permutation_test`.
    """
    _check(first=first, second=second, real=real)
    reference = _moments(real)
    root = _root(reference.covariance)

    def difference(one: Tensor, other: Tensor) -> float:
        return abs(_frechet(_moments(one), reference, root) - _frechet(_moments(other), reference, root))

    return permutation_test(first.double(), second.double(), difference, permutations=permutations, seed=seed)


def precision_recall(fake: First, real: Second, k: int = 3) -> tuple[float, float]:
    """Return the precision and the recall of generated images; 1 is best for both.

    Precision is the fraction of fakes that lie within the manifold of the reals: at most as far from some real as this
    real's k-th nearest real neighbour. Recall is the fraction of reals within the manifold of the fakes.

    Args:
        fake: features (n, width), n ≥ 20; compare only values with equal numbers of images.
        real: features (m, width), m ≥ 20.
        k: which nearest neighbour gives the radius, from 1 to the smaller number of images less one.

    Returns:
        Precision and recall, each from 0 to 1.

    Raises:
        ValueError: if there are features that are not finite, too few features, different widths, or if k is invalid.

    Reference: Kynkäänniemi et al. (2019), Improved precision and recall metric for assessing generative models.
    """
    _check(fake=fake, real=real)
    largest = min(len(fake), len(real)) - 1
    if not 1 <= k <= largest:
        raise ValueError(f"k must be between 1 and {largest} (got {k}).")

    def within(points: Tensor, centres: Tensor) -> float:
        radii = _distances(centres, centres).topk(k + 1, largest=False).values[:, -1]  # the nearest is itself
        return (_distances(points, centres) <= radii).any(1).double().mean().item()

    return within(fake, real), within(real, fake)


def _distances(points: First, centres: Second) -> Float[Tensor, "n m"]:
    """Return Euclidean distances without matrix products, which would make the distance of equal points positive."""
    return torch.cdist(points.double(), centres.double(), compute_mode="donot_use_mm_for_euclid_dist")
