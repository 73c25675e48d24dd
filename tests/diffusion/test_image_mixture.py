"""The mixture of images against torch.distributions, autograd, the affine decoder, and one dimension."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from ddpm_utils.diffusion import one_dimension
from ddpm_utils.diffusion.exact import AffineDecoder, ImageMixture
from ddpm_utils.diffusion.samplers import ancestral, ddim, sample
from ddpm_utils.diffusion.schedules import constant, linear
from ddpm_utils.randomness import Noise

SCHEDULE = constant(beta=0.02, T=300)
STEPS = (1, 30, 300)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def make_mixture(components: int = 3, dimensions: int = 2, shape: tuple[int, ...] = (1, 2, 3)) -> ImageMixture:
    """Components of different weights and covariances in a plane that is not parallel to the pixels' axes."""
    roots = draw(components, dimensions, dimensions) / 4
    return ImageMixture(
        draw(math.prod(shape), seed=1) / 4,
        torch.linalg.qr(draw(math.prod(shape), dimensions, seed=2))[0],
        torch.arange(1, components + 1).double() / sum(range(1, components + 1)),
        draw(components, dimensions, seed=3),
        roots @ roots.mT + 0.01 * torch.eye(dimensions),
        shape,
    )


def reference(mixture: ImageMixture, alpha: float) -> MixtureSameFamily:
    """q(z_t) in all pixels, by torch.distributions."""
    of_planes = (mixture.vectors * mixture.eigenvalues[:, None]) @ mixture.vectors.mT
    covariances = alpha * mixture.basis @ of_planes @ mixture.basis.T
    covariances += (1 - alpha) * torch.eye(len(mixture.center), dtype=torch.float64)
    means = alpha**0.5 * (mixture.center + mixture.means @ mixture.basis.T)
    return MixtureSameFamily(Categorical(mixture.weights), MultivariateNormal(means, covariances))


@pytest.mark.parametrize("t", STEPS)
def test_the_log_density_is_that_of_torch(t):
    mixture, z, alpha = make_mixture(), draw(20, 1, 2, 3, seed=4), float(SCHEDULE.alpha[t])
    expected = reference(mixture, alpha).log_prob(z.flatten(1))
    torch.testing.assert_close(mixture.log_density(z, alpha), expected, rtol=1e-9, atol=1e-9)


def test_at_the_end_the_density_is_that_in_the_plane():
    """It integrates to 1 over the plane's two coordinates."""
    mixture, edge = make_mixture(), torch.linspace(-6, 6, 601, dtype=torch.float64)
    y = torch.cartesian_prod(edge, edge)
    x = (mixture.center + y @ mixture.basis.T).reshape(-1, 1, 2, 3)
    total = mixture.log_density(x).exp().sum().item() * (12 / 600) ** 2
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("t", STEPS)
def test_the_decoder_is_the_score(t):
    """ε̂ = −√(1−α)·∇ log q(z_t), with the gradient by autograd (Vincent 2011)."""
    mixture, z, alpha = make_mixture(), draw(20, 1, 2, 3, seed=4), float(SCHEDULE.alpha[t])
    z.requires_grad_()
    (score,) = torch.autograd.grad(reference(mixture, alpha).log_prob(z.flatten(1)).sum(), z)
    found = mixture.decoder(SCHEDULE)(z.detach(), torch.full((20,), t / SCHEDULE.T))
    torch.testing.assert_close(found, -((1 - alpha) ** 0.5) * score, rtol=1e-8, atol=1e-8)


