"""The closed-form decoders against sums over few points, Monte Carlo, and the shipped networks."""

import functools

import numpy as np
import pytest
import torch

from ddpm_utils import data
from ddpm_utils.diffusion.exact import AffineDecoder, ExactDecoder, identity_loss, optimal_variance
from ddpm_utils.diffusion.forward import diffuse
from ddpm_utils.diffusion.samplers import MatchedStart, ancestral, sample
from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.evaluation.losses import loss_profile, losses_at, steps_by_signal
from ddpm_utils.training.experiments import PUBLISHED, Experiment
from ddpm_utils.training.parameters import NETWORKS

SCHEDULE = constant(beta=0.02, T=100)


def draw(*shape: int, seed: int = 0, **options) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), **options)


@pytest.fixture
def points() -> torch.Tensor:
    """Five images of 2 × 3 pixels."""
    return draw(5, 1, 2, 3) / 3


def test_posterior_mean_is_a_sum_over_the_points(points):
    decoder = ExactDecoder(points, SCHEDULE)
    for t in (1, 10, 50, 100):
        z = diffuse(points[:2], t, draw(2, 1, 2, 3, seed=1), SCHEDULE)
        alpha = SCHEDULE.alpha[t]
        for image, mean in zip(z, decoder.posterior_mean(z, torch.full((2,), t / 100)), strict=True):
            weights = [np.exp(-(image - alpha**0.5 * x).square().sum().item() / (2 * (1 - alpha))) for x in points]
            expected = sum(w * x for w, x in zip(weights, points, strict=True)) / sum(weights)
            torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5)


def test_two_points_give_a_hyperbolic_tangent():
    """E[x|z] of x = ±a is a·tanh(√α·a·z/(1−α))."""
    a, t = 0.4, 60
    decoder = ExactDecoder(torch.tensor([a, -a]).reshape(2, 1, 1, 1), SCHEDULE)
    z = torch.linspace(-2, 2, 9).reshape(9, 1, 1, 1)
    alpha = float(SCHEDULE.alpha[t])
    expected = a * torch.tanh(alpha**0.5 * a * z / (1 - alpha))
    torch.testing.assert_close(decoder.posterior_mean(z, torch.full((9,), t / 100)), expected, rtol=1e-5, atol=1e-6)


def test_one_batch_may_hold_different_steps(points):
    decoder = ExactDecoder(points, SCHEDULE)
    affine = AffineDecoder(points, SCHEDULE)
    z, time = draw(3, 1, 2, 3), torch.tensor([0.01, 0.3, 1.0])
    for which in (decoder, affine):
        together = which(z, time)
        for i in range(3):
            torch.testing.assert_close(together[i : i + 1], which(z[i : i + 1], time[i : i + 1]))


def test_the_affine_decoder_is_exact_for_gaussian_images():
    """Its estimate is that of a posterior mean by Bayes' rule, written with precision matrices."""
    images = (draw(500, 4, dtype=torch.float64) @ draw(4, 4, seed=1, dtype=torch.float64)).float().reshape(-1, 1, 2, 2)
    decoder = AffineDecoder(images, SCHEDULE)
    t, alpha = 30, float(SCHEDULE.alpha[30])
    z = draw(3, 1, 2, 2, seed=2)
    flat = images.flatten(1).double()
    mean, covariance = flat.mean(0), torch.cov(flat.T, correction=0)
    precision = covariance.inverse() + alpha / (1 - alpha) * torch.eye(4)
    right = covariance.inverse() @ mean + alpha**0.5 / (1 - alpha) * z.flatten(1).double()
    x = torch.linalg.solve(precision, right.T).T
    expected = (z.flatten(1) - alpha**0.5 * x) / (1 - alpha) ** 0.5
    found = decoder(z, torch.full((3,), t / 100)).flatten(1)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("t", [1, 20, 100])
def test_losses_are_what_the_decoders_lose(t):
    images = (draw(4000, 9) @ draw(9, 9, seed=1) / 4).reshape(-1, 1, 3, 3)
    affine, alpha = AffineDecoder(images, SCHEDULE), SCHEDULE.alpha[[t]]
    steps, noise = torch.full((4000,), t), draw(4000, 1, 3, 3, seed=2)
    for decoder, expected in [(affine, affine.loss(alpha)), (lambda z, time: z, identity_loss(images, alpha))]:
        losses = losses_at(decoder, SCHEDULE, images, steps, noise)
        assert abs(losses.mean().item() - expected[0]) < 4 * losses.std().item() / 4000**0.5


