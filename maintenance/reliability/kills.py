"""Kill anywhere: SIGKILL at random moments of training, sampling and sweeps, which then go on to the same bits."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import psutil

from ddpm_utils import checkpoints
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.files import LEFT_OVER_SECONDS, Ledger
from maintenance.reliability import work
from maintenance.reliability.work import Forked, damaged, left, start, temporary
from maintenance.report import Section, Verdict

SEED = 20_240
EPOCHS = 12
PARTS = 4  # of what is sampled: an entry of the ledger each
PATIENCE = 20  # seconds in which what a killed process had started must have ended
HANGS = 600  # seconds after which a process that was not killed is taken to hang
Process = subprocess.Popen | Forked


class Kind(NamedTuple):
    """Some work, and how it is killed."""

    name: str
    kills: int
    in_a_row: int  # kills of one piece of work, before it is left to come to its end
    at_a_time: int
    command: Callable[[Path], Sequence[str]]  # for a folder (see `work.start`)
    moment: Callable[[Path], str]  # how far a folder is, if no file was being written
    kill: Callable[[Process], None]


class Trial(NamedTuple):
    """One piece of work that was killed, some times, and then came to its end."""

    moments: list[str]  # one for each kill
    equal: bool  # to the work that was left alone
    damaged: int  # files, after all kills
    temporary: int  # files of a killed writer, after all kills
    remaining: int  # of these, when the work had come to its end
    alive: int  # processes that outlived a kill


def kill_alone(process: Process) -> None:
    """Kill a process, but not what it has started: `kill -9`, or a lack of memory."""
    process.kill()


def kill_all(process: Process) -> None:
    """Kill a process and all that it has started, wherever their process groups: a machine that stops."""
    started = descendants(process)
    process.kill()
    for other in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            other.kill()


def descendants(process: Process) -> list[psutil.Process]:
    """What a process has started, and they in turn."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def moment_of_training(folder: Path) -> str:
    """Before, between or after the checkpoints."""
    last = next(folder.rglob("last.safetensors"), None)
    if last is None:
        return "before the first checkpoint"
    done = len(checkpoints.load(last)[1]["history"])
    return "after the last checkpoint" if done == EPOCHS else "between two checkpoints"


def moment_of_sampling(folder: Path) -> str:
    """Before the first part, between two, or after the last."""
    kept = next(folder.rglob("results-*.json"), None)
    if kept is None:
        return "before the first part"
    done = len(Ledger(kept).results)
    return "after the last part" if done == PARTS else "between two parts"


def moment_of_sweep(folder: Path) -> str:
    """By the notebook that is executed."""
    done = [path for path in folder.rglob("[0-9][0-9]_*.ipynb") if path.stem.count(".") == 0]
    if len(done) == 4:
        return "writing the table"
    if not list(folder.rglob("*.unfinished.ipynb")):
        return "starting"
    return "training" if len(done) < 2 else "evaluating"


KINDS = (
    Kind("training", 30, 1, 2, lambda _: ["train", str(EPOCHS)], moment_of_training, kill_alone),
    Kind("sampling to disk", 14, 1, 2, lambda _: ["sample"], moment_of_sampling, kill_alone),
    Kind("sweep, its parent", 3, 3, 1, work.sweep, moment_of_sweep, kill_alone),
    Kind("sweep, all processes", 3, 3, 1, work.sweep, moment_of_sweep, kill_all),
)


def finish(kind: Kind, folder: Path) -> float:
    """Do the work to its end; returns the seconds that it took.

    Raises:
        RuntimeError: if it fails, or hangs.
    """
    process = start(kind.command(folder), folder)
    started = time.monotonic()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(HANGS)
    if process.returncode != 0:
        kill_all(process)
        printed = (folder / work.LOG).read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"{kind.name} ended with exit status {process.returncode}: …{printed[-500:]}")
    return time.monotonic() - started


def killed_after(kind: Kind, folder: Path, seconds: float) -> tuple[bool, list[psutil.Process]]:
    """Start the work and kill it; whether it was killed before its end, and what it had started."""
    process = start(kind.command(folder), folder)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    started = descendants(process)
    kind.kill(process)
    return process.wait() == -signal.SIGKILL, started


def attempt(kind: Kind, folder: Path, waits: Iterable[float], expected: dict[str, str]) -> Trial:
    """Kill some work after so many seconds, again and again until it is done before that; then compare."""
    moments, spoiled, written, started = [], 0, set(), []
    for seconds in waits:
        before = temporary(folder)
        killed, others = killed_after(kind, folder, seconds)
        if not killed:
            break
        started += others
        moments.append("writing a file" if temporary(folder) - before else kind.moment(folder))
        spoiled += len(damaged(folder))
        for path in temporary(folder) - before:
            written.add(path)
            with contextlib.suppress(FileNotFoundError):  # a worker that lives on for a moment has renamed it
                os.utime(path, (time.time() - 2 * LEFT_OVER_SECONDS,) * 2)  # as if it were resumed two hours later
    try:
        finish(kind, folder)
        equal = left(folder) == expected
    except (RuntimeError, CheckpointError) as error:
        print(f"{folder.name}: {error}", flush=True)
        equal = False
    _, alive = psutil.wait_procs(started, timeout=PATIENCE)
    return Trial(moments, equal, spoiled, len(written), len(temporary(folder)), len(alive))