def test_one_component_is_the_affine_decoder():
    images = (draw(500, 6) @ draw(6, 6, seed=1) / 4).float().reshape(-1, 1, 2, 3)
    flat = images.flatten(1).double()
    covariance = torch.cov(flat.T, correction=0)
    mixture = ImageMixture(flat.mean(0), torch.eye(6), torch.ones(1), torch.zeros(1, 6), covariance[None], (1, 2, 3))
    z, time = draw(3, 1, 2, 3, seed=2).float(), torch.tensor([1 / 300, 0.3, 1.0])  # a batch of different steps
    expected = AffineDecoder(images, SCHEDULE)(z, time)
    torch.testing.assert_close(mixture.decoder(SCHEDULE)(z, time), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("t", STEPS)
def test_in_one_dimension_it_is_the_scalar_mixture(t):
    """The log density, and E[x|z_t] by quadrature over x."""
    weights, means, variances = np.array([0.3, 0.7]), np.array([-0.5, 0.4]), np.array([0.01, 0.04])
    scalar = one_dimension.ScalarMixture(weights, means, variances)
    parts = (torch.from_numpy(values) for values in (weights, means[:, None], variances[:, None, None]))
    mixture = ImageMixture(torch.zeros(1), torch.ones(1, 1), *parts, (1, 1, 1))
    alpha, z = float(SCHEDULE.alpha[t]), np.linspace(-2, 2, 9)
    latents = torch.from_numpy(z).reshape(-1, 1, 1, 1)
    expected = one_dimension.diffused(scalar, alpha).log_density(z)
    np.testing.assert_allclose(mixture.log_density(latents, alpha).numpy(), expected, rtol=1e-10, atol=1e-10)
    x = np.linspace(-4, 4, 8001)
    likelihood = one_dimension.log_normal(z[:, None], alpha**0.5 * x, (1 - alpha) ** 0.5)
    posterior = np.exp(likelihood + scalar.log_density(x))
    expected = (posterior * x).sum(1) / posterior.sum(1)
    found = mixture.posterior_mean(latents, alpha).squeeze(1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    second = (posterior * x**2).sum(1) / posterior.sum(1) - expected**2
    found = mixture.posterior_covariance(latents, alpha).flatten().numpy()
    np.testing.assert_allclose(found, second, rtol=1e-4, atol=1e-8)


def test_the_posterior_covariance_is_the_jacobian_of_the_posterior_mean():
    """Cov[x|z_t] = (1−α)/√α·∂E[x|z_t]/∂z_t, the second-order form of Tweedie's formula."""
    mixture, z, alpha = make_mixture(), draw(4, 1, 2, 3, seed=4), float(SCHEDULE.alpha[30])
    jacobian = torch.autograd.functional.jacobian(lambda z: mixture.posterior_mean(z, alpha).sum(0), z)
    expected = (1 - alpha) / alpha**0.5 * jacobian.flatten(2).permute(1, 0, 2)
    found = mixture.basis @ mixture.posterior_covariance(z, alpha) @ mixture.basis.T
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_samples_have_the_mean_and_the_covariance_of_the_mixture():
    mixture, n = make_mixture(), 200_000
    flat = mixture.sample(n, seeded()).flatten(1).double()
    covariance = mixture.covariance
    scale = covariance.diagonal().sqrt()
    assert ((flat.mean(0) - mixture.mean).abs() < 4 * scale / n**0.5).all()
    assert ((torch.cov(flat.T) - covariance).abs() < 0.015 * scale * scale[:, None]).all()
    shares = mixture.shares(flat.reshape(-1, 1, 2, 3)).mean(0)
    torch.testing.assert_close(shares, mixture.weights, rtol=0, atol=0.005)


def test_small_deterministic_steps_from_exact_latents_end_in_the_mixture():
    """DDIM with 300 steps, small at the end: it reproduces the component shares and the mean log density."""
    mixture, n, schedule = make_mixture(), 4000, linear(beta_min=1e-4, beta_max=0.06, T=300)
    x = mixture.sample(n, seeded(5))
    alpha = float(schedule.alpha[-1])
    z = alpha**0.5 * x + (1 - alpha) ** 0.5 * draw(n, 1, 2, 3, seed=6).float()
    drawn = sample(ddim, mixture.decoder(schedule), schedule, z=z, batch_size=n)
    shares, exact = mixture.shares(drawn).mean(0), mixture.log_density(x)
    assert ((shares - mixture.weights).abs() < 4 * (mixture.weights * (1 - mixture.weights) / n).sqrt()).all()
    assert mixture.log_density(drawn).mean().item() == pytest.approx(exact.mean().item(), abs=0.1)


def test_a_fit_finds_the_mixture_that_images_come_from():
    truth = ImageMixture(
        torch.zeros(6),
        torch.linalg.qr(draw(6, 2))[0],
        torch.tensor([0.3, 0.7]),
        torch.tensor([[-0.2, 0.1], [0.2, 0.0]]),
        torch.stack([0.001 * torch.eye(2), 0.002 * torch.eye(2)]),
        (1, 2, 3),
    )
    images = truth.sample(20_000, seeded()).clamp(-0.5, 0.5)
    fitted = ImageMixture.fit(images, dimensions=2, components=2)
    new = truth.sample(5000, seeded(1))
    torch.testing.assert_close(fitted.mean, truth.mean, rtol=0, atol=0.01)
    torch.testing.assert_close(fitted.weights.sort().values, truth.weights.double(), rtol=0, atol=0.02)
    gap = truth.log_density(new) - fitted.log_density(new)  # its mean is a Kullback–Leibler divergence
    assert -0.01 < gap.mean().item() < 0.01


class Given(Noise):
    """Hands out noise that was drawn before."""

    def __init__(self, draws: list[torch.Tensor]):
        self.draws = iter(draws)

    def __call__(self) -> torch.Tensor:
        return next(self.draws)


def test_a_chain_in_the_plane_is_the_same_chain():
    """The decoder neither mixes the plane with what is outside, nor leaves any of that in the sample."""
    mixture, chain, n = make_mixture(), constant(beta=0.3, T=12), 5
    covariances = (mixture.vectors * mixture.eigenvalues[:, None]) @ mixture.vectors.mT
    plane = ImageMixture(torch.zeros(2), torch.eye(2), mixture.weights, mixture.means, covariances, (1, 1, 2))
    z, noises = draw(n, 1, 2, 3, seed=4), list(draw(chain.T, n, 1, 2, 3, seed=5))
    inside = (z.flatten(1) - float(chain.alpha[-1]) ** 0.5 * mixture.center) @ mixture.basis
    projected = [(noise.flatten(1) @ mixture.basis).reshape(n, 1, 1, 2) for noise in noises]
    *_, expected = ancestral(mixture.decoder(chain), chain, z, Given(noises))
    *_, found = ancestral(plane.decoder(chain), chain, inside.reshape(n, 1, 1, 2), Given(projected))
    images = mixture.center + found.z.flatten(1) @ mixture.basis.T
    torch.testing.assert_close(images, expected.z.flatten(1), rtol=1e-9, atol=1e-9)
