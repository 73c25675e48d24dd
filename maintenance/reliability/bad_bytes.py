"""Files that a disk, a copy or an editor has damaged: each is refused in one sentence, or read as what it was."""

import random
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

from ddpm_utils.system.errors import CheckpointError, DataError
from maintenance.reliability.kinds_of_files import Kind, kinds
from maintenance.report import Section, Verdict

SEED = 0
FLIPS = 200
CUTS = 50
EDGE = 4096  # half of the flips are in the first and last so many bytes, where the structure is
OWN = (CheckpointError, DataError, ValueError)
"""What a damaged file may raise: these, not what is derived from them, such as JSONDecodeError."""
OUTCOMES = ("detected", "harmless", "unnoticed", "foreign error")


def flipped(content: bytes, random_: random.Random) -> bytes:
    """With one bit, or one byte, changed."""
    anywhere, near = random_.randrange(len(content)), random_.randrange(min(EDGE, len(content)))
    place = random_.choice([anywhere, anywhere, near, len(content) - 1 - near])
    change = random_.choice([1 << random_.randrange(8), random_.randrange(1, 256)])
    return content[:place] + bytes([content[place] ^ change]) + content[place + 1 :]


def cut(content: bytes, random_: random.Random) -> bytes:
    """Its beginning, which may be nothing."""
    return content[: random_.randrange(len(content))]


def outcome(kind: Kind, expected: str) -> tuple[str, str]:
    """One of `OUTCOMES`, and the error."""
    try:
        return ("harmless" if kind.read() == expected else "unnoticed"), ""
    except Exception as error:
        sentence = str(error)
        is_named = kind.path.name in sentence or "this grid" in sentence
        is_own = type(error) in OWN and is_named and (kind.lines or "\n" not in sentence)
        return ("detected" if is_own else "foreign error"), f"{type(error).__name__}: {sentence}"


def examine(kind: Kind, flips: int = FLIPS, cuts: int = CUTS) -> tuple[Counter, Counter, list[str]]:
    """Damage a file so many times; its outcomes for flips and for cuts, and the errors that are not ours."""
    random_ = random.Random(f"{SEED} {kind.name}")
    content, expected = kind.path.read_bytes(), kind.read()
    found, foreign = (Counter(), Counter()), []
    for counter, damage, times in ((found[0], flipped, flips), (found[1], cut, cuts)):
        for _ in range(times):
            kind.path.write_bytes(damage(content, random_))
            name, error = outcome(kind, expected)
            counter[name] += 1
            if name == "foreign error":
                foreign.append(f"{kind.name}: {error}")
    kind.path.write_bytes(content)
    return *found, foreign


def report() -> Section:
    """A row for each kind of file."""
    rows, foreign = [], []
    with tempfile.TemporaryDirectory(prefix="bad-bytes-") as folder, ExitStack() as stack:
        found, left_out = kinds(Path(folder), stack)
        for kind in found:
            flips, cuts, errors = examine(kind)
            foreign += errors
            rows.append(
                {"kind": kind.name, "bytes": kind.path.stat().st_size}
                | {f"flips: {name}": flips[name] for name in OUTCOMES}
                | {f"cuts: {name}": cuts[name] for name in OUTCOMES}
            )
    return Section("Bad bytes", pd.DataFrame(rows), note(left_out, foreign), verdicts(rows))


def note(left_out: list[str], foreign: list[str]) -> str:
    """How it is done, what could not be tried, and the first errors that are not ours."""
    text = (
        f"Seed {SEED}. Each file is damaged {FLIPS} times in one bit or byte (half of them within {EDGE} bytes of an "
        f"end), cut {CUTS} times, and read each time as the project reads it. *Detected*: one of our own errors, a "
        "sentence that names the file; or, for a notebook as a job and its stamp, executed again. *Harmless*: what is "
        "read is what the intact file gives; or another valid grid, whose jobs are others."
    )
    return "\n\n".join([text, *left_out, *foreign[:5]])


def verdicts(rows: list[dict]) -> tuple[Verdict]:
    """The target, and the sums over all kinds."""
    sums = {name: sum(row[f"{what}: {name}"] for row in rows for what in ("flips", "cuts")) for name in OUTCOMES}
    damages = sum(sums.values())
    measured = ", ".join(f"{count} {name}" for name, count in sums.items())
    return (Verdict(f"{damages} damaged files of {len(rows)} kinds", "0 unnoticed, 0 foreign errors", measured),)
