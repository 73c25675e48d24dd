import pytest
import torch

from ddpm_utils.degradations import DownSampling, HeatBlur
from ddpm_utils.mixtures import GaussianFade, flow
from ddpm_utils.starts import Fitted, Forgotten, Grey, degraded


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
