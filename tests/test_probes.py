"""A network whose code has changed since its weights were written is refused; the same network, made faster, is not."""

import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ddpm_utils import checkpoints
from ddpm_utils.evaluation.classifier import DigitClassifier, load_classifier
from ddpm_utils.networks import spectral
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.places import RESOURCES
from ddpm_utils.training.parameters import NETWORKS
from ddpm_utils.training.run import EpochRecord, Run

SHIPPED = sorted(path.parent.name for path in RESOURCES.glob("data/checkpoints/*-*/weights.safetensors"))
OTHERWISE = "answers otherwise than when the file was written: the network's code has changed"


class Small(nn.Module):
    """A decoder with one of each kind of layer, some of which leave no trace in the names and shapes of weights."""

    def __init__(self, **changed):
        super().__init__()
        torch.manual_seed(0)
        self.parts = {"act": F.silu, "scale": 0.5, "clock": 1.0, "slope": 0.0, "mean": (2, 3), "dilation": 1} | changed
        padding = self.parts.get("padding", "zeros")
        self.enter = nn.Conv2d(1, 16, 3, padding=self.parts["dilation"], dilation=self.parts["dilation"])
        self.enter.padding_mode = padding
        self.enter._reversed_padding_repeated_twice = [self.parts["dilation"]] * 4
        self.norm = self.parts.get("norm", nn.GroupNorm(4, 16))
        self.wide = nn.Conv2d(16, 16, 7, padding=3)
        self.time = nn.Linear(2, 16)
        self.leave = nn.Conv2d(16, 1, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        torch.manual_seed(1)
        for parameter in self.norm.parameters():
            nn.init.normal_(parameter)

    def forward(self, z, time):
        parts, angle = self.parts, 4 * time[:, None] * self.parts["clock"]
        h = self.enter(z) + self.time(torch.cat([angle.sin(), angle.cos()], 1))[:, :, None, None]
        h = self.dropout(self.wide(parts["act"](self.norm(h))))
        h = h - h.mean(parts["mean"], keepdim=True)
        return self.leave(F.leaky_relu(h, parts["slope"])) + parts["scale"] * z


def save(path, network):
    checkpoints.save(path, network.state_dict(), {"probe": checkpoints.probe(network)})
    return path


@pytest.mark.parametrize(
    "changed",
    [
        {"padding": "circular"},
        {"padding": "replicate"},
        {"dilation": 2},
        {"act": F.gelu},
        {"act": F.elu},
        {"slope": 0.1},
        {"clock": 1.1},
        {"norm": nn.GroupNorm(2, 16)},
        {"norm": nn.BatchNorm2d(16, track_running_stats=False)},
        {"mean": 1},
        {"scale": 0.0},
        {"scale": 1.0},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_changed_code_with_the_same_names_and_shapes_is_refused(changed, tmp_path):
    path, other = save(tmp_path / "weights", Small()), Small(**changed)
    with pytest.raises(CheckpointError, match=OTHERWISE) as found:
        checkpoints.load_network(path, other)
    assert str(found.value).startswith(f"{path} does not fit Small")
    assert "\n" not in str(found.value)
    checkpoints.load_network(path, Small())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_fit_however_they_are_computed(name, monkeypatch):
    """With other threads, and with spectral convolutions for any batch or none."""
    before = torch.get_num_threads()
    path = RESOURCES / "data" / "checkpoints" / name / "weights.safetensors"
    kind = checkpoints.load(path)[1]["network"]
    networks = NETWORKS[kind](), spectral.with_spectral_convolutions(NETWORKS[kind]())
    try:
        for network, least in zip(networks, (spectral.LEAST_BATCH, 1), strict=True):
            monkeypatch.setattr(spectral, "LEAST_BATCH", least)
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                checkpoints.load_network(path, network)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("change", ["channels last", "float64", "fused"])
def test_a_faster_implementation_of_the_same_network_loads(change, tmp_path, monkeypatch):
    path, network = save(tmp_path / "weights", Small()), Small()
    if change == "channels last":
        network.to(memory_format=torch.channels_last)
    elif change == "float64":
        weights = [parameter.double() for parameter in network.wide.parameters()]
        network.wide.forward = lambda h: F.conv2d(h.double(), *weights, padding=3).float()
    else:
        network.parts["act"] = lambda h: h / (1 + (-h).exp())
    checkpoints.load_network(path, network)


def test_weights_trained_in_mixed_precision_fit():
    """accelerate wraps the forward of the network that it trains; the probe is in float32 all the same."""
    network = Small()
    expected, forward = checkpoints.probe(network), network.forward
    network._original_forward = forward
    network.forward = torch.autocast("cpu", dtype=torch.bfloat16)(forward)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert checkpoints.probe(network) == expected
    del network._original_forward
    assert checkpoints.probe(network) != expected


def test_a_probe_leaves_no_trace():
    network = Small()
    network.norm.eval()
    modes, state = [module.training for module in network.modules()], torch.get_rng_state()
    first = checkpoints.probe(network)
    torch.rand(3)
    torch.set_rng_state(state)
    assert checkpoints.probe(network.eval()) == first
    network.train()
    network.norm.eval()
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(parameter.grad is not None for parameter in network.parameters())
    assert len(first) == 32


class Random(Small):
    """A decoder that draws at random when it is called: from torch's generator, or from another one."""

    def forward(self, z, time):
        noise = torch.randn_like(z) if self.parts["draw"] == "torch" else random.random()
        return super().forward(z, time) + noise


class Counting(Small):
    """A decoder that keeps what it saw last, which no deepcopy can copy."""

    def forward(self, z, time):
        self.last = super().forward(z, time)
        return self.last


@pytest.mark.parametrize(
    "network", [Random(draw="torch"), Random(draw="random"), Counting(), Small(scale=float("nan"))]
)
def test_networks_with_ways_of_their_own_are_found_again(network, tmp_path):
    run = Run(network, folder=tmp_path, snapshots=(1,))
    run.finish_epoch(EpochRecord(1, 0.5, 0.5, 1.0))
    for name in ("best", "epoch1"):
        checkpoints.load_network(tmp_path / f"{name}.safetensors", network)
    Run(network, folder=tmp_path)


def test_a_network_that_becomes_undefined_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=OTHERWISE):
        checkpoints.load_network(save(tmp_path / "weights", Small()), Small(scale=float("nan")))


def test_a_run_is_not_resumed_by_changed_code(tmp_path):
    run = Run(Small(), folder=tmp_path)
    run.finish_epoch(EpochRecord(1, 0.5, 0.5, 1.0))
    assert Run(Small(), folder=tmp_path).history == run.history
    with pytest.raises(CheckpointError, match=rf"last\.safetensors does not fit Small, which {OTHERWISE}"):
        Run(Small(act=F.relu), folder=tmp_path)


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_file_without_a_probe_is_refused(name, tmp_path):
    Run(Small(), folder=tmp_path).finish_epoch(EpochRecord(1, 0.5, 0.5, 1.0))
    path = tmp_path / f"{name}.safetensors"
    tensors, description = checkpoints.load(path)
    del description["probe"]
    checkpoints.save(path, tensors, description)
    with pytest.raises(CheckpointError, match=rf"{name}\.safetensors does not say what its network answers"):
        Run(Small(), folder=tmp_path) if name == "last" else checkpoints.load_network(path, Small())


def test_the_classifier_has_a_probe_too(tmp_path, monkeypatch):
    load_classifier()
    network = DigitClassifier()
    description = {"network": "digit_classifier", "probe": checkpoints.probe(network, 1)}
    checkpoints.save(tmp_path / "weights", network.state_dict(), description)
    assert len(description["probe"]) == 20
    monkeypatch.setattr(DigitClassifier, "forward", lambda self, x: self.head(self.embed(x).square()))
    with pytest.raises(CheckpointError, match=f"DigitClassifier, which {OTHERWISE}"):
        load_classifier(tmp_path / "weights")
