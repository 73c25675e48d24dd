"""Quality against network calls: every sampler with the same trained network, start, seeds and digits."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from ddpm_utils import checkpoints
from ddpm_utils.data.datasets import Part
from ddpm_utils.diffusion.samplers import MatchedStart, sample
from ddpm_utils.diffusion.schedules import SPACINGS, NoiseSchedule
from ddpm_utils.diffusion.solvers import METHODS, Method
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.classifier import load_classifier
from ddpm_utils.evaluation.recorded import Row, read_rows
from ddpm_utils.randomness import Noise
from ddpm_utils.shapes import Network
from ddpm_utils.system import files
from ddpm_utils.training.experiments import Experiment
from maintenance.records.shipping import require_shipped

SEED = 4_000_000  # seeds of the compared samples: this and following ones
CALLS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
CHOICE_CALLS = (5, 10, 20)  # at which spacings are compared


def compare(
    network: Network,
    schedule: NoiseSchedule,
    start: Callable[[Noise], Tensor],
    digits: Part,
    points: Sequence[tuple[str, Method, int]],
    *,
    samples: int,
) -> Iterator[Row]:
    """FID on the digit classifier's features for each (name, method, calls), lower is better.

    Args:
        start: draws z_T (see `samplers.standard_start`).
        digits: real ones to compare with, at least twice as many as the samples.

    Yields:
        one `Row` for each point.

    Raises:
        ValueError: if there are too few digits, or the schedule has too few steps for a point.
    """
    classifier, _ = load_classifier()
    real = metrics.features(classifier.embed, digits[: 2 * samples].images)
    for name, method, calls in points:
        chain = method.subset(schedule, calls)
        images = sample(method.sampler, network, chain, count=samples, seed=SEED, start=start)
        found = metrics.fid_quality(metrics.features(classifier.embed, images), real)
        yield Row(name, method.spacing, calls, samples, found["FID"], *found["FID interval"], found["FID floor"])


def points_for(choice: str, T: int) -> list[tuple[str, Method, int]]:
    """What `record_comparison` measures.

    Args:
        choice: "calls": each sampler with its spacing at all `CALLS`, and ancestral sampling with all T steps;
            "spacings": each sampler with every spacing, at few calls.

    Raises:
        ValueError: if the choice is neither.
    """
    if choice == "calls":
        some = [(name, method, n) for name, method in METHODS.items() for n in method.counts(CALLS) if n < T]
        first = next(iter(METHODS))
        return [*some, (first, METHODS[first], T)]
    if choice == "spacings":
        methods = [(name, method._replace(spacing=s)) for name, method in METHODS.items() for s in SPACINGS]
        return [(name, method, n) for name, method in methods for n in method.counts(CHOICE_CALLS)]
    raise ValueError(f"choice must be calls or spacings, not {choice!r}.")


def record_comparison(
    experiment: Experiment, choice: str = "calls", *, samples: int = 2000, on_row: Callable[[Row], None] = print
) -> Path:
    """Compare all samplers with an experiment's shipped weights, from the matched start; minutes to an hour.

    Each finished row is kept in the run folder at once, so that the same command goes on after a stop. Spacings are
    compared on validation digits; calls, with the spacings in `METHODS`, on test digits.

    Returns:
        the table that the project ships: data/checkpoints/<slug>/<choice>.csv.

    Raises:
        CheckpointError: if the project ships no weights for this experiment, or it names a run that is not there.
    """
    require_shipped(experiment)
    dataset = experiment.load_data()
    digits = dataset.test if choice == "calls" else dataset.validation
    decoder = experiment.load_decoder("shipped")
    schedule = experiment.noise_schedule
    points = points_for(choice, schedule.T)
    weights = checkpoints.digest(decoder.network.state_dict())
    kept = experiment.run_folder / f"{choice}-{samples}-{weights[:12]}-{dataset.sha256[:12]}.csv"
    wanted = {(name, method.spacing, calls): (name, method, calls) for name, method, calls in points}
    before = read_rows(kept, "delete it to measure again")
    rows = [row for row in before if (row.sampler, row.spacing, row.calls) in wanted]
    for row in rows:
        del wanted[row.sampler, row.spacing, row.calls]
    start = MatchedStart(dataset.train.images, schedule)
    for row in compare(decoder.network, schedule, start, digits, list(wanted.values()), samples=samples):
        rows.append(row)
        files.write_bytes(kept, to_csv(rows))
        on_row(row)
    path = experiment.shipped_folder / f"{choice}.csv"
    files.write_bytes(path, to_csv(rows))
    return path


def to_csv(rows: Sequence[Row]) -> bytes:
    """Rows as CSV, with a seal."""
    return files.to_csv(pd.DataFrame(rows, columns=Row._fields))
