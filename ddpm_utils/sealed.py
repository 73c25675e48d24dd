"""Results that tell of damage: each file holds a sha256 of its content, and is refused if that does not match.

JSON is sealed by a last entry "sha256", CSV by a last line "# sha256 …", a notebook by an entry of its metadata. Only
content counts: not the layout of JSON, nor line ends.
"""

import hashlib
import io
import json
from pathlib import Path

import pandas as pd

from ddpm_utils.checkpoints import CheckpointError, write_bytes

SEAL = "sha256"
CSV_SEAL = f"# {SEAL} "
METADATA = "ddpm_utils"  # the key of what we note in an executed notebook
RESTORE = "restore it with git checkout, or record it again"


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
