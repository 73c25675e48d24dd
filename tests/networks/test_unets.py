import math

import pytest
import torch
from torch.nn import functional as F

from ddpm_utils.networks.unets import Attention, LeanUNet, ModulatedBlock, ResidualBlock, SinusoidalEncoding, UNet

Z, TIME = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 0.5, 1.0])


def parameters(network) -> int:
    return sum(p.numel() for p in network.parameters())


def test_sizes():
    assert parameters(LeanUNet()) == 584_149
    assert parameters(UNet()) == 2_050_401


def test_a_new_lean_unet_copies_its_input_times_a_function_of_time():
    network = LeanUNet()
    expected = network.copied(network.time_encoding(TIME))[:, :, None, None] * Z
    torch.testing.assert_close(network(Z, TIME), expected)


def test_a_new_block_is_the_identity():
    x, time = torch.randn(2, 8, 5, 5), torch.randn(2, 4)
    assert torch.equal(ModulatedBlock(8, 4)(x, time), x)


def test_a_modulated_block_by_hand():
    block = ModulatedBlock(6, 4)
    for layer in (block.second, block.modulation):
        torch.nn.init.normal_(layer.weight)
    x, time = torch.randn(2, 6, 5, 5), torch.randn(2, 4)
    h = F.conv2d(F.silu(x), block.first.weight, block.first.bias, padding=1)
    h = (h - h.mean(1, keepdim=True)) / (h.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    scale, shift = (time @ block.modulation.weight.T)[:, :, None, None].split(6, dim=1)
    h = F.conv2d(F.silu((1 + scale) * h + shift), block.second.weight, padding=1)
    torch.testing.assert_close(block(x, time), x + h)


@pytest.mark.parametrize("kind", [LeanUNet, UNet])
def test_every_parameter_learns(kind):
    """All get a gradient, once the layers that begin at 0 no longer are."""
    torch.manual_seed(0)
    network = kind()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.01 * torch.randn(p.shape))
    (network(Z, TIME) - Z.roll(1)).square().mean().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


def test_the_lean_unet_sees_across_half_an_image():
    """Its normalisations couple no pixels, so this is the reach of its convolutions; the report's CNN reaches 13."""
    torch.manual_seed(0)
    network = LeanUNet()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn(p.shape))
        changed = Z.clone()
        changed[..., 0, 0] += 10
        difference = (network(changed, TIME) - network(Z, TIME)).abs().amax((0, 1))
    assert difference[20:, 20:].max() > 0


def test_attention_with_equal_scores_adds_the_mean():
    layer = Attention(16)
    with torch.no_grad():
        layer.qkv.weight[:32] = 0
        layer.qkv.bias[:32] = 0
    x = torch.randn(2, 16, 7, 7)
    values = F.conv2d(layer.norm(x), layer.qkv.weight[32:], layer.qkv.bias[32:])
    expected = x + layer.out(values.mean((2, 3), keepdim=True)).expand_as(x)
    torch.testing.assert_close(layer(x), expected)


def test_residual_block_changes_channels():
    block = ResidualBlock(8, 16, 4)
    assert block(torch.randn(2, 8, 6, 6), torch.randn(2, 4)).shape == (2, 16, 6, 6)


def test_sinusoidal_features():
    encoding = SinusoidalEncoding(8, 4)
    encoding.mlp = torch.nn.Identity()
    sine, cosine = encoding(torch.tensor([0.0, 0.002])).split(4, dim=1)
    assert torch.equal(sine[0], torch.zeros(4))
    assert torch.equal(cosine[0], torch.ones(4))
    angles = [2 / 10_000 ** (i / 4) for i in range(4)]
    torch.testing.assert_close(sine[1], torch.tensor([math.sin(a) for a in angles]))
    torch.testing.assert_close(cosine[1], torch.tensor([math.cos(a) for a in angles]))
