"""Notebooks as jobs: executed by papermill, recognised when they need not be executed again, told of as events."""

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import papermill
import torch

from ddpm_utils.batch.kernels import environment
from ddpm_utils.batch.notebooks import without_exercises
from ddpm_utils.batch.provenance import made_of
from ddpm_utils.networks.cpu import VARIABLE, convolution
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.files import METADATA, read_notebook, seal_notebook, write_bytes
from ddpm_utils.system.locks import check_unlocked, locked
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.restorations import RestorationExperiment
from ddpm_utils.training.run import CONVOLUTION

LOCK_SECONDS = 30  # a killed process is given so long to die before another one takes over


class Job(NamedTuple):
    """One notebook with its parameters, and where it goes."""

    notebook: str  # its name without ending
    parameters: dict
    folder: Path  # of the experiment; the executed notebook goes there
    output: Path  # runs and figures are written below it
    experiment: dict | None = None  # its parameters, for a job that is to be recognised; None executes it always
    made_of: dict | None = None  # see `provenance`, where the sweep was started
    convolution: str = ""  # the form of all jobs of a sweep, see `networks.cpu`; "" leaves it to the kernel

    @property
    def target(self) -> Path:
        """The executed notebook: there when the job is done, as a whole."""
        return self.folder / f"{self.notebook}.ipynb"


Chain = Sequence[Job]
"""The jobs of one experiment, in order, which build on each other; chains do not depend on each other."""


class Event(NamedTuple):
    """What a job does; of plain values, so that it can be sent from anywhere."""

    experiment: str  # its folder's name
    notebook: str
    state: str  # "running" (once per cell), then one of "done", "failed"; or "kept", as it was done before
    cell: int = 0  # running: 1 … cells
    cells: int = 0
    seconds: float = 0.0  # done, kept: how long the execution took
    message: str = ""  # failed: cell and error


def execute(job: Job, threads: int, tell: Callable[[Event], None] = lambda event: None) -> Event:
    """Execute one notebook, up to its exercises. A failed one is left as <notebook>.failed.ipynb.

    A kernel that does not start, or dies, is given one more chance: a busy machine may have been at fault.

    Args:
        threads: how many cores its kernel may use.
        tell: is told of each cell before it is executed.

    Returns:
        the event that it is done, or has failed.
    """
    title = (job.folder.name, job.notebook)
    job.folder.mkdir(parents=True, exist_ok=True)
    unfinished, failed = (job.target.with_suffix(f".{word}.ipynb") for word in ("unfinished", "failed"))
    notebook = without_exercises(job.notebook)
    notebook.metadata[METADATA] = {"made_of": job.made_of, "torch": torch.__version__, CONVOLUTION: job.convolution}
    cells, reached = len(notebook.cells) + 1, 0  # papermill adds one with the parameters

    def reach(cell: int) -> None:
        nonlocal reached
        reached = cell
        tell(Event(*title, "running", cell, cells))

    for chance in ("first", "last"):
        try:
            with (job.folder / "kernel.log").open("ab") as log:
                executed = papermill.execute_notebook(
                    notebook,
                    str(unfinished),
                    parameters=job.parameters,
                    kernel_name="python3",
                    engine_name="observed",
                    progress_bar=False,
                    on_cell=reach,
                    environment=environment(threads, str(job.output), job.convolution),
                    log=log,
                )
            seal_notebook(unfinished, job.target)
            failed.unlink(missing_ok=True)
            return Event(*title, "done", seconds=executed.metadata.papermill["duration"])
        except papermill.PapermillExecutionError as error:
            message = f"cell [{error.exec_count}]: {error.ename}: {error.evalue}"
        except RuntimeError as error:  # the kernel
            message = f"cell {reached} of {cells}: {type(error).__name__}: {error}"
            if chance == "first":
                continue
        except Exception as error:  # a full disk, say: the other experiments go on
            message = f"{type(error).__name__}: {error}"
            unfinished.unlink(missing_ok=True)  # it may have been cut short
        break
    if unfinished.exists():
        try:
            seal_notebook(unfinished, failed)
        except (ValueError, CheckpointError):  # a full disk, say
            os.replace(unfinished, failed)
    return Event(*title, "failed", message=message)


