"""One process at a time works in a folder: a lock, who holds it, and what may be deleted under it.

The lock of the operating system on `.lock` decides, which ends with its process, however that ends. The note beside it,
`.lock.json`, is for the sentence that another process is refused with. Lock files stay: deleting one would let two
processes in at once.
"""

import contextlib
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import filelock

from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.files import read_json, write_json

LOCK, NOTE = ".lock", ".json"  # names of locks begin with the first; the second ends the name of a lock's note


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool = False, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of a folder, which is made if need be; whoever holds it may write and delete what is in there.

    Args:
        shared: take a lock of this process's own beside others: it only keeps `check_unlocked` from passing.
        wait: seconds to wait for a process that holds the lock.

    Raises:
        CheckpointError: if another process holds the lock, or the folder cannot be written. Nothing was changed.
    """
    name = f"{LOCK}-{platform.node()}-{os.getpid()}" if shared else LOCK
    with _held(folder / name, wait):
        try:
            yield
        finally:
            if shared:
                (folder / name).unlink(missing_ok=True)  # nobody else takes it


@contextlib.contextmanager
def _held(path: Path, wait: float) -> Iterator[None]:
    lock, note = filelock.FileLock(path, timeout=wait, thread_local=False), path.with_name(path.name + NOTE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise CheckpointError(f"{path.parent} is in use by {_holder(note)}: wait for its end, or stop it.") from error
    except OSError as error:
        raise CheckpointError(f"{path.parent} cannot be written ({error.strerror}); nothing was changed.") from error
    try:
        with contextlib.suppress(CheckpointError, OSError):  # a full disk, say: the lock holds without a note
            note.unlink(missing_ok=True)  # of a process that was killed
            write_json(note, _this_process())
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def _this_process() -> dict:
    """What a note says of who holds a lock."""
    program, *arguments = sys.argv or [""]
    name = Path(program).parent.name if Path(program).stem == "__main__" else Path(program).stem
    command = "a notebook" if "ipykernel" in program else " ".join([name, *arguments])
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    return {"command": command, "process": os.getpid(), "host": platform.node(), "since": since}


def _holder(note: Path) -> str:
    """Who holds a lock, in words, as its note tells."""
    try:
        found = read_json(note)
    except CheckpointError:  # it has just been taken, or released
        return "another process"
    where = "" if found["host"] == platform.node() else f" on {found['host']}"
    return f"{found['command']} (process {found['process']}{where}, since {found['since'][:16]})"


def check_unlocked(folder: Path, *, wait: float = 0.0) -> None:
    """Refuse a folder that a process works in, or below it; the lock of the folder itself does not count.

    Args:
        wait: seconds to wait for each process that holds a lock.

    Raises:
        CheckpointError: if a lock below is held; it says by whom.
    """
    for path in sorted(folder.rglob(f"{LOCK}*")):
        if not path.name.endswith(NOTE) and path != folder / LOCK:
            with _held(path, wait):
                pass


def delete_runs(folders: Iterable[Path]) -> None:
    """Delete all that folders hold, if no process works in one of them; otherwise nothing.

    Raises:
        CheckpointError: if another process holds a lock.
        OSError: if something cannot be deleted.
    """
    there = [folder for folder in folders if folder.exists()]
    with contextlib.ExitStack() as stack:
        for folder in there:
            stack.enter_context(locked(folder))
        for folder in there:
            empty(folder)


def empty(folder: Path) -> None:
    """Delete all that a folder holds but its lock, which the caller holds.

    Raises:
        OSError: if something cannot be deleted.
    """
    for path in folder.iterdir():
        if path.name in (LOCK, LOCK + NOTE):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
