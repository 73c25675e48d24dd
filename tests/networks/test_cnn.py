import math

import pytest
import torch
from torch import nn

from ddpm_utils.evaluation.classifier import DigitClassifier
from ddpm_utils.networks.cnn import CNN, TimeEncoding
from ddpm_utils.training.parameters import NETWORKS


def parameters(modules) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def of_type(network: nn.Module, kind: type) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, kind)]


def test_the_decoder_has_the_reports_parameters():
    network = CNN()
    assert parameters([network]) == 291_217
    assert parameters(of_type(network, nn.Conv2d)) == 101_377
    assert parameters([network.time_encoding]) == 39_312
    assert parameters(of_type(network, nn.LayerNorm)) == 150_528


def test_the_decoder_has_the_reports_layers():
    convolutions = of_type(CNN(), nn.Conv2d)
    assert [c.in_channels for c in convolutions] == [1, 16, 32, 32, 16]
    assert [c.kernel_size[0] for c in convolutions] == [7, 7, 7, 7, 3]
    assert {c.padding_mode for c in convolutions} == {"zeros"}
    linears = of_type(TimeEncoding(), nn.Linear)
    assert [(layer.in_features, layer.out_features) for layer in linears] == [
        (32, 128),
        (128, 128),
        (128, 128),
        (128, 16),
    ]


@pytest.mark.parametrize(
    ("name", "norms"),
    [
        ("cnn", [(16, 28, 28), (32, 28, 28), (32, 28, 28), (16, 28, 28)]),
        ("cnn_plane_norm", 4 * [(28, 28)]),
        ("cnn_no_norm", []),
    ],
)
def test_norm_options(name, norms):
    network = NETWORKS[name]()
    assert [norm.normalized_shape for norm in of_type(network, nn.LayerNorm)] == norms
    assert network(torch.zeros(2, 1, 28, 28), torch.zeros(2)).shape == (2, 1, 28, 28)


def test_unknown_norm():
    with pytest.raises(ValueError, match="norm must be one of element, plane, none, not 'batch'"):
        CNN(norm="batch")


def time_features(time: float) -> torch.Tensor:
    encoding = TimeEncoding()
    encoding.mlp = nn.Identity()
    return encoding(torch.tensor([time]))[0]


def test_time_features_vanish_at_time_zero():
    assert torch.equal(time_features(0.0), torch.zeros(32))


def test_time_features_by_hand():
    sine, cosine = time_features(0.25).split(16)
    assert (sine[0], cosine[0]) == (0, 0)  # frequency 0
    assert sine[1].item() == pytest.approx(1)  # frequency 2π, a quarter turn
    assert cosine[1].item() == pytest.approx(-1)
    assert sine[3].item() == pytest.approx(math.sin(2 * math.pi * 1.5**2 / 4), abs=1e-6)
    assert cosine[15].item() == pytest.approx(math.cos(2 * math.pi * 1.5**14 / 4) - 1, abs=1e-3)


def test_output_is_linear():
    """GELU never goes below −0.17, noise does."""
    torch.manual_seed(0)
    network = CNN()
    z, time = torch.randn(4, 1, 28, 28), torch.rand(4)
    with torch.no_grad():
        before = network(z, time)
        for parameter in network.output.parameters():
            parameter.mul_(-3)
        after = network(z, time)
    torch.testing.assert_close(after, -3 * before)
    assert min(before.min(), after.min()) < -0.17


@pytest.mark.parametrize("name", NETWORKS)
def test_time_matters(name):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    z = torch.randn(1, 1, 28, 28).expand(2, -1, -1, -1)
    early, late = network(z, torch.tensor([0.05, 0.95]))
    assert (early - late).abs().max() > 1e-4


def test_time_is_added_after_the_first_blocks_gelu():
    network = CNN(norm="none")
    seen = []
    network.blocks[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    z, time = torch.randn(2, 1, 28, 28), torch.tensor([0.2, 0.7])
    network(z, time)
    torch.testing.assert_close(
        seen[0] - network.blocks[0](z), network.time_encoding(time)[:, :, None, None].expand_as(seen[0])
    )


def test_classifier_shapes():
    network = DigitClassifier()
    images = torch.zeros(2, 1, 28, 28)
    assert network.embed(images).shape == (2, network.features)
    assert network(images).shape == (2, 10)
