"""One intact file of each kind that the project reads, in a folder of its own, with the function that reads it."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import nbformat

from ddpm_utils import checkpoints, data
from ddpm_utils.batch import jobs, site, sweep
from ddpm_utils.batch.grid import read_grid
from ddpm_utils.data import datasets
from ddpm_utils.data.sources import DATASETS
from ddpm_utils.evaluation import recorded
from ddpm_utils.evaluation.classifier import SHIPPED as CLASSIFIER
from ddpm_utils.evaluation.classifier import load_classifier
from ddpm_utils.evaluation.recorded import load_recorded, load_results
from ddpm_utils.system import places
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.files import METADATA, Ledger, read_notebook, seal_notebook, write_json
from ddpm_utils.system.places import PROJECT, default_root
from ddpm_utils.training.experiments import PUBLISHED, Experiment
from ddpm_utils.training.restorations import RestorationExperiment
from ddpm_utils.training.run import EpochRecord

EXECUTED = "04_evaluation"
GRID = f"""# Two schedules, for the tests of damaged files.
experiments:
  - beta: [0.01, 0.1]  # the noise of each step
    T: 20
    network: lean_unet
    dataset: mnist_5k
    learning_rate: 0.002
notebooks:
  02_training:
  {EXECUTED}: {{weights: run, samples: 50, images: 8}}
"""


class Kind(NamedTuple):
    """One kind of file: its name, an intact one, and how the project reads it."""

    name: str
    path: Path
    read: Callable[[], str]  # a digest of what was read; raises what the project raises
    lines: bool = False  # whether an error may list problems, a line each


def digest(*values: object) -> str:
    """sha256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def kinds(folder: Path, stack: ExitStack) -> tuple[list[Kind], list[str]]:
    """All kinds of files, below a folder, and a sentence for each that cannot be had here.

    Args:
        stack: undoes what leads the project to that folder.
    """
    stack.enter_context(patch.dict(os.environ, DDPM_OUTPUT=str(folder / "output")))
    root = default_root()
    low_beta, averaging = Experiment(**PUBLISHED["low β"]), RestorationExperiment("averaging")
    small = low_beta.with_values(network="lean_unet")
    for experiment in (low_beta, averaging, small):
        shutil.copytree(experiment.shipped_folder, folder / "data" / "checkpoints" / experiment.slug)
    for path in (
        recorded.DECODERS,
        datasets.EMBEDDED,
        CLASSIFIER,
        CLASSIFIER.with_name(checkpoints.BESIDE),
    ):
        shutil.copy(path, folder / "data" / path.name)
    stack.enter_context(patch.object(places, "RESOURCES", folder))
    stack.enter_context(patch.object(datasets, "EMBEDDED", folder / "data" / datasets.EMBEDDED.name))
    stack.enter_context(patch.object(recorded, "DECODERS", folder / "data" / recorded.DECODERS.name))
    found = [Kind("embedded digits", datasets.EMBEDDED, lambda: data.load("mnist_5k").sha256)]
    left_out = []
    if all((root / "MNIST" / "raw" / name).exists() for name in DATASETS["mnist"].files):
        found.append(mnist(root, folder))
    else:
        left_out.append("MNIST is not here (`DDPM_DATA`): its files were not tried.")
    return [*found, *tensors(folder, small, averaging), *results(low_beta, averaging), *batch(folder)], left_out


def mnist(root: Path, folder: Path) -> Kind:
    """A copy of the smallest file of MNIST beside links to the others."""
    raw = folder / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    smallest = min(DATASETS["mnist"].files, key=lambda name: (root / "MNIST" / "raw" / name).stat().st_size)
    for name in DATASETS["mnist"].files:
        (raw / name).symlink_to((root / "MNIST" / "raw" / name).resolve())
    (raw / smallest).unlink()
    shutil.copy(root / "MNIST" / "raw" / smallest, raw / smallest)
    return Kind("MNIST (IDX)", raw / smallest, lambda: data.load("mnist", folder / "mnist").sha256)


def tensors(folder: Path, small: Experiment, averaging: RestorationExperiment) -> list[Kind]:
    """Weights that are shipped, and the state of a run."""

    def weights(experiment) -> str:
        network = experiment.make_network()
        path = experiment.shipped_folder / "weights.safetensors"
        description = checkpoints.load_network(path, network, **experiment.identity)
        return digest(description, checkpoints.digest(network.state_dict()))

    tiny, digits = Experiment(beta=0.3, T=4, batch_size=16), data.load("mnist_5k")
    begun = tiny.open_run(digits)
    next(tiny.train(begun, digits))  # one step, for the optimiser's moments
    begun.finish_epoch(EpochRecord(1, 0.5, 0.25, 1.0))

    def state() -> str:
        run = tiny.open_run(digits)
        moments = {f"{n}.{k}": v for n, s in run.optimizer.state_dict()["state"].items() for k, v in s.items()}
        parts = (checkpoints.digest(tensors) for tensors in (run.network.state_dict(), moments))
        return digest(run.step, run.epoch_losses, run.history, *parts)

    classifier = folder / "data" / CLASSIFIER.name
    return [
        Kind("weights, float16", small.shipped_folder / "weights.safetensors", lambda: weights(small)),
        Kind("weights, 8 bits", averaging.shipped_folder / "weights.safetensors", lambda: weights(averaging)),
        Kind("probe of shipped weights", small.shipped_folder / checkpoints.BESIDE, lambda: weights(small)),
        Kind("classifier", classifier, lambda: digest(load_classifier(classifier)[1])),
        Kind("state of a run, with its configuration", tiny.run_folder / "last.safetensors", state),
    ]


