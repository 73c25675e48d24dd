"""Tensors on disk: atomic, verified, without pickle.

A file is a safetensors file whose header also holds a JSON description and a sha256 of both, so that a file
that was cut short, flipped a bit or belongs to something else is refused in one sentence.
"""

import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from ddpm_utils.files import CheckpointError, write_bytes

REMEDY = "restore it with git checkout, or delete its folder to train again"
SCALE = ".scale"  # ends the name of what 8-bit weights are to be multiplied by


def save(path: Path, tensors: dict[str, Tensor], description: dict) -> None:
    """Write named tensors and a description that JSON can hold.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(description, sort_keys=True)
    metadata = {"description": text, "sha256": digest(tensors, text)}
    write_bytes(path, safetensors.torch.save(tensors, metadata))


def load(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Read what `save` wrote: the tensors and their description.

    Raises:
        CheckpointError: if the file is missing, truncated or altered.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}.") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged or truncated ({error}): {REMEDY}.") from error
    text = metadata.get("description", "")
    if metadata.get("sha256") != digest(tensors, text):
        raise CheckpointError(f"{path} is damaged (its content does not match its sha256): {REMEDY}.")
    return tensors, json.loads(text)


def load_network(path: Path, network: nn.Module, /, **expected) -> dict:
    """Load weights into a network and return their description.

    Args:
        expected: entries that the description must have, such as schedule="constant".

    Raises:
        CheckpointError: if the file is damaged, or is of another network, schedule, … than expected.
    """
    tensors, description = load(path)
    tensors = expand(tensors)
    for name, value in expected.items():
        if description.get(name) != value:
            raise CheckpointError(f"{path} has {name} = {description.get(name)!r}, but {value!r} was asked for.")
    own = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if own != {name: tensor.shape for name, tensor in tensors.items()}:
        raise CheckpointError(f"{path} holds the weights of another network than {type(network).__name__}.")
    network.load_state_dict(tensors)
    return description


def compress(tensors: dict[str, Tensor], bits: int = 8) -> dict[str, Tensor]:
    """Round weights, so that they take a half or a quarter of their size. See `expand` for the way back.

    Args:
        bits: 16 for float16; 8 for int8, with a scale for each output channel beside them, and float16 for vectors,
            which are small.

    Raises:
        ValueError: if bits is neither.
    """
    if bits not in (8, 16):
        raise ValueError(f"bits must be 8 or 16, not {bits}.")
    rounded = {}
    for name, tensor in tensors.items():
        if bits == 16 or tensor.ndim < 2:
            rounded[name] = tensor.half()
            continue
        scale = tensor.flatten(1).abs().amax(1).clamp(min=1e-12) / 127
        rounded[name] = (tensor / scale.reshape(-1, *[1] * (tensor.ndim - 1))).round().to(torch.int8)
        rounded[name + SCALE] = scale
    return rounded


def expand(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what `compress` rounded to 8 bits in float32 again; other tensors are left as they are."""
    expanded = {name: tensor for name, tensor in tensors.items() if not name.endswith(SCALE)}
    for name in expanded.keys() & {name.removesuffix(SCALE) for name in tensors if name.endswith(SCALE)}:
        scale = tensors[name + SCALE]
        expanded[name] = expanded[name] * scale.reshape(-1, *[1] * (expanded[name].ndim - 1))
    return expanded


def digest(tensors: dict[str, Tensor], text: str = "") -> str:
    """sha256 of a description and of every tensor's name, type, shape and bytes."""
    sha256 = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.flatten().view(torch.uint8).numpy())
    return sha256.hexdigest()
