"""Controls: a CNN that sees the whole image at the same size, and latents of 256 grey levels."""

import pytest
import torch
from torch import nn

import ddpm_utils as ddpm
from ddpm_utils.networks.cnn import CNN
from maintenance.records.controls import ROUNDED, DilatedCNN, Rounded, RoundedExperiment
from maintenance.records.information import Whitening


def seen(network: CNN) -> int:
    """How many pixels reach the output's corner through the convolutions alone, without LayerNorm."""
    for block in network.blocks:
        block[1] = nn.Identity()
    z = torch.zeros((1, 1, 28, 28), requires_grad=True)
    (gradient,) = torch.autograd.grad(network(z, torch.tensor([0.5]))[0, 0, 0, 0], z)
    return int((gradient != 0).sum())


def test_the_dilated_cnn_sees_all_pixels_with_as_many_weights():
    assert seen(CNN()) == 14 * 14
    assert seen(DilatedCNN()) == 28 * 28
    assert sum(p.numel() for p in DilatedCNN().parameters()) == sum(p.numel() for p in CNN().parameters())


@pytest.mark.parametrize("name", ROUNDED)
def test_rounded_latents_have_256_grey_levels(name):
    D = RoundedExperiment(name).process
    x = ddpm.load("mnist_5k").test.images[:6]
    assert isinstance(D, Rounded)
    t = torch.tensor([0, 1, 10, 50, 99, 100])
    z, exact = D(x, t, D.draw_context(6, torch.Generator())), D.degradation(x, t)
    levels = z[1:] * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert (z - exact).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(z[0], x[0])


def test_whitening_gives_unit_variance_down_to_its_floor():
    """Directions with less variance than the floor are shrunk, since they are rounding noise."""
    scales = torch.logspace(0, -6, 784, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    z = (torch.randn((4000, 784), generator=generator, dtype=torch.float64) * scales).reshape(-1, 1, 28, 28)
    deviation = Whitening(z, 1e-8)(z).flatten(1).std(0)
    assert torch.allclose(deviation, (scales**2 / (scales**2 + 1e-8)).sqrt().float(), atol=0.1)
