"""From a finished training run to what the project ships: weights, losses, pictures and full-size results.

`record` fills data/checkpoints/<slug>/ with
    weights.safetensors   the best weights, labelled with epochs, data and losses
    losses.csv            the history, one row per epoch
    pictures.safetensors  samples and reconstructions made with all T steps, float16, labelled likewise
    results.json          Table 1 at full size, with the hashes of weights, data and classifier
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from torch import Tensor

from ddpm_utils import checkpoints
from ddpm_utils.data import Dataset
from ddpm_utils.evaluation import RESTORE_SEED, degrade, evaluate, footnotes, generate, table_1, to_markdown
from ddpm_utils.experiment import LEAN, PUBLISHED, Decoder, Experiment
from ddpm_utils.sampling import ancestral, sample


class Recorded(NamedTuple):
    """What the project ships for one schedule and network."""

    results: dict
    losses: pd.DataFrame
    pictures: dict[str, Tensor]


def load_recorded(experiment: Experiment) -> Recorded | None:
    """Read what `record` wrote for this schedule and network, or None if there is nothing.

    Raises:
        CheckpointError: if the pictures are damaged.
    """
    folder = experiment.shipped_folder
    if not (folder / "results.json").exists():
        return None
    pictures, _ = checkpoints.load(folder / "pictures.safetensors")
    return Recorded(
        json.loads((folder / "results.json").read_text(encoding="utf-8")),
        pd.read_csv(folder / "losses.csv"),
        {name: tensor.float() for name, tensor in pictures.items()},
    )


def recorded_table() -> str:
    """Table 1 of what is recorded, in Markdown with its footnotes: the README's table."""
    experiments = [Experiment(**values) for values in (*PUBLISHED.values(), LEAN)]
    found = [(experiment, load_recorded(experiment)) for experiment in experiments]
    results = [(experiment, recorded.results) for experiment, recorded in found if recorded]
    table = pd.concat([table_1(experiment, recorded) for experiment, recorded in results])
    notes = [f"{experiment.title}\n{footnotes(recorded)}" for experiment, recorded in results]
    return "\n\n".join([to_markdown(table), *notes])


def shown_steps(T: int) -> list[int]:
    """The three times on the way at which the report shows a reconstruction: T/20, T/2 and T."""
    return sorted({max(1, T // 20), max(1, T // 2), T})


def record(
    experiment: Experiment,
    *,
    samples: int = 2000,
    reconstructions: int = 1000,
    calls: int = 100,
    on_progress: Callable[[str], None] = print,
) -> Path:
    """Evaluate the run of an experiment at full size and ship it; minutes to hours.

    Args:
        samples: unconditional images for FID and KID, from each start.
        reconstructions: test images that are degraded to z_T and restored.
        calls: network calls for each of these images (ancestral on an even subset of the steps).
        on_progress: is told what is done.

    Returns:
        the folder.
    """
    dataset = experiment.load_data()
    decoder = experiment.load_decoder("run")
    folder = experiment.shipped_folder
    label = decoder.description
    weights = decoder.network.state_dict()
    on_progress(decoder.source)
    pictures = _pictures(experiment, dataset, decoder, on_progress)
    results = {
        "experiment": experiment.identity,
        "weights": label | {"sha256": checkpoints.digest(weights)},
        **evaluate(
            experiment,
            dataset,
            decoder,
            samples=samples,
            reconstructions=reconstructions,
            calls=calls,
            inception_weights="download",
            on_progress=on_progress,
        ),
    }
    checkpoints.save(folder / "weights.safetensors", weights, label)
    checkpoints.save(folder / "pictures.safetensors", {k: v.half() for k, v in pictures.items()}, label)
    checkpoints.write_bytes(folder / "losses.csv", (experiment.run_folder / "losses.csv").read_bytes())
    text = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    checkpoints.write_bytes(folder / "results.json", text.encode())
    return folder


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
