"""Tensors on disk: atomic, verified, without pickle.

A file is a safetensors file whose header also holds a JSON description and a sha256 of both, so that a file
that was cut short, flipped a bit or belongs to something else is refused in one sentence. Weights are kept with a
probe, what their network answers for a fixed input, so that a network whose code has changed is refused, too.
"""

import hashlib
import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from ddpm_utils.randomness import generator_for
from ddpm_utils.shapes import SIZE
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.files import read_json, write_bytes

REMEDY = "restore it with git checkout, or delete its folder to train again"
SCALE = ".scale"  # ends the name of what 8-bit weights are to be multiplied by
PROBE = "probe"  # the entry that holds what `probe` returned: of the description, or of the file beside the weights
BESIDE = "probe.json"  # where shipped weights have it, so that their own files stay as they are
PROBED = 16  # numbers of each answer that are kept
TOLERANCE = 3e-3
"""How far two probes may lie apart, over the stored answers' RMS. In the shipped networks, other threads and another
algorithm for the convolutions change 1e-5 at most; frequencies of the time that are 1 % higher change 5e-3 and more,
another padding or activation 2e-2 and more."""


def save(path: Path, tensors: dict[str, Tensor], description: dict) -> None:
    """Write named tensors and a description that JSON can hold.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(description, sort_keys=True)
    metadata = {"description": text, "sha256": digest(tensors, text)}
    write_bytes(path, safetensors.torch.save(tensors, metadata))


def load(path: Path, remedy: str = REMEDY, *, foreign: bool = False) -> tuple[dict[str, Tensor], dict]:
    """Read what `save` wrote: the tensors and their description.

    Args:
        remedy: what to do about a damaged file, the end of a sentence.
        foreign: read the tensors of other programs' safetensors files, too; their description is empty.

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
        raise CheckpointError(f"{path} is damaged or truncated ({error}): {remedy}.") from error
    if foreign and not {"description", "sha256"} <= metadata.keys():
        return tensors, {}
    text = metadata.get("description", "")
    if metadata.get("sha256") != digest(tensors, text):
        raise CheckpointError(f"{path} is damaged (its content does not match its sha256): {remedy}.")
    return tensors, json.loads(text)


def load_network(path: Path, network: nn.Module, /, arguments: int = 2, **expected) -> dict:
    """Load weights into a network and return their description, without the probe.

    Args:
        arguments: of the network: 2 for a decoder, 1 for a classifier (see `probe`).
        expected: entries that the description must have, such as schedule="constant".

    Raises:
        CheckpointError: if the file is damaged, is of another network, schedule, … than expected, or the network
            answers otherwise than when the file was written.
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
    stored = description.pop(PROBE, None)
    if stored is None and (beside := path.with_name(BESIDE)).exists():
        stored = read_json(beside, REMEDY)[PROBE]
    check_probe(path, network, stored, arguments)
    return description


@torch.no_grad()
def probe(network: nn.Module, arguments: int = 2) -> list[float]:
    """Return what a network answers for a fixed input, 16 numbers for each of two images, in eval mode and float32.

    Neither the network's training mode nor torch's global generator on the CPU is changed.

    Args:
        arguments: 2 for a decoder g(z, t/T), with z ~ N(0, I) and t/T = 0.25 and 0.75; 1 for a network of z alone.
    """
    inputs = torch.randn((2, 1, SIZE, SIZE), generator=generator_for(0, PROBE)), torch.tensor([0.25, 0.75])
    device = next((tensor.device for tensor in network.state_dict().values()), torch.device("cpu"))
    forward = vars(network).get("_original_forward", network)  # accelerate puts mixed precision around it
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.autocast(device.type, enabled=False), _without_tf32(device):
            torch.default_generator.manual_seed(0)
            answer = forward(*(tensor.to(device) for tensor in inputs[:arguments])).float().cpu().flatten(1)
    finally:
        for module, mode in modes:
            module.training = mode
    kept = torch.linspace(0, answer.shape[1] - 1, min(PROBED, answer.shape[1])).round().long()
    return [float(f"{value:.6g}") for value in answer[:, kept].flatten().tolist()]


def _without_tf32(device: torch.device) -> AbstractContextManager:
    """Keep cuDNN, which rounds factors to 10 bits otherwise, at float32."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if device.type == "cuda" else nullcontext()


def check_probe(path: Path, network: nn.Module, stored: list[float] | None, arguments: int = 2) -> None:
    """Compare what a network answers with the probe of the file that its weights were read from, within rounding.

    A network that answers the same input otherwise each time, since it draws at random, is not compared.

    Raises:
        CheckpointError: if it answers otherwise, or the file holds no probe.
    """
    if stored is None:
        raise CheckpointError(f"{path} does not say what its network answers (it has no probe): {REMEDY}.")
    found = probe(network, arguments)
    if not _agree(found, stored) and _agree(probe(network, arguments), found):
        raise CheckpointError(
            f"{path} does not fit {type(network).__name__}, which answers otherwise than when the file was written: "
            "the network's code has changed, or the file is of another network; undo the change, or train again "
            "with another run_name."
        )


def _agree(found: list[float], stored: list[float]) -> bool:
    """Whether two probes are the same within rounding, and not finite at the same places."""
    if len(found) != len(stored):
        return False
    answers = torch.tensor([found, stored])
    same, (one, other) = answers.isfinite(), answers.nan_to_num(0.0, 0.0, 0.0)
    return torch.equal(*same) and bool((one - other).abs().max() <= TOLERANCE * other.square().mean().sqrt())


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
    rounded = {name for name in tensors if tensors[name].dtype == torch.int8 and name + SCALE in tensors}
    expanded = {name: tensor for name, tensor in tensors.items() if name.removesuffix(SCALE) not in rounded}
    for name in rounded:
        scale = tensors[name + SCALE]
        expanded[name] = tensors[name] * scale.reshape(-1, *[1] * (tensors[name].ndim - 1))
    return expanded


def digest(tensors: dict[str, Tensor], text: str = "") -> str:
    """sha256 of a description and of every tensor's name, type, shape and bytes."""
    sha256 = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.flatten().view(torch.uint8).numpy().data)
    return sha256.hexdigest()
