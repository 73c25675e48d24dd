"""From a finished training run to what the project ships: weights, losses, pictures and full-size results.

`record` fills data/checkpoints/<slug>/ with
    weights.safetensors   the best weights in float16, labelled with epochs, data and losses
    losses.csv            the history, one row per epoch
    pictures.safetensors  samples and reconstructions made with all T steps, float16, labelled likewise
    results.json          Table 1 at full size, with the hashes of weights, data and classifier
and `record_explanations` adds
    explained.json        what notebook 04 explains Table 1 with (see `explain`)
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ddpm_utils import checkpoints
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.samplers import ancestral, sample_trajectory
from ddpm_utils.evaluation.classifier import load_classifier
from ddpm_utils.evaluation.decoder import degrade, evaluate, generate
from ddpm_utils.evaluation.losses import Sizes, bits, gap, losses
from ddpm_utils.evaluation.recorded import shown_steps
from ddpm_utils.evaluation.samples import reconstruction
from ddpm_utils.randomness import RESTORE_SEED
from ddpm_utils.system.files import compute_always, write_json
from ddpm_utils.training.base import SNAPSHOT_EPOCHS, Decoder
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.run import read_history
from maintenance.records.shipping import check_sizes, has_run, ledger_for, named_data, require_shipped, ship_weights

SIZES = {"samples": 10_000, "reconstructions": 10_000, "calls": 30, "full": 1000, "repeats": 3}
"""How much `record` measures (see `decoder.evaluate`)."""
LEAN_SIZES = {"full": 0, "repeats": 1}
"""What of it is less for the lean decoder, which the report does not know."""


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
        CheckpointError: if there are neither run nor shipped weights, or the experiment names a run that is not there.
    """
    check_sizes(sizes)
    trained = has_run(experiment)
    dataset = named_data(experiment)
    folder = experiment.shipped_folder
    if trained:
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
        CheckpointError: if the project ships no weights for this experiment, or it names a run that is not there.
    """
    require_shipped(experiment)
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
    pictures = ship_weights(experiment, bits=16) / "pictures.safetensors"
    decoder = experiment.load_decoder("shipped")
    label = decoder.description
    if not (pictures.exists() and checkpoints.load(pictures)[1] == label):
        drawn = _pictures(experiment, dataset, decoder, on_progress)
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
    done = len(read_history(experiment.run_folder))
    for epoch in (epoch for epoch in SNAPSHOT_EPOCHS if epoch <= done):
        network = experiment.make_network().eval()
        checkpoints.load_network(experiment.run_folder / f"epoch{epoch}.safetensors", network, **experiment.identity)
        then = Decoder(network, {}, "")
        name = f"epoch{epoch}"
        pictures[f"{name}/samples"] = generate(experiment, dataset, then, 16, **all_steps)
        chain = experiment.noise_schedule
        latents = sample_trajectory(ancestral, network, chain, z=z, seed=RESTORE_SEED, keep=[0, *times[:-1]])
        pictures[f"{name}/restored"] = latents[0].z
        for t in times[:-1]:
            pictures[f"{name}/z{t}"] = latents[t].z
        on_progress(f"Samples and reconstructions of epoch {epoch}.")
    return pictures


def explain(
    experiment: Experiment,
    dataset: Dataset,
    decoder: Decoder,
    sizes: Sizes,
    remember: Callable[[str, Callable[[], Any]], Any] = compute_always,
) -> dict:
    """All measurements, by name. `remember` (see `Ledger`) keeps each as soon as it is known."""
    of_schedule = experiment.noise_schedule, dataset, decoder, sizes
    parts = {
        "losses": partial(losses, *of_schedule),
        "bits": partial(bits, *of_schedule),
        "gap": partial(gap, *of_schedule),
        "reconstruction": partial(reconstruction, experiment, dataset, decoder, sizes),
    }
    return {name: remember(name, compute) for name, compute in parts.items()}
