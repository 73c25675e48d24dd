"""One training at a time in a run folder, whichever process, notebook or panel began it."""

from collections.abc import Generator
from contextlib import ExitStack, suppress
from pathlib import Path
from weakref import WeakValueDictionary

from accelerate import Accelerator
from accelerate.utils import gather_object

from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.locks import locked
from ddpm_utils.training.run import Run

OPEN: WeakValueDictionary[Path, Generator] = WeakValueDictionary()
"""The trainings of this process by run folder, such as one that a cell has left when it was interrupted."""


def exclusively(run: Run, steps: Generator, accelerator: Accelerator) -> Generator:
    """Iterate over the steps of a run while no other training writes to its folder.

    Of several processes that train together, the main one holds the lock. Closing this releases it.

    Args:
        steps: what `loop.train` returned for this run.

    Raises:
        CheckpointError: at the first step, if another process works in the folder, or has changed it since the run
            was opened. Nothing was changed then.
    """
    if run.folder is None:
        return steps
    close_other(run.folder)
    OPEN[run.folder] = training = _with_lock(run, run.folder, steps, accelerator)
    return training


def _with_lock(run: Run, folder: Path, steps: Generator, accelerator: Accelerator) -> Generator:
    with ExitStack() as stack:
        refused = ""
        if accelerator.is_main_process:
            try:
                stack.enter_context(locked(folder))
                if not run.is_current:
                    raise CheckpointError(f"{folder} was changed after this run was opened: open the run again.")
            except CheckpointError as error:
                refused = str(error)
        sentences = [sentence for sentence in gather_object([refused]) if sentence]  # all stop, none waits for another
        if sentences:
            raise CheckpointError(sentences[0])
        yield from steps


def close_other(folder: Path) -> None:
    """Save and close a training of this process in a folder that nobody iterates over at this moment."""
    if other := OPEN.pop(folder, None):
        with suppress(ValueError):  # it is making a step, in another thread: it goes on, and keeps the lock
            other.close()
