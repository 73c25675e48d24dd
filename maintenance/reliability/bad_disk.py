"""A disk that is full, and one that cannot be written: one sentence, nothing lost, and the same bits later."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ddpm_utils.system.files import read_json, write_json
from ddpm_utils.system.locks import LOCK
from maintenance.reliability import work
from maintenance.reliability.work import left, start, temporary
from maintenance.report import Section, Verdict

MEGABYTES = 64  # of the disk
PATIENCE = 300  # seconds
FILLER = "filler"
EPOCHS = 4
ALMOST = "1 MB left"  # too little for a checkpoint


class Case(NamedTuple):
    """Something that writes, and what is there before."""

    name: str
    command: Callable[[Path], Sequence[str]]  # for a folder (see `work.start`)
    begins: str = ""  # with the files of that folder, of those that `good_disk` makes
    states: tuple[str, ...] = ("full", "read-only")
    again: bool = True  # whether it is done again when there is space


def one_experiment(folder: Path) -> list[str]:
    """A sweep's first experiment."""
    return [*work.sweep(folder), "--only", "1"]


def training(folder: Path) -> list[str]:
    """A training."""
    return ["train", str(EPOCHS)]


def sampling(folder: Path) -> list[str]:
    """An evaluation with a ledger."""
    return ["sample"]


def site(folder: Path) -> list[str]:
    """The site of a sweep."""
    return ["ddpm", "site", str(folder / "data" / "runs" / "grid")]


CASES = (
    Case("training", training, "half trained", ("full", ALMOST, "read-only")),
    Case("ledger", sampling, "half sampled"),
    Case("sweep", one_experiment, "", ("full", ALMOST, "read-only")),
    Case("sweep's table", one_experiment, "swept"),
    Case("site", site, "swept"),
    Case("student edition", lambda _: ["ddpm", "student"]),
    Case("clean", lambda _: ["ddpm", "clean"], "half trained", ("read-only",), again=False),
)


@contextlib.contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of its own in memory.

    Raises:
        OSError: if it cannot be mounted.
    """
    with tempfile.TemporaryDirectory(prefix="bad-disk-") as folder:
        _mount(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", folder])
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(command: list[str]) -> None:
    """Mount something.

    Raises:
        OSError: if that is not allowed; the sentence says why.
    """
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise OSError(done.stderr.strip())


def spoil(state: str, disk: Path) -> None:
    """Fill a disk to its last byte, or almost, or let nobody write to it."""
    if state == "read-only":
        _mount(["mount", "-o", "remount,ro", str(disk)])
        return
    with contextlib.suppress(OSError), (disk / FILLER).open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    if state == ALMOST:
        os.truncate(disk / FILLER, (disk / FILLER).stat().st_size - 2**20)


def mend(state: str, disk: Path) -> None:
    """Undo `spoil`."""
    if state == "read-only":
        _mount(["mount", "-o", "remount,rw", str(disk)])
    else:
        (disk / FILLER).unlink()


def run(command: Sequence[str], folder: Path, log: Path) -> tuple[int, str]:
    """Do some work to its end; its exit status and what it printed."""
    log.unlink(missing_ok=True)
    process = start(command, folder, log)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(), "hangs"
    return process.returncode, log.read_text(encoding="utf-8")


def contents(folder: Path) -> dict[str, str]:
    """The hash of every file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((FILLER, LOCK))]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def outcome(folder: Path) -> dict[str, str]:
    """What is to be the same as on a good disk."""
    kept = {name: value for name, value in contents(folder).items() if name.endswith(".html") or "student" in name}
    return left(folder) | kept


def sentences(printed: str) -> list[str]:
    """What a command said of its failure."""
    lines = printed.splitlines()
    return [line for line in lines if line.startswith(("ddpm: ", "FAILED ", "The results could not"))]


