"""Files that are written whole or not at all, and hold a sha256 of their content: damaged files are rejected.

JSON is sealed by a last entry "sha256", CSV by a last line "# sha256 …", a notebook by an entry of its metadata. Only
content counts: not the layout of JSON, nor line ends.
"""

import base64
import contextlib
import glob
import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import torch
from jaxtyping import Float
from torch import Tensor

from ddpm_utils.system.errors import CheckpointError

SEAL = "sha256"
CSV_SEAL = f"# {SEAL} "
METADATA = "ddpm_utils"  # the key of what we note in an executed notebook
RESTORE = "restore it with git checkout, or record it again"
LEFT_OVER_SECONDS = 3600  # a temporary file that old is of a process that was killed, and not being written


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all: a temporary file beside it, synced, then renamed.

    Raises:
        CheckpointError: if it cannot be written (no space, no permission); what was there before stays.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over(path)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise CheckpointError(f"{path} could not be saved ({error.strerror}); nothing was changed.") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def _remove_left_over(path: Path) -> None:
    """Delete the temporary files of `write_bytes` for this path that a kill left there; others may be in use."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.????????"):
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            if time.time() - temporary.stat().st_mtime > LEFT_OVER_SECONDS:
                temporary.unlink()


def fingerprint(content: dict | list) -> str:
    """sha256 of what JSON can hold, in its order."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def write_json(path: Path, content: dict, *, indent: int | None = 1) -> None:
    """Write what JSON can hold, and its seal, which takes the name "sha256".

    Raises:
        CheckpointError: if the file cannot be written.
    """
    sealed = content | {SEAL: fingerprint(content)}
    write_bytes(path, (json.dumps(sealed, indent=indent, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, remedy: str = RESTORE) -> dict:
    """Read what `write_json` wrote.

    Args:
        remedy: what to do about a damaged file; it ends the sentence of the error.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    try:
        content = json.loads(_read(path, remedy))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged (it is not JSON): {remedy}.") from error
    if not isinstance(content, dict) or content.pop(SEAL, None) != fingerprint(content):
        raise CheckpointError(f"{path} is damaged (its content does not match its sha256): {remedy}.")
    return content


def to_csv(table: pd.DataFrame) -> bytes:
    """A table as CSV, and its seal."""
    text = table.to_csv(index=False, lineterminator="\n")
    return f"{text}{CSV_SEAL}{hashlib.sha256(text.encode()).hexdigest()}\n".encode()


def read_csv(path: Path, remedy: str = RESTORE) -> pd.DataFrame:
    """Read a file of what `to_csv` returned.

    Arguments and errors as for `read_json`.
    """
    text, _, seal = _read(path, remedy).rpartition(CSV_SEAL)
    if seal != f"{hashlib.sha256(text.encode()).hexdigest()}\n":
        raise CheckpointError(f"{path} is damaged (its content does not match its sha256): {remedy}.")
    return pd.read_csv(io.StringIO(text))


def _read(path: Path, remedy: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): {remedy}.") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is damaged (it is not text): {remedy}.") from error


def seal_notebook(path: Path, target: Path) -> None:
    """Move an executed notebook to where it is looked for, as a whole, with a seal among its metadata.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    note = content["metadata"].setdefault(METADATA, {})
    note.pop(SEAL, None)
    note[SEAL] = fingerprint(content)
    write_bytes(target, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    path.unlink()


def read_notebook(path: Path) -> tuple[dict, bool]:
    """An executed notebook, and whether it has a seal, as all have that a job has executed.

    Raises:
        CheckpointError: if it is missing, no notebook, or does not match its seal.
    """
    remedy = "execute it again, or delete it"
    try:
        content = json.loads(_read(path, remedy))
        note = content["metadata"].get(METADATA, {})
        seal = note.pop(SEAL, "" if "made_of" in note else None)  # a job notes what it was made of, and seals that
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged (it is not a notebook): {remedy}.") from error
    if seal not in (None, fingerprint(content)):
        raise CheckpointError(f"{path} was altered after it was executed: {remedy}.")
    return content, seal is not None


class Ledger:
    """A JSON file of named results. What is in it is not computed again.

    Args:
        path: the file, which need not exist; its name should hold the hashes of what the results depend on.

    Raises:
        CheckpointError: if the file is damaged.
    """

    def __init__(self, path: Path):
        self.path = path
        self.results = read_json(path, "delete it to measure again") if path.exists() else {}

    def __call__(self, name: str, compute: Callable[[], Any]) -> Any:
        """The result of that name, computed and kept if it is not there; what JSON can hold."""
        if name not in self.results:
            self.results[name] = compute()
            write_json(self.path, self.results, indent=None)
        return self.results[name]


def compute_always(name: str, compute: Callable[[], Any]) -> Any:
    """In a ledger's place where nothing is to be kept."""
    return compute()


def to_text(images: Float[Tensor, "n 1 height width"]) -> str:
    """Images in [−0.5, 0.5], clamped, as the text of a PNG that holds them side by side."""
    pixels = ((images.clamp(-0.5, 0.5) + 0.5) * 255).round().byte()
    content = io.BytesIO()
    PIL.Image.fromarray(torch.cat(list(pixels), dim=-1)[0].numpy()).save(content, "png", optimize=True)
    return base64.b64encode(content.getvalue()).decode()


def to_images(text: str) -> Float[Tensor, "n 1 28 28"]:
    """What `to_text` made of square images, to the nearest of 256 grey levels."""
    pixels = torch.from_numpy(np.array(PIL.Image.open(io.BytesIO(base64.b64decode(text)))))
    return torch.stack(pixels.split(len(pixels), dim=-1)).unsqueeze(1).float() / 255 - 0.5
