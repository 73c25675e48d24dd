"""Table 1: the measurements of one trained decoder, and the table that puts them beside the published ones."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
import torchvision.transforms.v2.functional as transforms
from torch import Tensor

from ddpm_utils import metrics
from ddpm_utils.checkpoints import write_bytes
from ddpm_utils.classifier import load_classifier
from ddpm_utils.data import Dataset, Part
from ddpm_utils.experiment import Decoder, Experiment
from ddpm_utils.forward import diffuse
from ddpm_utils.objectives import NoisePrediction
from ddpm_utils.sampling import MatchedStart, Noise, ancestral, sample, standard_start
from ddpm_utils.training import generator_for, validate

START_SEED = 1_000_000  # seeds of unconditional samples: this and following ones
NOISE_SEED = 2_000_000  # of the noise that degrades test images
RESTORE_SEED = 3_000_000  # of the noise that restores them
STARTS = ("standard", "matched")
REPORT = {  # the report's Table 1, by (schedule, beta, T)
    ("constant", 0.001, 2000): {"test loss": 0.0245, "RMSE": 0.306, "SSIM": 0.164, "PSNR": 10.5, "published FID": 233},
    ("constant", 0.1, 200): {"test loss": 0.00275, "RMSE": 0.402, "SSIM": 0.0336, "PSNR": 7.94, "published FID": 432},
}


def evaluate(
    experiment: Experiment,
    dataset: Dataset,
    decoder: Decoder,
    *,
    samples: int,
    reconstructions: int,
    calls: int,
    inception_weights: str = "",
    on_progress: Callable[[str], None] = lambda line: None,
) -> dict:
    """Table 1 for one decoder: test loss, reconstruction by both protocols, FID and KID from each start.

    Args:
        inception_weights: "" for none, "download", or a local file (see `metrics.inception_extractor`); where
            they cannot be had the result says why.

    Raises:
        ValueError: if the test set holds fewer images than asked for.
    """
    test = dataset.test.images
    if not 1 <= reconstructions <= len(test):
        raise ValueError(f"reconstructions must be in 1…{len(test)}, the test images, not {reconstructions}.")
    if not 2 <= samples <= len(test) // 2:
        raise ValueError(f"samples must be in 2…{len(test) // 2}, half the test images, not {samples}.")
    losses = validate(decoder.network, NoisePrediction(experiment.noise_schedule), test, seed=experiment.seed)
    on_progress(f"Test loss on {len(test)} images: {losses.mean():.5f}.")
    restored = reconstruct(experiment, decoder, test[:reconstructions], calls=calls)
    quality = {p: metrics.image_quality(restored, test[:reconstructions], p) for p in metrics.PROTOCOLS}
    on_progress(f"Reconstructions: {quality}.")
    classifier, description = load_classifier()
    inception, without_inception = None, "inception_weights is empty"
    if inception_weights:
        try:
            inception = metrics.inception_extractor(inception_weights)
        except OSError as error:
            without_inception = str(error).rstrip(".")
    real = metrics.features(classifier.embed, test[: 2 * samples])
    distributions, inception_distributions = {}, {}
    for start in STARTS:
        images = generate(experiment, dataset, decoder, samples, calls=calls, start=start)
        fake = metrics.features(classifier.embed, images)
        distributions[start] = metrics.distribution_quality(fake, real, seed=experiment.seed)
        distributions[start]["mean pixel"] = metrics.to_unit(images).mean().item()
        on_progress(f"From the {start} start: {distributions[start]}.")
        if inception:
            reference, generated = metrics.features(inception, test[:samples]), metrics.features(inception, images)
            inception_distributions[start] = {
                "FID": metrics.fid(generated, reference),
                "KID": metrics.kid(generated, reference, seed=experiment.seed)[0],
            }
    return {
        "sampler": f"ancestral, variance beta, {min(calls, experiment.T)} calls",
        "test images": len(test),
        "test loss": losses.mean().item(),
        "test loss standard error": (losses.std() / len(test) ** 0.5).item(),
        "reconstruction": {"images": reconstructions, "from step": experiment.T, **quality},
        "distribution": distributions,
        "inception": inception_distributions or f"not measured: {without_inception}",
        "features": {
            "network": "digit classifier",
            "layer": "global mean before the last linear layer",
            "width": classifier.features,
            "sha256": description["sha256"],
            "test accuracy": description["test_accuracy"],
        },
        "data sha256": dataset.sha256,
    }


def generate(
    experiment: Experiment,
    dataset: Dataset,
    decoder: Decoder,
    count: int,
    *,
    calls: int,
    start: str = "standard",
    **options,
) -> Tensor:
    """Unconditional samples by strided ancestral sampling, shape (count, 1, 28, 28).

    Raises:
        ValueError: if the start is neither "standard" nor "matched".
    """
    schedule = experiment.noise_schedule.subset(min(calls, experiment.T))
    if start not in STARTS:
        raise ValueError(f"start must be one of {', '.join(STARTS)}, not {start!r}.")
    first = standard_start if start == "standard" else MatchedStart(dataset.train.images, schedule)
    seeds = range(START_SEED, START_SEED + count)
    return sample(partial(ancestral, decoder.network, schedule), seeds, start=first, **options)[0]


def degrade(experiment: Experiment, images: Tensor, t: int | None = None) -> Tensor:
    """z_t of each image (z_T if t is None), with noise of its own seed."""
    noise = Noise(range(NOISE_SEED, NOISE_SEED + len(images)))()
    return diffuse(images, experiment.T if t is None else t, noise, experiment.noise_schedule)


def reconstruct(
    experiment: Experiment, decoder: Decoder, images: Tensor, *, calls: int, t: int | None = None
) -> Tensor:
    """Conditional samples: images degraded to z_t (z_T if t is None) and restored in at most `calls` steps."""
    t = experiment.T if t is None else t
    steps = np.unique(np.linspace(t / min(calls, t), t, min(calls, t)).round().astype(int))
    sampler = partial(ancestral, decoder.network, experiment.noise_schedule.subset(steps))
    seeds = range(RESTORE_SEED, RESTORE_SEED + len(images))
    return sample(sampler, seeds, z=degrade(experiment, images, t))[0]


def table_1(experiment: Experiment, recorded: dict | None, live: dict | None = None) -> pd.DataFrame:
    """Table 1 for one experiment: the report's row, the recorded ones and the live ones, by both protocols."""
    name = experiment.title
    rows = []
    report = REPORT.get((experiment.schedule, experiment.beta, experiment.T))
    if report and experiment.network.startswith("cnn"):
        rows.append({"experiment": name, "source": "report, 50 epochs", "protocol": "published"} | report)
    sources = {f"recorded, {recorded['weights']['epoch']} epochs": recorded} if recorded else {}
    sources |= {"this run": live} if live else {}
    for source, results in sources.items():
        for protocol in metrics.PROTOCOLS:
            row = {"experiment": name, "source": source, "protocol": protocol, "test loss": results["test loss"]}
            row |= results["reconstruction"][protocol]
            for start, label in zip(STARTS, ("N(0, I)", "matched"), strict=True):
                found = results["distribution"][start]
                row |= {f"FID {label}": found["FID"], f"KID {label}": found["KID"], "FID floor": found["FID floor"]}
            row |= {"images": results["reconstruction"]["images"], "samples": found["samples"]}
            rows.append(row)
    table = pd.DataFrame(rows)
    last = ["images", "samples", "published FID"]
    columns = [column for column in table if column not in last and not column.startswith(("FID", "KID"))]
    distances = sorted(column for column in table if column.startswith(("FID", "KID")))
    return table[[*columns, *distances, *(column for column in last if column in table)]]


