"""The variational bound against densities, sums and bounds that are known."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch.distributions import Independent, Normal, kl_divergence

from ddpm_utils.diffusion.exact import AffineDecoder
from ddpm_utils.diffusion.forward import diffuse, posterior
from ddpm_utils.diffusion.likelihood import (
    BIN,
    VARIANCES,
    fitted_variance,
    last_means,
    last_terms,
    log_bin,
    prior_terms,
    variational_bound,
)
from ddpm_utils.diffusion.schedules import constant, cosine
from ddpm_utils.evaluation.losses import loss_by_step


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def gaussian() -> torch.Tensor:
    """Images of 2 × 2 correlated Gaussian pixels that stay within [−0.5, 0.5], rounded to grey levels."""
    mixing = torch.tensor([[1.0, 0, 0, 0], [0.8, 0.6, 0, 0], [0.5, 0.2, 0.7, 0], [0, 0.3, 0.3, 0.8]]) / 9
    x = (draw(20_000, 4) @ mixing.T).clamp(-0.49, 0.49)
    return ((x + 0.5) * 255).round().reshape(-1, 1, 2, 2) / 255 - 0.5


def test_grey_levels_share_all_of_the_probability():
    levels = torch.arange(256, dtype=torch.float64) / 255 - 0.5
    for mean, deviation in [(0.0, 0.1), (-0.5, 0.02), (0.7, 0.3), (0.1, 0.001)]:
        probabilities = log_bin(levels, torch.full_like(levels, mean), deviation).exp()
        assert probabilities.sum().item() == pytest.approx(1, abs=1e-9)
        expected = norm.cdf(levels[1:-1] + BIN / 2, mean, deviation) - norm.cdf(levels[1:-1] - BIN / 2, mean, deviation)
        np.testing.assert_allclose(probabilities[1:-1], expected, atol=1e-12)


def test_far_away_levels_are_improbable_but_not_impossible():
    x, mean = torch.tensor([0.3, -0.3], dtype=torch.float64), torch.tensor([-0.3, 0.3], dtype=torch.float64)
    found = log_bin(x, mean, 0.01)
    # the bin's nearer edge dominates: log of the density there times the tail's length
    edge = (0.6 - BIN / 2) / 0.01
    expected = -(edge**2) / 2 - math.log(edge * math.sqrt(2 * math.pi))
    torch.testing.assert_close(found, torch.full((2,), expected, dtype=torch.float64), rtol=0, atol=0.01)


def test_prior_term_is_a_divergence(gaussian):
    schedule = constant(beta=0.05, T=20)
    alpha = float(schedule.alpha[-1])
    q = Independent(Normal(alpha**0.5 * gaussian.double(), (1 - alpha) ** 0.5), 3)
    p = Independent(Normal(torch.zeros(1, 2, 2, dtype=torch.float64), 1.0), 3)
    expected = kl_divergence(q, p).mean().item() / 4 / math.log(2)
    assert prior_terms(gaussian, schedule).mean().item() == pytest.approx(expected, rel=1e-6)


def test_prior_term_of_the_low_beta_run(mnist):
    assert prior_terms(mnist.test.images, constant(beta=0.001, T=2000)).mean().item() == pytest.approx(0.030, abs=5e-4)


@pytest.mark.parametrize("variance", VARIANCES)
def test_terms_are_divergences_of_the_reverse_steps(variance, gaussian):
    """KL(q(z_{t−1}|z_t, x) ‖ p(z_{t−1}|z_t)), averaged over draws, for a decoder that is wrong."""
    schedule, t = constant(beta=0.1, T=10), 6

    def decoder(z, time):
        return 0.7 * z + 0.1

    n = len(gaussian)
    noise = draw(n, 1, 2, 2, seed=1)
    z = diffuse(gaussian, t, noise, schedule)
    g = decoder(z, None)
    loss = np.full(11, (g - noise).double().square().mean().item())
    bound = variational_bound(decoder, schedule, gaussian, loss, np.zeros(11), noise, variance)
    mean, posterior_variance = posterior(z, gaussian, t, schedule)
    sigma = {"beta": 0.1, "posterior": posterior_variance.item()}
    own = (z - 0.1 / (1 - schedule.alpha[t]) ** 0.5 * g) / 0.9**0.5
    sigma["optimal"] = posterior_variance.item() + (mean - own).double().square().mean().item()
    q = Normal(mean.double(), posterior_variance.double().sqrt())
    p = Normal(own.double(), torch.tensor(sigma[variance]).double().sqrt())
    expected = kl_divergence(q, p).mean().item() / math.log(2)
    assert bound.steps[t] == pytest.approx(expected, rel=1e-4)


def test_the_bound_is_tight_for_gaussian_images(gaussian):
    """With the exact decoder and a thousand steps it comes within 0.02 bits of the true density's, from above."""
    schedule = cosine(T=1000)
    decoder = AffineDecoder(gaussian, schedule)
    images = gaussian[:5000]
    loss, error = loss_by_step(decoder, schedule, images, rounds=20)
    flat = gaussian.flatten(1).double().numpy()
    density = multivariate_normal(flat.mean(0), np.cov(flat.T))
    true = (-density.logpdf(images.flatten(1).double().numpy()).mean() / 4 - math.log(BIN)) / math.log(2)
    bounds = {
        v: variational_bound(decoder, schedule, images, loss, error, draw(5000, 1, 2, 2, seed=1), v) for v in VARIANCES
    }
    for bound in bounds.values():
        assert bound.total > true - 3 * bound.error
    assert bounds["optimal"].total == pytest.approx(true, abs=0.02)
    assert bounds["optimal"].steps.sum() <= min(bound.steps.sum() for bound in bounds.values())