def execute_chain(jobs: Chain, threads: int, tell: Callable[[Event], None]) -> None:
    """Execute one experiment's jobs, which build on each other, in order, up to the first that fails.

    Jobs that are done already are kept. What another version of code, data or parameters has executed or trained is
    deleted before it is made again, so that nothing old can vouch for it; a training by this version is continued. No
    two processes work on one experiment at a time.
    """
    job, folder = jobs[0], jobs[0].folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, wait=LOCK_SECONDS):
            for job in jobs:
                event = _execute_unless_done(job, threads, tell)
                tell(event)
                if event.state == "failed":
                    break
    except CheckpointError as error:
        tell(Event(folder.name, job.notebook, "failed", message=str(error)))
    except Exception as error:  # a folder that cannot be written, data that are damaged: the others go on
        tell(Event(folder.name, job.notebook, "failed", message=f"{type(error).__name__}: {error}"))


def _execute_unless_done(job: Job, threads: int, tell: Callable[[Event], None]) -> Event:
    if job.experiment is None:
        return execute(job, threads, tell)
    kind = RestorationExperiment if "degradation" in job.experiment else Experiment
    here = made_of(kind(**job.experiment), job.notebook, job.parameters)
    if job.made_of not in (None, here):
        message = f"this machine has another {' and '.join(differences(here, job.made_of))} than the sweep's."
        return Event(job.folder.name, job.notebook, "failed", message=message)
    found = find(job)
    if found and found["made_of"] == here:
        return Event(job.folder.name, job.notebook, "kept", seconds=found["seconds"])
    check_unlocked(job.folder, wait=LOCK_SECONDS)  # the kernel of a worker that was killed may be saving its run
    stamp = job.folder / "training.sha256"
    if not stamp.exists() or stamp.read_bytes() != here["training"].encode():
        for executed in job.folder.glob("*.ipynb"):
            executed.unlink()
        shutil.rmtree(job.output / "data" / "runs", ignore_errors=True)
        write_bytes(stamp, here["training"].encode())
    job.target.unlink(missing_ok=True)
    return execute(job._replace(made_of=here), threads, tell)


def find(job: Job) -> dict | None:
    """What an executed notebook was made of, with which convolution, and how many seconds it took.

    None if it is not there, or altered.
    """
    with contextlib.suppress(CheckpointError):
        content, is_sealed = read_notebook(job.target)
        if is_sealed:
            metadata = content["metadata"]
            about = metadata[METADATA]
            return {
                "made_of": about["made_of"] or {},
                "seconds": metadata["papermill"]["duration"],
                CONVOLUTION: about.get(CONVOLUTION, ""),
            }
    return None


def with_convolution(chains: Sequence[Chain], threads: int) -> list[Chain]:
    """Give all jobs one form of the 7×7 convolutions (see `networks.cpu`), so that no worker chooses another.

    `DDPM_CONVOLUTION` decides if it is set. Otherwise finished jobs decide: the sweep keeps their form. If there
    are none, the faster form on this machine is used.

    Args:
        threads: of each experiment.

    Raises:
        ValueError: if `DDPM_CONVOLUTION` is no form.
    """
    finished = [] if os.environ.get(VARIABLE) else [find(job) for chain in chains for job in chain if is_done(job)]
    form = next((found[CONVOLUTION] for found in finished if found and found[CONVOLUTION]), None)
    form = form or convolution(threads)
    return [[job._replace(convolution=form) for job in chain] for chain in chains]


def is_done(job: Job) -> bool:
    """Whether a job was executed already, with the same code, data and parameters."""
    found = find(job)
    return found is not None and found["made_of"] == job.made_of


def is_complete(chain: Chain) -> bool:
    """Whether all jobs of an experiment are done."""
    return all(is_done(job) for job in chain)


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The names of what two results were not both made of."""
    return [name for name in one if one[name] != other.get(name)]
