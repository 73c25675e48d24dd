import errno
import os
import time

import pytest
import safetensors.torch
import torch
from torch import nn

from ddpm_utils import checkpoints
from ddpm_utils.networks.cnn import CNN
from ddpm_utils.system import files
from ddpm_utils.system.errors import CheckpointError

TENSORS = {"weight": torch.tensor([[1.0, -2.0]]), "step": torch.tensor(3.0), "index": torch.tensor([1, 2])}
DESCRIPTION = {"schedule": "constant", "beta": 0.1, "epochs": [1, 2]}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "weights.safetensors"
    checkpoints.save(path, TENSORS, DESCRIPTION)
    return path


def test_round_trip(path):
    tensors, description = checkpoints.load(path)
    assert description == DESCRIPTION
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert {name: tensor.dtype for name, tensor in tensors.items()}["index"] == torch.int64


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*none"):
        checkpoints.load(tmp_path / "none")


def test_truncated_anywhere(path):
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"weights\.safetensors is damaged"):
            checkpoints.load(path)


def test_altered_anywhere(path):
    content = path.read_bytes()
    for position in range(len(content)):
        altered = bytearray(content)
        altered[position] ^= 1 << position % 8
        path.write_bytes(altered)
        with pytest.raises(CheckpointError, match=r"weights\.safetensors is damaged"):
            checkpoints.load(path)


def test_safetensors_of_another_origin(path):
    safetensors.torch.save_file(TENSORS, path)
    with pytest.raises(CheckpointError, match="does not match its sha256"):
        checkpoints.load(path)


def test_pickle(path):
    torch.save(TENSORS, path)
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        checkpoints.load(path)


def test_load_network(tmp_path):
    network, other = nn.Linear(28, 2), nn.Linear(28, 2)
    probe = checkpoints.probe(network, 1)
    checkpoints.save(tmp_path / "linear", network.state_dict(), DESCRIPTION | {"probe": probe})
    assert checkpoints.load_network(tmp_path / "linear", other, 1, schedule="constant", beta=0.1) == DESCRIPTION
    assert torch.equal(other.weight, network.weight)


@pytest.mark.parametrize("network", [nn.Linear(2, 2), nn.Linear(3, 2, bias=False), nn.Conv2d(3, 2, 1)])
def test_another_network(network, tmp_path):
    checkpoints.save(tmp_path / "linear", nn.Linear(3, 2).state_dict(), {})
    with pytest.raises(CheckpointError, match=f"holds the weights of another network than {type(network).__name__}"):
        checkpoints.load_network(tmp_path / "linear", network)


def test_another_schedule(path):
    with pytest.raises(CheckpointError, match="has schedule = 'constant', but 'cosine' was asked for"):
        checkpoints.load_network(path, nn.Linear(3, 2), schedule="cosine")


