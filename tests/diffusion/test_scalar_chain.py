"""The exact chain of one pixel against Gaussian closed forms, brute-force integrals and simulation."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad

from ddpm_utils.diffusion import schedules
from ddpm_utils.diffusion.forward import diffuse, posterior
from ddpm_utils.diffusion.one_dimension import (
    ScalarMixture,
    diffused,
    kl_to_gaussian,
    mean_kl,
    mean_kl_over_steps,
    reverse,
    two_peaks,
)


@pytest.fixture
def uneven():
    return ScalarMixture(np.array([0.2, 0.5, 0.3]), np.array([-1.0, 0.3, 0.8]), np.array([0.01, 0.3, 0.05]))


def test_moments_and_density_by_integration(uneven):
    def moment(k):
        return quad(lambda z: z**k * np.exp(uneven.log_density(z)), -8, 8, points=[-1, 0.3, 0.8], limit=200)[0]

    assert moment(0) == pytest.approx(1, abs=1e-9)
    assert uneven.mean == pytest.approx(moment(1), abs=1e-9)
    assert uneven.variance == pytest.approx(moment(2) - moment(1) ** 2, abs=1e-9)


def test_two_peaks_are_one_distribution():
    peaks = two_peaks(position=0.4, deviation=0.1)
    assert quad(lambda z: np.exp(peaks.log_density(z)), -2, 2, points=[-0.4, 0.4])[0] == pytest.approx(1)
    assert peaks.mean == pytest.approx(0)
    assert peaks.variance == pytest.approx(0.4**2 + 0.1**2)


def test_diffused_is_what_the_encoder_makes(uneven):
    schedule, t, count = schedules.constant(beta=0.05, T=20), 12, 200_000
    generator = np.random.default_rng(0)
    which = generator.choice(3, count, p=uneven.weights)
    x = torch.tensor(generator.normal(uneven.means[which], np.sqrt(uneven.variances[which])))[:, None]
    z = diffuse(x, t, torch.tensor(generator.normal(size=(count, 1))), schedule)[:, 0].numpy()
    fine = np.linspace(-6, 6, 4001)
    distribution = np.cumsum(np.exp(diffused(uneven, schedule.alpha[t]).log_density(fine))) * (fine[1] - fine[0])
    assert stats.kstest(z, lambda value: np.interp(value, fine, distribution)).pvalue > 0.01


def test_reverse_is_bayes_rule(uneven):
    """q(z_t|z_{t−1})·q(z_{t−1})/q(z_t) at any z_{t−1} and z_t; and q(z_t) is q(z_{t−1}) after one more step."""
    beta, after = 0.2, diffused(uneven, 1 - 0.2)
    for z in (-1.3, 0.0, 0.9):
        before = np.linspace(-2, 2, 41)
        likelihood = stats.norm.logpdf(z, np.sqrt(1 - beta) * before, np.sqrt(beta))
        expected = likelihood + uneven.log_density(before) - after.log_density(z)
        np.testing.assert_allclose(reverse(uneven, beta, z).log_density(before), expected, atol=1e-10)


def test_reverse_of_one_gaussian_is_the_posterior_of_a_narrow_one():
    """With x a point q(z_{t−1}|z_t) is q(z_{t−1}|z_t, x), of `forward.posterior`."""
    schedule, t, x, z = schedules.cosine(T=10), 4, 0.4, -0.7
    point = ScalarMixture(np.ones(1), np.array([x]), np.array([1e-14]))
    found = reverse(diffused(point, schedule.alpha[t - 1]), schedule.beta[t], z)
    mean, variance = posterior(torch.tensor([[z]]).double(), torch.tensor([[x]]).double(), t, schedule)
    assert found.mean == pytest.approx(mean.item(), abs=1e-7)
    assert found.variance == pytest.approx(variance.item(), abs=1e-7)


def test_many_conditions_at_once(uneven):
    z = np.array([[-1.0, 0.2], [0.5, 3.0]])
    together = kl_to_gaussian(reverse(uneven, 0.3, z))
    assert together.shape == (2, 2)
    assert together[1, 0] == pytest.approx(float(kl_to_gaussian(reverse(uneven, 0.3, 0.5))), rel=1e-12)


def test_a_gaussian_loses_nothing_at_any_beta():
    """Where q(z_{t−1}) is Gaussian already, no β is too large."""
    gaussian = ScalarMixture(np.full(2, 0.5), np.array([0.3, 0.3]), np.full(2, 0.2))
    for beta in (0.001, 0.1, 0.9):
        assert mean_kl(gaussian, beta) == pytest.approx(0, abs=1e-12)


def test_divergence_by_another_integrator(uneven):
    found, mean, deviation = kl_to_gaussian(uneven), uneven.mean, np.sqrt(uneven.variance)

    def integrand(z):
        log_density = uneven.log_density(z)
        return np.exp(log_density) * (log_density - stats.norm.logpdf(z, mean, deviation))

    assert found == pytest.approx(quad(integrand, -8, 8, points=[-1, 0.3, 0.8], limit=400)[0], abs=1e-9)


def test_known_values_at_fixed_alpha():
    """Two peaks at ±0.5 ± 0.05, α_{t−1} = 0.9, z_t = 0: from 1.6e-8 at β = 0.001 to 1.4e-2 at β = 0.1."""
    before = diffused(two_peaks(), 0.9)
    found = [float(kl_to_gaussian(reverse(before, beta, 0.0))) for beta in (0.001, 0.1)]
    assert found == pytest.approx([1.6e-8, 1.4e-2], rel=0.03)


def test_small_steps_are_gaussian():
    """At fixed α_{t−1} the loss of a step falls with β, faster than β²."""
    before = diffused(two_peaks(), 0.9)
    losses = [mean_kl(before, beta) for beta in (0.1, 0.01, 0.001)]
    assert losses[0] > 100 * losses[1] > 10_000 * losses[2]
    assert all(loss > 0 for loss in losses)


def test_mean_over_z_by_another_integrator(uneven):
    beta, after = 0.2, diffused(uneven, 0.8)

    def integrand(z):
        return np.exp(after.log_density(z)) * kl_to_gaussian(reverse(uneven, beta, z))

    expected = quad(integrand, -6, 6, points=[-1, 0.3, 0.8], limit=200)[0]
    assert mean_kl(uneven, beta) == pytest.approx(expected, rel=1e-4)


def test_the_last_step_back_starts_from_x_itself():
    """α_{t−1} at t = 1 is 1, so that q(z_0) is q(x)."""
    schedule = schedules.linear(T=20)
    found = mean_kl_over_steps(two_peaks(), schedule, [1, 7])
    before = diffused(two_peaks(), schedule.alpha[6])
    expected = [mean_kl(two_peaks(), schedule.beta[1]), mean_kl(before, schedule.beta[7])]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_large_beta_is_further_along_at_the_same_step():
    """At the same t, once past the first few, a large β loses less: q(z_{t−1}) has become Gaussian already."""
    low, high = schedules.constant(beta=0.001, T=200), schedules.constant(beta=0.1, T=200)
    small, large = (mean_kl_over_steps(two_peaks(), schedule, [100])[0] for schedule in (low, high))
    assert large < small
