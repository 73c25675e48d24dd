"""From a finished training run to what the project ships: weights, losses, pictures and full-size results.

`record` fills data/checkpoints/<slug>/ with
    weights.safetensors   the best weights in float16, labelled with epochs, data and losses
    losses.csv            the history, one row per epoch
    pictures.safetensors  samples and reconstructions made with all T steps, float16, labelled likewise
    results.json          Table 1 at full size, with the hashes of weights, data and classifier
and `record_explanations` adds
    explained.json        what notebook 04 explains Table 1 with (see `explanations`)
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from torch import Tensor

from ddpm_utils import checkpoints
from ddpm_utils.analysis import Sizes
from ddpm_utils.classifier import load_classifier
from ddpm_utils.data import Dataset
from ddpm_utils.evaluation import RESTORE_SEED, degrade, evaluate, generate
from ddpm_utils.experiment import LEAN, PUBLISHED, Experiment
from ddpm_utils.explanations import explain
from ddpm_utils.sampling import ancestral, sample
from ddpm_utils.sealed import read_csv, read_json, write_json
from ddpm_utils.shipping import check_sizes, ledger_for, named_data, ship_losses
from ddpm_utils.table import footnotes, table_1, to_markdown
from ddpm_utils.training_setup import Decoder

RECORDED = [published | decoder for decoder in ({}, LEAN) for published in PUBLISHED.values()]
"""What is measured at full size: both published runs, and the lean decoder on their schedules."""
SIZES = {"samples": 10_000, "reconstructions": 10_000, "calls": 30, "full": 1000, "repeats": 3}
"""How much `record` measures (see `evaluation.evaluate`)."""
LEAN_SIZES = {"full": 0, "repeats": 1}
"""What of it is less for the lean decoder, which the report does not know."""


class Recorded(NamedTuple):
    """What the project ships for one schedule and network."""

    results: dict
    losses: pd.DataFrame
    pictures: dict[str, Tensor]
    explained: dict | None


def load_recorded(experiment: Experiment) -> Recorded | None:
    """Read what `record` wrote for this schedule and network, or None if there is nothing.

    Raises:
        CheckpointError: if a file is damaged.
    """
    folder = experiment.shipped_folder
    if not (folder / "results.json").exists():
        return None
    pictures, _ = checkpoints.load(folder / "pictures.safetensors")
    explained = folder / "explained.json"
    return Recorded(
        read_json(folder / "results.json"),
        read_csv(folder / "losses.csv"),
        {name: tensor.float() for name, tensor in pictures.items()},
        read_json(explained) if explained.exists() else None,
    )


def recorded_table() -> str:
    """Table 1 of what is recorded, in Markdown with its footnotes: the README's table."""
    experiments = [Experiment(**values) for values in RECORDED]
    found = [(experiment, load_recorded(experiment)) for experiment in experiments]
    results = [(experiment, recorded.results) for experiment, recorded in found if recorded]
    table = pd.concat([table_1(experiment, recorded) for experiment, recorded in results])
    notes = [f"{experiment.title}\n{footnotes(recorded)}" for experiment, recorded in results]
    return "\n\n".join([to_markdown(table), *notes])