def test_full_disk_leaves_the_old_file(path, monkeypatch):
    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = path.read_bytes()
    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(CheckpointError, match=r"could not be saved \(No space left on device\); nothing was changed"):
        checkpoints.save(path, {"weight": torch.zeros(5)}, {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_no_permission_leaves_the_old_file(path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    before = path.read_bytes()
    monkeypatch.setattr(files.tempfile, "mkstemp", denied)
    with pytest.raises(CheckpointError, match=r"could not be saved \(Permission denied\)"):
        checkpoints.save(path, {}, {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_interrupt_leaves_the_old_file(path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    before = path.read_bytes()
    monkeypatch.setattr(files.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(path, {}, {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_what_a_kill_left_is_deleted_later(path):
    """A temporary file that was written just now may be another process's."""
    old, young, other = (
        path.with_name(name) for name in (f".{path.name}.abcdefgh", f".{path.name}.ABCDEFGH", ".other")
    )
    for temporary in (old, young, other):
        temporary.write_bytes(b"half")
    for temporary in (old, other):
        os.utime(temporary, (time.time() - files.LEFT_OVER_SECONDS - 60,) * 2)
    files.write_bytes(path, b"whole")
    assert {found.name for found in path.parent.iterdir()} == {path.name, young.name, other.name}


def test_a_folder_that_cannot_be(path):
    with pytest.raises(CheckpointError, match="could not be saved"):
        files.write_bytes(path / "below a file", b"")


def test_digest_sees_names_types_shapes_and_values():
    tensors = {"a": torch.zeros(2, 2)}
    others = [
        {"b": torch.zeros(2, 2)},
        {"a": torch.zeros(4)},
        {"a": torch.zeros(2, 2, dtype=torch.int32)},
        {"a": torch.ones(2, 2)},
    ]
    digests = {checkpoints.digest(t) for t in (tensors, *others)} | {checkpoints.digest(tensors, "text")}
    assert len(digests) == 6


def test_weights_of_8_bits_are_within_half_a_step(tmp_path):
    network = CNN()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(checkpoints.expand(checkpoints.compress(weights)))
    probe = checkpoints.probe(network)
    checkpoints.save(tmp_path / "small.safetensors", checkpoints.compress(weights), {"probe": probe})
    network.load_state_dict(weights)
    checkpoints.save(tmp_path / "large.safetensors", weights, {})
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("small", "large")]
    assert sizes[0] < 0.3 * sizes[1]
    checkpoints.load_network(tmp_path / "small.safetensors", network)
    for name, tensor in network.state_dict().items():
        steps = weights[name].flatten(1).abs().amax(1) / 127 if tensor.ndim > 1 else weights[name].abs() / 512
        error = (tensor - weights[name]).abs().reshape(len(tensor), -1).amax(1)
        assert (error <= steps / 2 * 1.001).all(), name


def test_weights_of_16_bits_are_float16_and_other_numbers_of_bits_are_refused():
    weights = CNN().state_dict()
    rounded = checkpoints.compress(weights, bits=16)
    assert list(rounded) == list(weights)
    assert all(torch.equal(rounded[name], weights[name].half()) for name in weights)
    with pytest.raises(ValueError, match=r"bits must be 8 or 16, not 4\."):
        checkpoints.compress(weights, bits=4)


def test_expand_leaves_other_tensors_alone():
    weights = {"a": torch.rand(3, 4), "b": torch.rand(3)}
    assert checkpoints.expand(weights).keys() == weights.keys()
    assert torch.equal(checkpoints.expand(weights)["a"], weights["a"])
    own = {"block.scale": torch.rand(3), "scale.scale": torch.rand(3), "block.weight": torch.rand(3, 3)}
    small = checkpoints.compress(own)
    assert small.keys() == own.keys() | {"block.weight.scale"}
    assert checkpoints.expand(small).keys() == own.keys()


def test_folders_are_made_and_may_be_there(tmp_path):
    path = tmp_path / "two" / "folders" / "file"
    for content in (b"first", b"second"):
        files.write_bytes(path, content)
        assert path.read_bytes() == content


def test_the_order_of_a_description_does_not_matter(tmp_path):
    for name, description in {"a": {"beta": 1, "T": 2}, "b": {"T": 2, "beta": 1}}.items():
        checkpoints.save(tmp_path / name, TENSORS, description)
    one, other = (safetensors.safe_open(tmp_path / name, framework="pt").metadata() for name in "ab")
    assert one == other


@pytest.mark.parametrize("shape", [(2, 2), (2, 1, 2), (2, 1, 2, 1)])
def test_each_output_channel_has_a_scale(shape):
    """Its largest weight becomes ±127; a vector stays a vector, in 16 bits."""
    small = checkpoints.compress({"a": torch.tensor([[0.5, -1.0], [2.54, 0.02]]).reshape(shape), "b": torch.ones(2)})
    assert small["a"].dtype == torch.int8
    assert small["a"].flatten().tolist() == [64, -127, 127, 1]  # 63.5 goes to the even number
    assert small["a.scale"].tolist() == pytest.approx([1 / 127, 0.02])
    assert small["b"].dtype == torch.float16
    assert checkpoints.expand(small)["a"].flatten().tolist() == pytest.approx([64 / 127, -1, 2.54, 0.02])
