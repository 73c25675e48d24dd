"""The notebooks as a batch: papermill over experiments, in processes, and one table of their results."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path
from queue import Queue
from typing import NamedTuple

import pandas as pd
import papermill

from ddpm_utils.checkpoints import write_bytes
from ddpm_utils.data import PROJECT
from ddpm_utils.experiment import Experiment
from ddpm_utils.restoration_experiment import RestorationExperiment
from ddpm_utils.table import to_markdown

NOTEBOOKS = PROJECT / "notebooks"
STRIPPED_KEYS = "metadata.widgets metadata.papermill cell.metadata.papermill cell.metadata.execution"


PART_2 = "05_custom_degradation"
FIRST_MINUTE = "first-minute"  # the run that the main job trains from scratch


def numbered() -> list[Path]:
    """The notebooks 01 to 05, in order."""
    return sorted(NOTEBOOKS.glob("0*.ipynb"))


class Job(NamedTuple):
    """One notebook with its parameters, to be executed into `target`."""

    notebook: str  # its name without ending
    parameters: dict
    target: Path

    @property
    def title(self) -> str:
        """For progress lines: the experiment's folder and the notebook."""
        return f"{self.target.parent.name} / {self.notebook}"


class Done(NamedTuple):
    """What became of a job."""

    job: Job
    error: str | None  # None: executed


def check(notebook: str, parameters: dict) -> None:
    """Refuse names that the notebook's parameters cell does not have (papermill itself would only warn).

    Raises:
        ValueError: if there is no such notebook, or it has no such parameter.
    """
    path = NOTEBOOKS / f"{notebook}.ipynb"
    if not path.exists():
        known = ", ".join(path.stem for path in numbered())
        raise ValueError(f"there is no notebook {notebook!r}; there are {known}.")
    known = papermill.inspect_notebook(str(path))
    for name in parameters:
        if name not in known:
            raise ValueError(f"{notebook} has no parameter {name!r}; it has {', '.join(known)}.")


def main_job(experiments: Iterable[Experiment], folder: Path, values: dict) -> list[list[Job]]:
    """What `make run` executes: notebooks 01–04 for each experiment, and 05, as chains for `execute_chains`.

    Args:
        folder: of the executed notebooks.
        values: parameters to change, of those that the notebooks are given here; the schedules stay.

    Raises:
        ValueError: if no notebook is given one of the values.
    """
    chains = []
    for experiment in experiments:
        schedule = {name: value for name, value in experiment.identity.items() if name != "network"}
        parameters = {
            "01_forward_process": {"dataset": "mnist"},
            "02_training": {"run_name": FIRST_MINUTE, "epochs": 4},
            "03_sampling": {"dataset": "mnist", "weights": "shipped", "calls": 100},
            "04_evaluation": {"dataset": "mnist", "weights": "shipped", "calls": 100, "samples": 500, "images": 500},
        }
        changed = {n: p | {name: values[name] for name in p if name in values} for n, p in parameters.items()}
        chains.append([Job(n, schedule | p, folder / experiment.slug / f"{n}.ipynb") for n, p in changed.items()])
    for name in values:
        if name == "run_name" or not any(name in p for p in parameters.values()):
            raise ValueError(f"there is no parameter {name!r} to change in this job.")
    cold = {"dataset": "mnist", "weights": "shipped"}
    return [*chains, [Job(PART_2, cold, folder / RestorationExperiment().slug / f"{PART_2}.ipynb")]]


def execute(job: Job, threads: int, bar: int | None = None) -> Done:
    """Execute one notebook; a failed one is left beside the target with the ending .failed.ipynb.

    Args:
        threads: how many cores its kernel may use.
        bar: the terminal line for a progress bar over its cells; None for no bar.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)  # the kernel inherits it
    job.target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = job.target.with_suffix(".failed.ipynb")
    try:
        papermill.execute_notebook(
            str(NOTEBOOKS / f"{job.notebook}.ipynb"),
            str(unfinished),
            parameters=job.parameters,
            kernel_name="python3",
            progress_bar={"desc": job.title, "position": bar, "leave": False} if bar is not None else False,
        )
    except papermill.PapermillExecutionError as error:
        return Done(job, f"{error.ename}: {error.evalue}")
    except Exception as error:  # a kernel that died, a full disk: the other chains go on
        return Done(job, f"{type(error).__name__}: {error}")
    os.replace(unfinished, job.target)
    return Done(job, None)


def execute_chain(jobs: list[Job], threads: int, bar: int | None, events: Queue) -> None:
    """Execute jobs that build on each other, in order, up to the first that fails; tell `events` of each."""
    for job in jobs:
        events.put(job)
        done = execute(job, threads, bar)
        events.put(done)
        if done.error:
            break


def execute_chains(chains: list[list[Job]], *, bars: bool = False) -> Iterator[Job | Done]:
    """Execute independent chains in parallel processes; yields each job when it starts and when it is done.

    The processor's cores are shared out among the workers, so that they are never oversubscribed.

    Args:
        bars: show a progress bar for each running notebook, on standard error.

    Raises:
        ValueError: before anything starts, if a notebook or a parameter does not exist.
    """
    for job in (job for chain in chains for job in chain):
        check(job.notebook, job.parameters)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, len(chains))
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(workers, mp_context=context) as pool:
        events = manager.Queue()
        futures = [
            pool.submit(execute_chain, chain, cores // workers, index % workers if bars else None, events)
            for index, chain in enumerate(chains)
        ]
        pending = set(futures)
        while pending:
            finished, pending = wait(pending, timeout=0.5)
            while not events.empty():
                yield events.get()
            for future in finished:
                future.result()  # raises what the worker raised


def results_table(experiments: Iterable[Experiment]) -> pd.DataFrame:
    """The rows that notebook 04 left for each experiment, in one table: Table 1 of the report, completed."""
    paths = [experiment.table_path for experiment in experiments]
    rows = [row for path in paths if path.exists() for row in json.loads(path.read_text(encoding="utf-8"))]
    return pd.DataFrame(rows)


def write_table(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Write a table as results.csv (all digits) and results.md (rounded); returns their paths."""
    paths = [folder / "results.csv", folder / "results.md"]
    write_bytes(paths[0], table.to_csv(index=False).encode())
    write_bytes(paths[1], (to_markdown(table) + "\n").encode())
    return paths


def refresh() -> None:
    """Execute the committed notebooks from top to bottom at their default parameters, and strip them."""
    for path in [*numbered(), NOTEBOOKS / "app.ipynb"]:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["DDPM_OUTPUT"] = folder  # figures and runs of this execution are not kept
            executed = Path(folder) / path.name
            papermill.execute_notebook(str(path), str(executed), kernel_name="python3")
            keep = ["--keep-output", "--keep-count", "--extra-keys", STRIPPED_KEYS]
            subprocess.run([sys.executable, "-m", "nbstripout", *keep, str(executed)], check=True)
            shutil.copyfile(executed, path)
