"""Weights of the user's own: a file of tensors is read without running code, and what fits a network is found in it.

A file is safetensors, or what torch.save wrote: a state dict, or a training state that holds one. All its tensors get
names with dots, such as "state_dict.module.enter.weight". What stands before the network's own names is a prefix.
"""

import os
import pickle
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_utils import checkpoints
from ddpm_utils.names import canonical
from ddpm_utils.system.errors import CheckpointError

WEIGHTS = ("auto", "run", "shipped")
ALLOWED = f"one of {', '.join(WEIGHTS)}, or a file that is there"
REMEDY = "fetch it again from where it comes from"
AVERAGES = {"ema", "avg", "average", "averaged", "shadow"}  # words in the names of averaged weights
LISTED = 3  # names of each kind in an error
DEEPEST = 4  # mappings within each other that are searched


def is_allowed(weights: object) -> bool:
    """Tell whether `weights` is one of `WEIGHTS`, or names a file that is there."""
    if not isinstance(weights, str | os.PathLike):
        return False
    found = absolute(weights)
    return found in WEIGHTS or os.path.isfile(found)


def absolute(weights: str | os.PathLike) -> str:
    """Return the path of a file as seen from any folder, with ~ expanded; one of `WEIGHTS` stays as it is."""
    name = os.fspath(weights)
    return canonical(name, WEIGHTS) or os.path.abspath(os.path.expanduser(name))


def load_file(path: Path, network: nn.Module, expected: Mapping[str, Any]) -> tuple[dict, str]:
    """Load weights of the user's own into a network.

    Args:
        expected: entries that the file's description must not contradict, such as schedule="constant"; a file of
            another program has no description.

    Returns:
        the description, and one line for the reader that says what was found.

    Raises:
        CheckpointError: if the file cannot be read, does not fit, holds values that are not finite, or the network
            answers otherwise than when the file was written.
    """
    tensors, description = _read(path)
    for name, value in expected.items():
        if name in description and description[name] != value:
            raise CheckpointError(f"{path} has {name} = {description[name]!r}, but {value!r} was asked for.")
    tensors = checkpoints.expand(tensors)
    prefix = _find(path, tensors, network)
    own = _under(prefix, tensors)
    broken = [name for name, tensor in own.items() if not tensor.float().isfinite().all()]
    if broken:
        raise CheckpointError(f"{path} holds values that are not finite, in {_listed(broken)}: {REMEDY}.")
    network.load_state_dict(own)
    stored = description.pop(checkpoints.PROBE, None)
    if stored is not None and not prefix:
        checkpoints.check_probe(path, network, stored)
    words = [f"{len(own)} tensors, {sum(parameter.numel() for parameter in network.parameters()):,} parameters"]
    words += [f"the prefix {prefix!r} of their names was removed"] if prefix else []
    words += [f"{len(tensors) - len(own)} other tensors are not used"] if len(tensors) > len(own) else []
    words += [f"epoch {description['epoch']}"] if "epoch" in description else []
    words += [f"trained on {description['dataset']}"] if "dataset" in description else []
    return description, f"Weights of your own, from {path.name}: {'; '.join(words)}."


def _read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """All tensors of a file by name, and its description, which is empty if it is another program's."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error
    if not head:
        raise CheckpointError(f"{path} is empty: {REMEDY}.")
    if head[8:] == b"{":  # after the length of safetensors' header
        tensors, description = checkpoints.load(path, REMEDY, foreign=True)
        return tensors, description | description.pop("run", {})  # a run's last state
    if head.startswith((b"PK", b"\x80")):  # a zip archive, or a pickle
        return _unpickled(path)
    raise CheckpointError(f"{path} holds no weights: it is neither safetensors nor what torch.save writes: {REMEDY}.")


def _unpickled(path: Path) -> tuple[dict[str, Tensor], dict]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, or is damaged; nothing else is read, since a pickle can run code: save "
            "network.state_dict() alone, with torch.save or as safetensors."
        ) from error
    except Exception as error:  # whatever damage makes torch raise
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{path} is damaged or truncated ({reason}): {REMEDY}.") from error
    epoch = content.get("epoch") if isinstance(content, Mapping) else None
    return dict(_flattened(content)), {"epoch": epoch} if type(epoch) is int else {}


def _flattened(content: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """All tensors in mappings within each other, and their names, joined by dots."""
    for key, value in content.items() if isinstance(content, Mapping) and depth < DEEPEST else ():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value.detach()
        yield from _flattened(value, f"{prefix}{key}.", depth + 1)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _find(path: Path, tensors: Mapping[str, Tensor], network: nn.Module) -> str:
    """The prefix of the tensors that fit a network: of several, the one of averaged weights.

    Raises:
        CheckpointError: if nothing fits, or several do that are not the same.
    """
    own = {name: _kind(tensor) for name, tensor in network.state_dict().items()}
    starts = ((name, end) for name in tensors for end in [0, *(i + 1 for i, c in enumerate(name) if c == ".")])
    found = Counter(name[:end] for name, end in starts if name[end:] in own)
    kinds = {prefix: {n: _kind(t) for n, t in _under(prefix, tensors).items()} for prefix in found}
    fitting = [prefix for prefix in found if kinds[prefix] == own]
    if not fitting:
        prefix = max(found, key=lambda prefix: (found[prefix], -len(prefix)), default="")
        wrong = _differences(own, kinds.get(prefix, dict.fromkeys(tensors, "")))
        under = f" under the prefix {prefix!r}" if prefix else ""
        raise CheckpointError(
            f"{path} does not fit {type(network).__name__}{under}: {wrong}; choose the network that it was made with."
        )
    averages = {prefix: sum(word in AVERAGES for word in re.split(r"[._]", prefix.lower())) for prefix in fitting}
    best = [prefix for prefix in fitting if averages[prefix] == max(averages.values())]
    if len({checkpoints.digest(_under(prefix, tensors)) for prefix in best}) > 1:
        raise CheckpointError(f"{path} holds several sets of weights that fit, under {_listed(best)}: save one alone.")
    return best[0]


def _kind(tensor: Tensor) -> str:
    """What must be the same of two tensors, in words: whether they hold fractions, and their shape."""
    return f"{'real' if tensor.is_floating_point() else 'other'} numbers of shape {tuple(tensor.shape)}"


def _differences(own: Mapping[str, str], other: Mapping[str, str]) -> str:
    """What a network's tensors and a file's differ in."""
    kinds = {
        "missing": [name for name in own if name not in other],
        "unexpected": [name for name in other if name not in own],
        "different": [f"{n} ({other[n]}, not {own[n]})" for n in own if n in other and own[n] != other[n]],
    }
    return ", ".join(f"{kind} {_listed(names)}" for kind, names in kinds.items() if names) or "it holds no tensors"


def _listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = [f"{len(names) - LISTED} more"] if len(names) > LISTED else []
    return ", ".join(names[:LISTED]) + "".join(f" and {words}" for words in more)
