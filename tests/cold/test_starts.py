import pytest
import torch

from ddpm_utils.cold.degradations import Degradation, DownSampling, HeatBlur
from ddpm_utils.cold.mixtures import GaussianFade, flow
from ddpm_utils.cold.starts import Fitted, Forgotten, Grey, degraded


def generator():
    return torch.Generator().manual_seed(5)


@pytest.fixture(scope="module")
def images(digits):
    return digits.train.images


def test_a_grey_start_has_the_levels_of_z_t(images):
    down = DownSampling()
    z, context = Grey(down, images)(2000, generator())
    real = images.mean((1, 2, 3))
    assert z.shape == (2000, 1, 28, 28)
    assert context.shape == (2000, 0)
    assert z.flatten(1).std(1).max() < 1e-6  # uniform
    assert z.mean().item() == pytest.approx(real.mean().item(), abs=0.003)
    assert z[:, 0, 0, 0].std().item() == pytest.approx(real.std().item(), rel=0.05)


def test_the_spread_and_the_jitter_of_a_grey_start(images):
    z, _ = Grey(DownSampling(), images, spread=0, jitter=0.02)(500, generator())
    assert z.mean((1, 2, 3)).std() < 0.002
    assert z.flatten(1).std(1).mean().item() == pytest.approx(0.02, rel=0.02)


def test_nothing_of_the_image_is_left_where_it_is_forgotten(images):
    line = flow(20)
    z, context = Forgotten(line, images)(4, generator())
    torch.testing.assert_close(z, context, rtol=0, atol=1e-6)
    dark, _ = Forgotten(GaussianFade(), images)(4, generator())
    assert dark.max() < -0.49


@pytest.mark.parametrize("components", [1, 5])
def test_a_fitted_start_has_the_moments_of_z_t(components, images):
    heat = HeatBlur(30)
    z, _ = Fitted(heat, images, components=components)(8000, generator())
    real, _ = degraded(heat, images)
    torch.testing.assert_close(z.mean(0), real.mean(0), rtol=0, atol=0.01)
    expected, found = (part.flatten(1).T.cov() for part in (real, z))
    assert (found - expected).norm() < 0.08 * expected.norm()


class Dim(Degradation):
    """D(x, t) = x/2, with contexts that it keeps count of."""

    T = 1

    def __init__(self):
        self.asked = []

    def __call__(self, x, t, context=None):
        return x / 2

    def draw_context(self, count, generator, held_out=False):
        self.asked.append((count, held_out))
        return torch.rand(count, 1, generator=generator)


@pytest.mark.parametrize("kind", [Forgotten, Grey, Fitted])
def test_starts_have_contexts_that_training_never_saw(kind, images):
    dim = Dim()
    start = kind(dim, images[:100])
    dim.asked.clear()
    z, context = start(7, generator())
    assert z.shape == (7, 1, 28, 28)
    assert context.shape == (7, 1)
    assert dim.asked == [(7, True)]


@pytest.mark.parametrize("kind", [Forgotten, Grey, Fitted])
def test_starts_are_made_and_drawn_the_same_again(kind, images):
    """By their generator alone; 600 images are enough for the principal components to be found by a random method."""
    first, again = (kind(flow(20), images[:600])(7, generator()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_fitted_start_varies_along_its_components_only(images):
    z, _ = Fitted(HeatBlur(30), images[:300], components=2, dimensions=3)(100, generator())
    assert torch.linalg.matrix_rank((z - z[:1]).flatten(1).double(), rtol=1e-4) == 3