def lengths(kills: int, in_a_row: int) -> list[int]:
    """How many kills each of several pieces of work is to have."""
    return [min(in_a_row, kills - done) for done in range(0, kills, in_a_row)]


def trials(kind: Kind, folder: Path, expected: dict[str, str], seconds: float, seed: Sequence[int]) -> Iterator[Trial]:
    """Kill pieces of work at moments drawn uniformly from their length, until there were enough kills."""
    generator = np.random.default_rng(seed)
    done, number = 0, 0
    with ThreadPoolExecutor(kind.at_a_time) as pool:
        while done < kind.kills:
            waiting = []
            for count in lengths(kind.kills - done, kind.in_a_row):
                number += 1
                waits = generator.uniform(0, seconds, count)
                waiting.append(pool.submit(attempt, kind, folder / f"{kind.name} {number}", waits, expected))
            for trial in (future.result() for future in waiting):
                done += len(trial.moments)
                yield trial


def row(kind: Kind, found: Sequence[Trial], seconds: float) -> dict:
    """A line of the table. A kill counts as resumed equal if the work that it hit came to the same end."""
    moments = Counter(moment for trial in found for moment in trial.moments)
    return {
        "work": kind.name,
        "lasts": f"{seconds:.0f} s",
        "kills": sum(moments.values()),
        "moments": ", ".join(f"{count} {moment}" for moment, count in moments.most_common()),
        "the same bits": sum(len(trial.moments) for trial in found if trial.equal),
        "spoiled files": sum(trial.damaged for trial in found),
        "temporary files": sum(trial.temporary for trial in found),
        "of these kept": sum(trial.remaining for trial in found),
        "processes left": sum(trial.alive for trial in found),
    }


def alone(kind: Kind, folder: Path) -> tuple[dict[str, str], float]:
    """What some work leaves, and the seconds that it takes, if it is left alone.

    Raises:
        RuntimeError: if several at a time do not leave the same.
    """
    folders = [folder / f"{kind.name}, alone {copy}" for copy in range(kind.at_a_time)]
    with ThreadPoolExecutor(kind.at_a_time) as pool:
        seconds = min(pool.map(partial(finish, kind), folders))
    expected = left(folders[0])
    if any(left(other) != expected for other in folders):
        raise RuntimeError(f"{kind.name}: two that were left alone are not the same.")
    return expected, seconds


def report() -> Section:
    """Kill, resume and compare."""
    rows, known = [], {}
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        for number, kind in enumerate(KINDS):
            if kind.command not in known:
                known[kind.command] = alone(kind, Path(folder))
            expected, seconds = known[kind.command]
            found = list(trials(kind, Path(folder), expected, seconds, (SEED, number)))
            rows.append(row(kind, found, seconds))
    table = pd.DataFrame(rows)
    note = (
        f"SIGKILL at moments drawn uniformly (seed {SEED}) from the time that the work takes when it is left alone; "
        "then the same command to its end. A kill counts if the process had not ended. *Training*: `ddpm train`, "
        f"{EPOCHS} epochs of two steps on 128 digits, in a process forked from one that has imported PyTorch. "
        f"*Sampling to disk*: {PARTS} parts of `evaluate` with a ledger, likewise. *Sweep*: `ddpm sweep`, two "
        "experiments times two notebooks, killed up to three times in a row and started again at once; its parent "
        "alone, or with all that it had started. Compared are every tensor, loss and step of all checkpoints, the "
        "ledger and the sweep's results.csv, but not the seconds that something took. *Spoiled files* are those that "
        "a reader would take for results and cannot read, after each kill. *Temporary files* are those that a killed "
        "writer left; they are made to look two hours old before the work goes on, and the next write of the same "
        "file deletes them: *of these kept* were those whose file was not written again."
    )
    kills, equal = table["kills"].sum(), table["the same bits"].sum()
    verdicts = (
        Verdict("killed anywhere, then resumed: the same bits", f"{kills} of {kills}", f"{equal} of {kills}"),
        Verdict("half-written files that could be taken for results", "0", str(table["spoiled files"].sum())),
        Verdict("processes that outlive a kill", "0", str(table["processes left"].sum())),
    )
    return Section("Kill anywhere", table, note, verdicts)