def save_rows(experiment: Experiment, table: pd.DataFrame) -> None:
    """Keep a table's rows for the batch runner, which collects those of all experiments."""
    write_bytes(experiment.table_path, table.to_json(orient="records", force_ascii=False, indent=1).encode())


def to_markdown(table: pd.DataFrame) -> str:
    """A table in Markdown: four significant digits, a dash where there is nothing."""
    text = table.copy().astype(object)
    for column in table.columns:
        text[column] = [_cell(value) for value in table[column]]
    return text.to_markdown(index=False, disable_numparse=True)


def _cell(value) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "–"
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"


def footnotes(recorded: dict | None, live: dict | None = None) -> str:
    """What stands under every table: what it was measured with, and the hashes of data and weights."""
    lines = []
    for source, results in {"recorded": recorded, "this run": live}.items():
        if results is None:
            continue
        features = results["features"]
        weights = f", weights {results['weights']['sha256'][:12]}" if "weights" in results else ""
        inception = results["inception"]
        if isinstance(inception, dict):
            inception = ", ".join(f"FID {found['FID']:.0f} from the {s} start" for s, found in inception.items())
        lines.append(
            f"- **{source}**: {results['sampler']}; test loss on {results['test images']} images; FID and KID on the "
            f"{features['width']} features of the {features['network']} ({features['layer']}; "
            f"{features['test accuracy']:.2%} test accuracy; sha256 {features['sha256'][:12]}); "
            f"data sha256 {results['data sha256'][:12]}{weights}. Inception: {inception}."
        )
    return "\n".join(lines)


def distortions(part: Part, *, seed: int = 0) -> dict[str, Tensor]:
    """Images changed in ways that metrics judge differently; each of shape (n, 1, 28, 28) in [−0.5, 0.5]."""
    x = part.images
    noise = torch.randn(x.shape, generator=generator_for(seed, "distortion"))
    partner = torch.arange(len(part))
    for digit in part.labels.unique():
        members = (part.labels == digit).nonzero().flatten()
        partner[members] = members.roll(1)
    return {
        "original": x,
        "shifted 2 pixels": transforms.affine(x, 0, [2, 0], 1, [0], fill=-0.5),
        "half contrast": x / 2 - 0.25,
        "noise, σ = 0.2": (x + 0.2 * noise).clamp(-0.5, 0.5),
        "blurred": transforms.gaussian_blur(x, [11, 11], [2.0, 2.0]),
        "another, same class": x[partner],
    }
