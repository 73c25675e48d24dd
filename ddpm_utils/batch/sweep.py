"""The notebooks as a batch: what a grid of experiments executes, and one table of what came out."""

import base64
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ddpm_utils.batch.grid import PART_2, Entry
from ddpm_utils.batch.jobs import Chain, Event, Job, differences, find, is_done
from ddpm_utils.batch.parameters import OWN, check_parameters, located, problem
from ddpm_utils.batch.provenance import made_of
from ddpm_utils.data.datasets import is_mnist, load
from ddpm_utils.evaluation.tables import LIVE, to_markdown
from ddpm_utils.names import suggestion
from ddpm_utils.plots.images import to_png
from ddpm_utils.plots.quality_map import in_words, is_map, quality_map
from ddpm_utils.system.files import read_json, write_bytes, write_json
from ddpm_utils.system.places import output
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.restorations import RestorationExperiment

PAUSE = 20  # seconds for which results are not written again, per second that writing them took
EVALUATION = "04_evaluation"  # leaves the results
ABOUT = ("experiment", "source", "protocol")  # of a row, told otherwise in a sweep's table
SEALED = "results.json"  # all of it once more, sealed
FEW_CALLS = 20  # of the main job; at low β the FID is then within the interval of all 2,000 steps (see calls.csv)
FIRST_MINUTE = "first-minute"  # the run that the main job trains from scratch
LEARNING = ("batch_size", "learning_rate", "lr_schedule")


def plan(entries: Sequence[Entry], folder: Path) -> list[Chain]:
    """A grid's jobs: a chain for each experiment, all of whose files go into a folder of its own.

    Args:
        folder: of the sweep.

    Raises:
        ValueError: if a data set cannot be had here, or holds fewer images than a notebook is to use.
    """
    _check_data(entries)
    return [
        [
            Job(
                notebook,
                values,
                folder=folder / entry.name,
                output=folder / entry.name,
                experiment=entry.values,
                made_of=made_of(entry.experiment, notebook, values),
            )
            for notebook, values in entry.notebooks.items()
        ]
        for entry in entries
    ]


def _check_data(entries: Sequence[Entry]) -> None:
    names = {entry.experiment.dataset for entry in entries}
    loaded = {name: load(name) for name in names}
    problems = [f"{name} is needed. {data.source}" for name, data in loaded.items() if data.name != name]
    for entry in entries:
        data = loaded[entry.experiment.dataset]
        schedule = entry.experiment.noise_schedule if isinstance(entry.experiment, Experiment) else None
        for notebook, parameters in entry.notebooks.items():
            for name in OWN[notebook]:
                wrong = problem(notebook, name, parameters[name], data, schedule) if name in parameters else None
                problems += [f"{name} of {notebook} {wrong}"] if wrong else []
    if problems:
        raise ValueError("\n  ".join(["this grid cannot be run here:", *dict.fromkeys(problems)]))


def seconds_of(chains: Iterable[Chain]) -> dict[str, list[float]]:
    """How long the jobs that are done took, by notebook."""
    took: dict[str, list[float]] = {}
    for job in (job for chain in chains for job in chain if is_done(job)):
        if found := find(job):
            took.setdefault(job.notebook, []).append(found["seconds"])
    return took


def prospects(chains: Iterable[Chain]) -> list[str]:
    """What a sweep would do, a line for each job."""
    lines = []
    for number, chain in enumerate(chains, start=1):
        for job in chain:
            found = find(job)
            other = differences(job.made_of or {}, found["made_of"]) if found else []
            state = "to be executed" if not found else f"again: other {', '.join(other)}" if other else "done"
            lines.append(f"{number:4} {job.folder.name} / {job.notebook}: {state}")
    return lines


def results(entries: Iterable[Entry], chains: Iterable[Chain]) -> tuple[pd.DataFrame, dict[str, dict[str, str]]]:
    """What the finished experiments of a sweep measured.

    Returns:
        a row for each (for each way back in part 2): its name, its parameters, α_T, and the measurements by the
        corrected protocol; and by name its samples from each start, as `files.to_text` keeps images.
    """
    rows, samples = [], {}
    for entry, chain in zip(entries, chains, strict=True):
        last = next((job for job in chain if job.notebook in (EVALUATION, PART_2)), None)
        if not last or not is_done(last):
            continue
        path = last.output / entry.experiment.table_path.relative_to(output())
        content = read_json(path, f"delete {last.target} to execute it again")
        about = {"experiment": entry.name} | entry.experiment.identity
        about |= {name: value for name, value in entry.values.items() if name not in about}
        about |= {"dataset": entry.experiment.data_label} if "dataset" in about else {}
        if isinstance(entry.experiment, Experiment):
            about["alpha_T"] = entry.experiment.noise_schedule.alpha[-1].item()
        for row in content["rows"]:
            if row.get("source", LIVE) == LIVE and row.get("protocol", "corrected") == "corrected":
                rows.append(about | {name: value for name, value in row.items() if name not in ABOUT})
        samples[entry.name] = content["samples"]
    return pd.DataFrame(rows), samples