def shown_steps(T: int) -> list[int]:
    """The three times on the way at which the report shows a reconstruction: T/20, T/2 and T."""
    return sorted({max(1, T // 20), max(1, T // 2), T})


def record(experiment: Experiment, *, on_progress: Callable[[str], None] = print, **sizes: int) -> Path:
    """Ship the run of an experiment, and evaluate what is shipped at full size; up to an hour.

    Without a run in its folder the shipped weights are evaluated again. Parts that are done are kept in the run
    folder, so that the same command goes on after a stop.

    Args:
        sizes: in place of some of `SIZES`.

    Returns:
        the folder.

    Raises:
        ValueError: if a size is not an integer, or larger than the data set allows.
        DataError: if the data set cannot be had.
    """
    check_sizes(sizes)
    dataset = named_data(experiment)
    folder = experiment.shipped_folder
    if (experiment.run_folder / "best.safetensors").exists():
        ship(experiment, dataset, on_progress)
    decoder = experiment.load_decoder("shipped")
    on_progress(decoder.source)
    results = {
        "experiment": experiment.identity,
        "weights": decoder.description | {"sha256": checkpoints.digest(decoder.network.state_dict())},
        **evaluate(
            experiment,
            dataset,
            decoder,
            **SIZES | sizes,
            inception_weights="download",
            remember=ledger_for("measured", experiment, dataset, decoder, SIZES | sizes, on_progress),
        ),
    }
    write_json(folder / "results.json", results, indent=2)
    return folder


def record_explanations(experiment: Experiment, *, on_progress: Callable[[str], None] = print) -> Path:
    """Measure what explains Table 1 for an experiment's shipped weights; half an hour, resumed like `record`.

    Returns:
        the file.

    Raises:
        CheckpointError: if the project ships no weights for this experiment.
    """
    if not (experiment.shipped_folder / "weights.safetensors").exists():
        raise checkpoints.CheckpointError(f"there are no shipped weights of {experiment.slug}: record them first.")
    dataset = named_data(experiment)
    decoder = experiment.load_decoder("shipped")
    sizes = Sizes()
    remember = ledger_for("explained", experiment, dataset, decoder, asdict(sizes), on_progress)
    found = {
        "sizes": asdict(sizes),
        "weights sha256": checkpoints.digest(decoder.network.state_dict()),
        "data sha256": dataset.sha256,
        "classifier sha256": load_classifier()[1]["sha256"],
        **explain(experiment, dataset, decoder, sizes, remember),
    }
    path = experiment.shipped_folder / "explained.json"
    write_json(path, found)
    return path


def ship(experiment: Experiment, dataset: Dataset, on_progress: Callable[[str], None] = print) -> None:
    """Copy a run's best weights, rounded to float16, its history and its pictures to the shipped folder.

    A run that is shipped already is left as it is.
    """
    folder, run = experiment.shipped_folder, experiment.run_folder
    best, label = checkpoints.load(run / "best.safetensors")
    ship_losses(experiment)
    pictures = folder / "pictures.safetensors"
    if pictures.exists() and checkpoints.load(pictures)[1] == label:
        return
    checkpoints.save(folder / "weights.safetensors", {name: tensor.half() for name, tensor in best.items()}, label)
    drawn = _pictures(experiment, dataset, experiment.load_decoder("shipped"), on_progress)
    checkpoints.save(pictures, {name: tensor.half() for name, tensor in drawn.items()}, label)


def _pictures(experiment: Experiment, dataset: Dataset, decoder: Decoder, on_progress: Callable[[str], None]) -> dict:
    """Figures 2 to 4 of the report, with all T steps: samples, and samples by epoch."""
    all_steps = {"calls": experiment.T}
    pictures = {}
    for start in ("standard", "matched"):
        pictures[f"samples/{start}"] = generate(experiment, dataset, decoder, 64, start=start, **all_steps)
        on_progress(f"64 samples from the {start} start.")
    digits = dataset.test.images[:4]
    z = degrade(experiment, digits)
    times = shown_steps(experiment.T)
    pictures["conditional/x"] = digits
    for t in times:
        pictures[f"conditional/z{t}"] = degrade(experiment, digits, t)
    epochs = sorted(int(path.stem.removeprefix("epoch")) for path in experiment.run_folder.glob("epoch*.safetensors"))
    for epoch in epochs:
        network = experiment.make_network().eval()
        checkpoints.load_network(experiment.run_folder / f"epoch{epoch}.safetensors", network, **experiment.identity)
        then = Decoder(network, {}, "")
        name = f"epoch{epoch}"
        pictures[f"{name}/samples"] = generate(experiment, dataset, then, 16, **all_steps)
        images, kept = sample(
            partial(ancestral, network, experiment.noise_schedule),
            range(RESTORE_SEED, RESTORE_SEED + len(digits)),
            z=z,
            keep=times[:-1],
        )
        pictures[f"{name}/restored"] = images
        for t, latent in kept.items():
            pictures[f"{name}/z{t}"] = latent.z
        on_progress(f"Samples and reconstructions of epoch {epoch}.")
    return pictures
