"""The pictures' curves against quadrature and closed forms, and their titles against the numbers."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.integrate import trapezoid

from ddpm_utils.diffusion.one_dimension import LatentModel, two_peaks
from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.lab.densities import EvidenceBound, LatentModelPicture, PosteriorPicture, ReverseStep


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def mass(line) -> float:
    """The area under a curve."""
    return float(trapezoid(line.get_ydata(), line.get_xdata()))


def numbers(figure) -> list[float]:
    """All numbers in a figure's title."""
    return [float(found) for found in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", figure.get_suptitle())]


def test_latent_model_shows_its_density_at_every_sigma():
    picture = LatentModelPicture(lambda z: 2 * z)  # then x ~ N(0, 4 + σ²)
    for sigma in (0.5, 1.5):
        assert picture(sigma).get_suptitle() == f"A latent variable model with σ = {sigma}"
        density, x = picture.margin.get_data()
        variance = 4 + sigma**2
        expected = np.exp(-(x**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
        np.testing.assert_allclose(density, expected, rtol=1e-6)
        np.testing.assert_allclose(picture.above.get_ydata() - picture.below.get_ydata(), 2 * sigma)


def test_latent_model_shows_samples():
    rng = np.random.default_rng(0)
    picture = LatentModelPicture(lambda z: z, samples=(rng.normal(size=400), rng.normal(size=400)))
    assert any(len(line.get_xdata()) == 300 for line in picture(0.2).axes[0].lines + picture.figure.axes[1].lines)


def test_evidence_bound_touches_at_the_exact_posterior():
    """f(z) = z, σ = 1: the posterior is N(x/2, 1/2), where the gap closes; elsewhere the gap is a KL divergence."""
    picture = EvidenceBound(LatentModel(lambda z: z, 1.0))
    exact = 0.5**0.5
    *_, gap = numbers(picture(1.0, 0.5, exact))
    assert gap == 0
    *_, evidence, bound, gap = numbers(picture(1.0, 1.0, exact))
    assert gap == pytest.approx(0.5**2 / (2 * 0.5), abs=1e-3)  # (difference of means)²/(2·variance)
    assert evidence - bound == pytest.approx(gap, abs=2e-3)
    assert picture.here.get_ydata()[0] == pytest.approx(-gap, abs=1e-3)
    means, curve = picture.bound.get_data()
    np.testing.assert_allclose(curve, -((means - 0.5) ** 2), atol=1e-9)


def test_posterior_is_a_point_at_the_first_step():
    picture = PosteriorPicture(constant(beta=0.1, T=10))
    picture(1, 0.5)
    np.testing.assert_allclose(picture.after.get_xdata(), [0.5, 0.5])
    picture(5, -0.5)
    assert mass(picture.after) == pytest.approx(1, abs=1e-3)
    assert picture.x.get_xdata() == [-0.5, -0.5]


def test_reverse_step_shows_its_divergence_and_its_densities():
    picture = ReverseStep(two_peaks())
    assert picture(0.1, 0.9, 0.0).get_suptitle().endswith("KL to a Gaussian 0.014 nats")
    for line in (picture.before, picture.after):
        assert mass(line) == pytest.approx(1, abs=1e-3)
    values, edges, _ = picture.product.get_data()
    centres = (edges[1:] + edges[:-1]) / 2
    assert trapezoid(values, centres) == pytest.approx(1, abs=1e-3)
    assert trapezoid(values * centres**2, centres) == pytest.approx(1, abs=0.01)  # in its own standard deviations
    assert picture(0.001, 0.9, 0.0).get_suptitle().endswith("KL to a Gaussian 1.6e-08 nats")