def results(low_beta: Experiment, averaging: RestorationExperiment) -> list[Kind]:
    """What is recorded, and a ledger."""

    def all_of_it() -> str:
        found = load_recorded(low_beta)
        return digest(found.results, found.losses.to_csv(), found.explained, checkpoints.digest(found.pictures))

    shipped = low_beta.shipped_folder
    names = ("results.json", "explained.json", "losses.csv", "pictures.safetensors")
    calls = shipped / "calls.csv"
    ledger = shipped / "ledger.json"
    Ledger(ledger)("FID", lambda: load_recorded(low_beta).results)
    return [
        *(Kind(f"recorded {name}", shipped / name, all_of_it) for name in names),
        Kind("recorded calls.csv", calls, lambda: digest(recorded.read_rows(calls))),
        Kind(
            "part 2's results.json", averaging.shipped_folder / "results.json", lambda: digest(load_results(averaging))
        ),
        Kind("decoders.json", recorded.DECODERS, lambda: digest(recorded.load_decoders())),
        Kind("ledger", ledger, lambda: digest(Ledger(ledger).results)),
    ]


def batch(folder: Path) -> list[Kind]:
    """A grid, and what its sweep leaves: an executed notebook, its stamp and table, all results for the site."""
    grid, runs = folder / "grid.yaml", folder / "runs"
    grid.write_text(GRID, encoding="utf-8")
    entries = read_grid(grid)
    chains = sweep.plan(entries, runs)
    job = chains[0][-1]
    notebook = nbformat.read(PROJECT / "notebooks" / f"{EXECUTED}.ipynb", as_version=4)
    notebook.metadata |= {METADATA: {"made_of": job.made_of}, "papermill": {"duration": 7.0}}
    job.folder.mkdir(parents=True)
    nbformat.write(notebook, job.folder / "executed")
    seal_notebook(job.folder / "executed", job.target)
    table = job.output / "data" / "runs" / entries[0].experiment.slug / "table.json"
    write_json(table, {"rows": [{"source": "this run", "FID N(0, I)": 12.5}], "samples": {"standard": "…"}})
    sweep.write_table(sweep.results(entries, chains)[0], runs, b"map", "FID falls.")
    other = chains[1][0]
    stamp, marker = other.folder / "training.sha256", other.output / "data" / "runs" / "marker"
    marker.parent.mkdir(parents=True)
    stamp.write_bytes(other.made_of["training"].encode())

    def collected() -> str:
        rows, samples = sweep.results(entries, chains)
        return digest(rows.to_csv(), samples)

    def found() -> str:
        if jobs.find(job) is None:
            raise CheckpointError(f"{job.target}: executed again.")
        return digest(read_notebook(job.target)[0])

    def shown() -> str:
        return digest([str(page) for page in site.executed(runs)[job.folder.name]], read_notebook(job.target)[0])

    def trained() -> str:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text("of a training that is done", encoding="utf-8")
        with patch.object(jobs, "execute", lambda job, *others: jobs.Event(job.folder.name, job.notebook, "done")):
            jobs._execute_unless_done(other, 1, print)
        if not marker.exists():
            raise CheckpointError(f"{stamp}: trained again.")
        return "kept"

    def planned() -> str:
        """The same for the same grid, and for another one whose jobs are others."""
        others = read_grid(grid)
        there = [(j.folder.name, j.notebook, j.made_of) for chain in sweep.plan(others, runs) for j in chain]
        here = [(j.folder.name, j.notebook, j.made_of) for chain in chains for j in chain]
        same = [e[2:] for e in others] == [e[2:] for e in entries]
        return "as it says" if same == (there == here) else "not as it says"

    return [
        Kind("grid", grid, planned, lines=True),
        Kind("table.json", table, collected),
        Kind("sweep's results.json, for the site", runs / sweep.SEALED, lambda: digest(site.index_page(runs, {}))),
        Kind("executed notebook, as a job", job.target, found),
        Kind("executed notebook, for the site", job.target, shown),
        Kind("training.sha256", stamp, trained),
    ]