def main_job(experiments: Sequence[Experiment], folder: Path, values: dict) -> list[Chain]:
    """What `ddpm run` executes: notebooks 01–04 for each experiment, and 05; always again, from the start.

    On MNIST, notebooks 03 to 05 use shipped weights, beside a short training in 02; on other data sets they use the
    networks that are trained here.

    Args:
        experiments: all on one data set.
        folder: of the executed notebooks.
        values: parameters to change, of those that the notebooks are given here; the schedules stay.

    Raises:
        ValueError: if no notebook is given one of the values, or it is not allowed.
    """
    chains, dataset = [], experiments[0].dataset
    trained: dict[str, Any] = {"dataset": dataset, "weights": "shipped"}
    here, sizes = {}, {"samples": 500, "images": 500}
    if not is_mnist(dataset):
        trained["weights"], here = "run", {"dataset": dataset}
        parts = load(dataset)
        most = {"samples": min(len(parts.test), len(parts.validation)), "images": len(parts.test)}
        sizes = {name: min(size, most[name]) for name, size in sizes.items()}
    run: dict[str, Any] = {"run_name": FIRST_MINUTE} if here else {}
    values = values | ({"dataset": dataset} if "dataset" in values else {})  # as the experiments understood it
    for experiment in experiments:
        fixed = {name: value for name, value in experiment.identity.items() if name not in ("network", "dataset")}
        as_reported = {name: getattr(experiment, name) for name in ("network", *LEARNING)}
        parameters: dict[str, dict[str, Any]] = {
            "01_forward_process": {"dataset": dataset},
            "02_training": {"run_name": FIRST_MINUTE, "epochs": 4} | here,
            "03_sampling": trained | run | {"calls": 100},
            EVALUATION: trained | run | {"calls": FEW_CALLS} | sizes,
        }
        changed = {n: p | {name: values[name] for name in p if name in values} for n, p in parameters.items()}
        changed = {notebook: located(given) for notebook, given in changed.items()}
        for notebook, given in changed.items():
            given |= check_parameters(notebook, **{name: given[name] for name in given if name in OWN[notebook]})
        changed["02_training"] |= as_reported
        chains.append([Job(n, fixed | p, folder / experiment.slug, output()) for n, p in changed.items()])
    for name in values:
        if name == "run_name" or not any(name in p for p in parameters.values()):
            there = {key: None for p in parameters.values() for key in p if key != "run_name"}
            what = f"there is no parameter {name!r} to change in this job; there are {', '.join(there)}."
            raise ValueError(what + suggestion(name, there))
    return [*chains, [Job(PART_2, trained, folder / RestorationExperiment(dataset=dataset).slug, output())]]


def rows_of(experiments: Sequence[Experiment]) -> pd.DataFrame:
    """The rows that notebook 04 left for each experiment, in one table: Table 1 of the report, completed."""
    paths = [experiment.table_path for experiment in experiments]
    found = [read_json(path, "execute notebook 04 again") for path in paths if path.exists()]
    return pd.DataFrame([row for content in found for row in content["rows"]])


def write_results(entries: Sequence[Entry], chains: Sequence[Chain], folder: Path) -> list[Path]:
    """Write what the finished experiments measured: a table (see `write_table`), with a map if β and T are what varies.

    Returns:
        the paths of what was written.

    Raises:
        CheckpointError: if what an experiment left is damaged.
    """
    table, samples = results(entries, chains)
    parameters = {name for entry in entries for name in entry.experiment.identity | entry.values}
    picture, words = b"", ""
    if len(table) and is_map(table, parameters):
        picture, words = to_png(quality_map(table, samples), colours=256, dpi=100), in_words(table)
    paths = write_table(table, folder, picture, words) if len(table) else []
    for name in ("results.csv", "results.md", "map.png", "map.txt", SEALED):
        if folder / name not in paths:
            (folder / name).unlink(missing_ok=True)  # of other code, or another grid
    return paths


class Results:
    """The results of a sweep, which are written again as experiments end: seldom, if that takes long."""

    def __init__(self, entries: Sequence[Entry], chains: Sequence[Chain], folder: Path):
        self.sweep = entries, chains, folder
        self.last = {chain[-1].notebook for chain in chains}
        self.due = 0.0  # when they are to be written again

    def write(self) -> list[Path]:
        """See `write_results`."""
        return write_results(*self.sweep)

    def update(self, event: Event) -> None:
        """Write the results if an experiment has ended, unless they were written just now."""
        started = time.monotonic()
        if event.notebook in self.last and started >= self.due:
            try:
                self.write()
            except Exception as error:  # the experiments go on; at the end it is tried again
                print(f"The results could not be written ({error}).", file=sys.stderr)
            self.due = time.monotonic() + PAUSE * (time.monotonic() - started)


def write_table(table: pd.DataFrame, folder: Path, picture: bytes = b"", words: str = "") -> list[Path]:
    """Write results.csv (all digits), results.md (rounded), map.png and map.txt for people, and all of it for `site`.

    Args:
        picture, words: the map, if there is one.

    Returns:
        the paths.
    """
    texts = {"results.csv": table.to_csv(index=False), "results.md": to_markdown(table) + "\n"}
    if picture:
        texts["map.txt"] = words
        write_bytes(folder / "map.png", picture)
    for name, text in texts.items():
        write_bytes(folder / name, text.encode())
    write_json(folder / SEALED, texts | {"map.png": base64.b64encode(picture).decode()})
    return [folder / name for name in (*texts, *(["map.png"] if picture else []), SEALED)]