def test_the_fitted_variance_is_the_best(gaussian):
    means = gaussian + 0.03 * draw(*gaussian.shape)
    best = fitted_variance(gaussian, means)
    assert best == pytest.approx(0.03**2, rel=0.05)
    found, *others = (last_terms(gaussian, means, best * k).mean() for k in (1, 0.8, 1.25))
    assert found <= min(others)


def test_unknown_variances_are_refused(gaussian):
    schedule = constant(beta=0.1, T=3)
    with pytest.raises(ValueError, match="variance must be one of beta, posterior, optimal, not 'none'"):
        variational_bound(lambda z, t: z, schedule, gaussian, np.zeros(4), np.zeros(4), gaussian, "none")


def test_a_chain_of_one_step_has_no_middle_terms(gaussian):
    schedule = constant(beta=0.5, T=1)
    loss = np.array([0, 0.2])
    for variance in VARIANCES:
        bound = variational_bound(lambda z, t: z, schedule, gaussian, loss, loss, draw(*gaussian.shape), variance)
        assert bound.steps.sum() == 0
        assert math.isfinite(bound.total)
        assert bound.total == pytest.approx(bound.prior + bound.last)


def test_the_error_is_that_of_the_ends_and_of_every_loss(gaussian):
    """The bound is affine in the loss at each t; what the losses err by, and the mean over images, add in squares."""
    schedule, images = constant(beta=0.1, T=5), gaussian[:400]
    noise, loss = draw(400, 1, 2, 2), np.linspace(0, 0.5, 6)

    def bound(loss, error, images=images, noise=noise):
        return variational_bound(lambda z, t: z / 2, schedule, images, loss, error, noise, "beta")

    exact, error = bound(loss, np.zeros(6)), np.linspace(0.1, 0.6, 6)
    ends = np.array([bound(loss, error, images[[i]], noise[[i]])[::2] for i in range(400)]).sum(1)  # prior and last
    assert exact.error == pytest.approx(ends.std(ddof=1) / 20, rel=1e-4)
    shifts = [bound(loss + error * (np.arange(6) == t), error).total - exact.total for t in range(6)]
    assert min(shifts[2:]) > 0
    assert bound(loss, error).error == pytest.approx(np.sqrt(exact.error**2 + np.square(shifts).sum()), rel=1e-4)


def test_the_error_of_one_image_and_of_two(gaussian):
    """One image has no spread that could be known; two have."""
    schedule, loss = constant(beta=0.1, T=5), np.full(6, 0.5)
    errors = [
        variational_bound(lambda z, t: z, schedule, gaussian[:n], loss, 0 * loss, draw(n, 1, 2, 2)).error
        for n in (1, 2)
    ]
    assert errors[0] == 0
    assert errors[1] > 0


def test_the_variance_is_beta_unless_another_is_asked_for(gaussian):
    schedule, loss = constant(beta=0.1, T=5), np.full(6, 0.5)
    given = (lambda z, t: z, schedule, gaussian, loss, 0 * loss, draw(*gaussian.shape))
    assert variational_bound(*given).total == variational_bound(*given, "beta").total


def test_the_fitted_variance_is_at_most_1(gaussian):
    assert fitted_variance(gaussian, gaussian + 5) == pytest.approx(1, rel=1e-3)


def test_the_optimal_last_step_is_the_best_of_all(gaussian):
    schedule, loss, images = constant(beta=0.1, T=3), np.full(4, 0.5), gaussian[:900]
    noise = draw(900, 1, 2, 2)

    def decoder(z, time):
        return 0.5 * z

    found = variational_bound(decoder, schedule, images, loss, 0 * loss, noise, "optimal").last
    means = last_means(decoder, schedule, images, noise)
    others = [last_terms(images, means, variance).mean().item() for variance in np.geomspace(1e-5, 1, 100)]
    assert min(others) - 1e-3 < found <= min(others) + 1e-6
    assert found < last_terms(images, means, 0.1).mean() - 0.01


def test_refuses_fewer_noises_or_means_than_images(gaussian, unchecked):
    """Also where whole batches are missing, so that what is left fits."""
    with pytest.raises(ValueError, match="shorter"):
        last_means(lambda z, t: z, constant(beta=0.1, T=3), gaussian[:300], gaussian[:128])
    with pytest.raises(ValueError, match="shorter"):
        last_terms(gaussian[:1200], gaussian[:500], 0.1)