def row(case: Case, state: str, expected: dict[str, str] | None, good: Path) -> dict:
    """Do the work on a bad disk, and again on the same disk when it is a good one."""
    with small_disk() as disk, tempfile.TemporaryDirectory(prefix="log-") as logs:
        folder, log = disk / "work", Path(logs) / work.LOG
        shutil.copytree(good / case.begins, folder) if case.begins else folder.mkdir()
        command, before = case.command(folder), contents(folder)
        spoil(state, disk)
        status, printed = run(command, folder, log)
        after, said = contents(folder), sentences(printed)
        mend(state, disk)
        found = {
            "work": case.name,
            "disk": state,
            "exit status": status,
            "one sentence": len(said) == 1 and "Traceback" not in printed,
            "untouched": all(after.get(name) == value for name, value in before.items()),
            "temporary files": len(temporary(folder)),
            "it said": said[0].replace(str(folder), "…") if said else printed[-200:],
        }
        if case.again:
            found["then"] = run(command, folder, log)[0] == 0 and outcome(folder) == expected
    return found


def good_disk(good: Path) -> dict[str, dict[str, str]]:
    """All of the work on a good disk, in folders that the cases begin with; what it leaves, by a case's name.

    Raises:
        RuntimeError: if some of it fails.
    """

    def do(name: str, command: Callable[[Path], Sequence[str]]) -> Path:
        folder = good / name
        folder.mkdir(exist_ok=True)
        status, printed = run(command(folder), folder, good / f"{name}.log")
        if status:
            raise RuntimeError(f"{name} failed on a good disk: …{printed[-500:]}")
        return folder

    with ThreadPoolExecutor(2) as pool:
        sweep = pool.submit(do, "sweep", one_experiment)
        do("half trained", lambda _: ["train", str(EPOCHS // 2)])
        done = {
            "training": do("training", training),
            "ledger": do("ledger", sampling),
            "student edition": do("student edition", lambda _: ["ddpm", "student"]),
        }
        done["sweep"] = done["sweep's table"] = sweep.result()
    kept = next(shutil.copytree(done["ledger"], good / "half sampled").rglob("results-*.json"))
    name, value = next(iter(read_json(kept).items()))
    write_json(kept, {name: value}, indent=None)
    swept = shutil.copytree(done["sweep"], good / "swept")
    (swept / "data" / "runs" / "grid" / "results.csv").write_text("older\n", encoding="utf-8")
    shutil.copytree(swept, good / "site")
    done["site"] = do("site", site)
    return {name: outcome(folder) for name, folder in done.items()}


def holds(found: dict) -> bool:
    """Whether a line of the table is as it should be."""
    clean = found["exit status"] == 1 and found["one sentence"] and found["untouched"]
    return clean and found["temporary files"] == 0 and found.get("then", True)


def report() -> Section:
    """Spoil a disk under everything that writes."""
    title = "A disk that is full, or cannot be written"
    try:
        with small_disk():
            pass
    except OSError as error:
        reason = f"not tried: no file system can be mounted here ({error})"
        return Section(title, pd.DataFrame(), reason, (Verdict(title, "", reason),))
    with tempfile.TemporaryDirectory(prefix="good-disk-") as good:
        expected = good_disk(Path(good))
        pairs = [(case, state) for case in CASES for state in case.states]
        with ThreadPoolExecutor(2) as pool:
            rows = list(pool.map(lambda pair: row(*pair, expected.get(pair[0].name), Path(good)), pairs))
    note = (
        f"A tmpfs of {MEGABYTES} MB, filled to its last byte, or but for 1 MB, which is too little for a checkpoint, "
        "or mounted read-only (root may write to folders without write permission: these would show nothing). "
        "*Untouched*: whatever was there before has the same bytes. *Then*: with space again, the same command ends "
        "well and leaves what a good disk has, bit for bit but for dates and seconds."
    )
    fine = sum(holds(found) for found in rows)
    what = "a bad disk: one sentence, nothing lost, and it goes on"
    verdict = Verdict(what, f"{len(rows)} of {len(rows)}", f"{fine} of {len(rows)}")
    return Section(title, pd.DataFrame(rows), note, (verdict,))
