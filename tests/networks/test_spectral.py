import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ddpm_utils.networks import spectral
from ddpm_utils.networks.cnn import CNN
from ddpm_utils.networks.spectral import (
    LEAST_BATCH,
    LEAST_FROZEN,
    SpectralConv2d,
    is_same_convolution,
    use_convolution,
    with_spectral_convolutions,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(("size", "kernel"), [(28, 7), (28, 3), (13, 5), (8, 1), (9, 9)])
@pytest.mark.parametrize(("before", "after"), [(3, 5), (16, 32)])
def test_equals_direct_convolution_in_double_precision(size, kernel, before, after):
    """The values, and the gradients of input, weight and bias."""
    layer = SpectralConv2d(before, after, kernel)
    x, up = random(LEAST_BATCH, before, size, size).requires_grad_(), random(LEAST_BATCH, after, size, size, seed=1)
    y = layer(x)
    found = torch.autograd.grad(y, [x, layer.weight, layer.bias], up)
    doubles = [value.detach().double().requires_grad_() for value in (x, layer.weight, layer.bias)]
    exact = F.conv2d(*doubles, padding=kernel // 2)
    assert relative(y, exact) < 1e-5
    for gradient, expected in zip(found, torch.autograd.grad(exact, doubles, up.double()), strict=True):
        assert relative(gradient, expected) < 1e-4


def test_images_do_not_leak_around_the_border():
    layer = SpectralConv2d(1, 1, 7)
    x = torch.zeros(LEAST_BATCH, 1, 28, 28)
    x[..., 0, 0] = 1
    y = layer(x) - layer.bias[:, None, None]
    assert y[..., 4:, :].abs().max() < 1e-6
    assert y[..., :, 4:].abs().max() < 1e-6


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    direct = CNN()
    return direct, with_spectral_convolutions(copy.deepcopy(direct))


def test_the_decoder_keeps_its_weights_names_and_answers():
    direct, faster = networks()
    assert [type(block[0]).__name__ for block in faster.blocks] == ["Conv2d", *3 * ["SpectralConv2d"]]
    assert direct.state_dict().keys() == faster.state_dict().keys()
    z, time = random(LEAST_BATCH, 1, 28, 28), torch.linspace(0, 1, LEAST_BATCH)
    assert relative(faster(z, time), direct(z, time)) < 1e-4


def test_the_decoders_gradients_agree():
    direct, faster = networks()
    z, time, noise = random(LEAST_BATCH, 1, 28, 28), torch.linspace(0, 1, LEAST_BATCH), random(8, 1, 28, 28, seed=1)
    for network in (direct, faster):
        (network(z, time) - noise).square().mean().backward()
    for (name, p), q in zip(direct.named_parameters(), faster.parameters(), strict=True):
        assert relative(q.grad, p.grad) < 1e-4, name


@pytest.mark.parametrize("mode", ["double", "autocast", "few", "few, frozen", "direct"])
def test_falls_back_to_direct_convolution(mode):
    layer, x = SpectralConv2d(2, 2, 3), random(LEAST_BATCH, 2, 6, 6)
    if mode == "double":
        layer, x = layer.double(), x.double()
    elif mode == "few":
        x = x[1:]
    elif mode == "few, frozen":
        layer, x = layer.requires_grad_(False), x[: LEAST_FROZEN - 1]
    elif mode == "direct":
        use_convolution(nn.Sequential(layer), "direct")
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"):
        assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1))


@pytest.mark.parametrize(
    "options",
    [
        *({"kernel_size": 5}, {"kernel_size": (7, 5)}, {"stride": 2}, {"padding": 2}, {"padding": "same"}),
        *({"dilation": 2}, {"groups": 2}, {"bias": False}, {"padding_mode": "circular"}),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(options):
    usual = {"kernel_size": 7, "padding": 3}
    assert is_same_convolution(nn.Conv2d(16, 16, **usual), 7)
    layer = nn.Conv2d(16, 16, **usual | options)
    assert not is_same_convolution(layer, 7)
    assert with_spectral_convolutions(nn.Sequential(layer))[0] is layer


def test_other_layers_and_few_channels_are_left_alone():
    layers = nn.Sequential(nn.ConvTranspose2d(16, 16, 7, padding=3), SpectralConv2d(16, 16, 7), nn.Conv2d(15, 16, 7))
    assert not any(is_same_convolution(layer, 7) for layer in layers)
    few = nn.Conv2d(15, 16, 7, padding=3)
    assert is_same_convolution(few, 7)
    assert with_spectral_convolutions(nn.Sequential(few))[0] is few


def test_replacing_draws_no_random_numbers():
    network = CNN()
    state = torch.get_rng_state()
    with_spectral_convolutions(network)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="the kernel must be odd, not 4"):
        SpectralConv2d(2, 2, 4)


def test_trains_after_it_was_first_used_without_gradients():
    layer, x = SpectralConv2d(2, 2, 3), random(LEAST_BATCH, 2, 11, 11)  # a size that no other test has made tables for
    with torch.inference_mode():
        expected = layer(x)
    y = layer(x)
    y.square().sum().backward()
    torch.testing.assert_close(y, expected.clone())
    assert layer.weight.grad.isfinite().all()


@pytest.fixture
def transforms(monkeypatch) -> list:
    """A list that grows by one with each transform of a kernel."""
    made, transform = [], spectral._filters
    monkeypatch.setattr(spectral, "_filters", lambda *arguments: made.append(1) or transform(*arguments))
    return made


def test_kernels_of_frozen_weights_are_transformed_once(transforms):
    trained, x = SpectralConv2d(3, 4, 3), random(LEAST_BATCH, 3, 6, 6)
    frozen = copy.deepcopy(trained).requires_grad_(False)
    expected = [trained(x).detach(), trained(-x).detach()]
    assert len(transforms) == 2
    with torch.inference_mode():
        found = [frozen(x), frozen(-x)]
    assert len(transforms) == 3
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    frozen(random(LEAST_FROZEN, 3, 8, 8))
    assert len(transforms) == 4  # another size


def test_frozen_weights_that_change_are_transformed_again():
    layer, other = (SpectralConv2d(3, 4, 3).requires_grad_(False) for _ in range(2))
    x = random(LEAST_BATCH, 3, 6, 6)
    assert not torch.equal(layer(x), other(x))
    layer.load_state_dict(other.state_dict())
    assert torch.equal(layer(x), other(x))
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        copied.weight *= 2
    assert not torch.equal(copied(x), layer(x))
    with torch.inference_mode():
        assert torch.equal(SpectralConv2d(3, 4, 3).requires_grad_(False)(x).isfinite().all(), torch.tensor(True))


def test_a_frozen_layer_gives_the_gradient_of_its_input():
    """Also after it was first used in inference mode, as guided samplers use a network that sampled before."""
    layer, x = SpectralConv2d(3, 4, 3), random(LEAST_BATCH, 3, 9, 9).requires_grad_()
    (expected,) = torch.autograd.grad(layer(x).square().sum(), x)
    layer.requires_grad_(False)
    with torch.inference_mode():
        layer(x)
    (found,) = torch.autograd.grad(layer(x).square().sum(), x)
    assert torch.equal(found, expected)


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="the convolution must be one of direct, spectral, not 'fast'"):
        use_convolution(CNN(), "fast")