def test_the_optimal_variance_is_that_of_the_reverse_step(points):
    """σ*² is the variance of z_{t−1} about the decoder's mean, over many draws."""
    t, n = 40, 200_000
    schedule = constant(beta=0.1, T=60)
    x = points[torch.randint(5, (n,), generator=torch.Generator().manual_seed(0))]
    before = diffuse(x, t - 1, draw(n, 1, 2, 3, seed=1), schedule)
    z = (1 - 0.1) ** 0.5 * before + 0.1**0.5 * draw(n, 1, 2, 3, seed=2)
    decoder = ExactDecoder(points, schedule)
    g = decoder(z, torch.full((n,), t / 60))
    alpha = schedule.alpha[t]
    mean = (z - 0.1 / (1 - alpha) ** 0.5 * g) / 0.9**0.5
    epsilon = (z - alpha**0.5 * x) / (1 - alpha) ** 0.5
    loss = np.full(61, (epsilon - g).square().mean().item())
    assert optimal_variance(loss, schedule)[t] == pytest.approx((before - mean).square().mean().item(), rel=0.01)


def test_as_a_sampler_it_draws_its_images_again(digits):
    """And nothing else: at β = 0.001 every sample is one of the images."""
    images, schedule = digits.train.images[:500], constant(beta=0.001, T=2000)
    exact, few, start = (
        ExactDecoder(images, schedule),
        schedule.subset(200, "quadratic"),
        MatchedStart(images, schedule),
    )
    drawn = sample(ancestral, exact, few, count=20, start=start, variance="posterior")
    distance, which = torch.cdist(drawn.flatten(1), images.flatten(1)).min(1)
    assert distance.max() < 0.05
    assert len(which.unique()) > 10


SHIPPED = [values | {"network": name} for values in PUBLISHED.values() for name in NETWORKS]
SHIPPED = [values for values in SHIPPED if (Experiment(**values).shipped_folder / "weights.safetensors").exists()]


@functools.cache
def exact_profile(schedule_name: str) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """Steps, training images, and the exact decoder's losses on them; it knows all 48,000."""
    schedule = Experiment(**PUBLISHED[schedule_name]).noise_schedule
    train = data.load("mnist").train.images
    steps, images = steps_by_signal(schedule, 8), train[-128:]
    return steps, images, loss_profile(ExactDecoder(train, schedule), schedule, images, steps)


@pytest.mark.parametrize("values", SHIPPED, ids=lambda values: f"{values['beta']}-{values['network']}")
def test_the_floor_lies_below_every_networks_training_loss(values, mnist):
    """At every t, paired, within three standard errors."""
    experiment = Experiment(**values)
    name = next(name for name, published in PUBLISHED.items() if published["beta"] == values["beta"])
    steps, images, exact = exact_profile(name)
    network = experiment.load_decoder("shipped").network
    above = loss_profile(network, experiment.noise_schedule, images, steps) - exact
    assert (above.mean(1) > -3 * above.std(1) / len(images) ** 0.5).all()
    assert above.mean(1).max() > 0.01


def test_on_new_images_the_exact_decoder_is_worse_than_the_network(mnist):
    experiment = Experiment(**PUBLISHED["low β"])
    schedule = experiment.noise_schedule
    images, steps = mnist.test.images[:128], [1, 20, 100, 300]
    network = loss_profile(experiment.load_decoder("shipped").network, schedule, images, steps)
    exact = loss_profile(ExactDecoder(mnist.train.images, schedule), schedule, images, steps)
    assert (exact.mean(1) > network.mean(1)).all()
    assert exact.mean(1)[2].item() == pytest.approx(0.24, abs=0.03)  # t = 100


def test_means_over_time_of_mnist(mnist):
    """What section 04 quotes, against the values known for MNIST."""
    affine = AffineDecoder(mnist.train.images, SCHEDULE)  # its loss at an α is that of any schedule
    for (beta, T), expected in {(0.001, 2000): 0.0405, (0.1, 200): 0.00357}.items():
        schedule = constant(beta=beta, T=T)
        found = affine.loss(schedule.alpha[1:]).mean()
        assert found == pytest.approx(expected, rel=0.005)
    assert identity_loss(mnist.train.images, schedule.alpha[1:]).mean() == pytest.approx(0.0193, rel=0.005)
