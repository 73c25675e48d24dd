"""The one-dimensional latent variable model against its linear case, which is Gaussian throughout."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import trapezoid

from ddpm_utils.diffusion.one_dimension import LatentModel

A, B, SIGMA = 1.7, -0.4, 0.6
X = np.linspace(-4, 4, 9)


def wave(z):
    return z / 2 + np.sin(3 * z)


@pytest.fixture
def linear():
    """x = a·z + b + σ·noise, hence p(x) = N(b, a² + σ²)."""
    return LatentModel(lambda z: A * z + B, SIGMA)


def linear_posterior(x):
    """Mean and deviation of p(z|x) of the linear model."""
    precision = 1 + A**2 / SIGMA**2
    return A * (x - B) / SIGMA**2 / precision, precision**-0.5


def test_linear_density_is_gaussian(linear):
    expected = stats.norm.logpdf(X, B, np.hypot(A, SIGMA))
    np.testing.assert_allclose(linear.log_density(X), expected, atol=1e-12)
    np.testing.assert_allclose(linear.density(X), np.exp(expected), rtol=1e-12)
    assert linear.density(X).dtype == np.float64


def test_linear_posterior_is_gaussian(linear):
    z = np.linspace(-3, 3, 50)
    for x in X:
        mean, deviation = linear_posterior(x)
        np.testing.assert_allclose(linear.posterior(z, x), stats.norm.pdf(z, mean, deviation), atol=1e-12)


def test_elbo_reaches_log_density_at_the_exact_posterior(linear):
    for x in X:
        mean, deviation = linear_posterior(x)
        assert linear.elbo(x, mean, deviation) == pytest.approx(linear.log_density(x), abs=1e-10)
        assert linear.gap(x, mean, deviation) == pytest.approx(0, abs=1e-10)
        assert linear.elbo(x, mean + 0.1, deviation) < linear.log_density(x) - 1e-3


def test_gap_of_the_linear_model_is_the_kl_of_two_gaussians(linear):
    x, mean, deviation = 1.3, -0.5, 0.8
    m, s = linear_posterior(x)
    expected = np.log(s / deviation) + (deviation**2 + (mean - m) ** 2) / (2 * s**2) - 0.5
    assert linear.gap(x, mean, deviation) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("mean", [-2.0, 0.0, 0.7])
@pytest.mark.parametrize("deviation", [0.05, 0.3, 1.0])
def test_elbo_plus_gap_is_log_density(mean, deviation):
    model = LatentModel(wave, 0.2)
    for x in X / 2:
        assert model.elbo(x, mean, deviation) + model.gap(x, mean, deviation) == pytest.approx(
            model.log_density(x), rel=1e-9
        )
        assert model.elbo(x, mean, deviation) <= model.log_density(x)


def test_densities_integrate_to_one():
    model = LatentModel(wave, 0.2)
    x, z = np.linspace(-8, 8, 4001), np.linspace(-8, 8, 4001)
    assert trapezoid(model.density(x), x) == pytest.approx(1, abs=1e-9)
    assert trapezoid(model.posterior(z, 0.3), z) == pytest.approx(1, abs=1e-9)


def test_samples_follow_the_density():
    model = LatentModel(wave, 0.2)
    z, x = model.sample(20_000, torch.Generator().manual_seed(0))
    fine = np.linspace(-8, 8, 4001)
    distribution = np.cumsum(model.density(fine)) * (fine[1] - fine[0])
    assert stats.kstest(x, lambda value: np.interp(value, fine, distribution)).pvalue > 0.01
    assert stats.kstest(z, stats.norm.cdf).pvalue > 0.01
    again = model.sample(20_000, torch.Generator().manual_seed(0))[1]
    np.testing.assert_array_equal(x, again)


def test_refuses_what_the_quadrature_cannot_do():
    with pytest.raises(ValueError, match="sigma must be positive"):
        LatentModel(wave, 0.0)
    model = LatentModel(wave, 0.2)
    with pytest.raises(ValueError, match="must be positive"):
        model.elbo(0.0, 0.0, -1.0)
    with pytest.raises(ValueError, match="too narrow"):
        model.gap(0.0, 9.0, 1.0)
