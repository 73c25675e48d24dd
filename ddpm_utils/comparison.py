"""Quality against network calls: every sampler with the same trained network, start, seeds and digits."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from torch import Tensor

from ddpm_utils import checkpoints, metrics, sealed
from ddpm_utils.classifier import load_classifier
from ddpm_utils.data import Part
from ddpm_utils.experiment import Experiment
from ddpm_utils.sampling import Decoder, Latent, MatchedStart, Noise, ancestral, ddim, sample
from ddpm_utils.schedules import SPACINGS, NoiseSchedule
from ddpm_utils.solvers import dpm_solver_2m, heun

SEED = 4_000_000  # seeds of the compared samples: this and following ones
CALLS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
CHOICE_CALLS = (5, 10, 20)  # at which spacings are compared


class Method(NamedTuple):
    """A sampler, and how its steps are spread (see `NoiseSchedule.subset`)."""

    sampler: Callable[..., Iterator[Latent]]
    spacing: str = "even"

    def __call__(self, network: Decoder, schedule: NoiseSchedule, calls: int) -> Callable[[Tensor, Noise], Iterator]:
        """(z, noise) → the trajectory that makes `calls` network calls, as `sampling.sample` wants it.

        Heun makes two calls a step and one in the last; of an even number it leaves one unused.

        Raises:
            ValueError: if the schedule has fewer steps than that takes.
        """
        steps = (calls + 1) // 2 if self.sampler is heun else calls
        return partial(self.sampler, network, schedule.subset(steps, self.spacing))

    def can_walk(self, schedule: NoiseSchedule, calls: int) -> bool:
        """Whether so many calls are enough: of a harsh schedule no signal is left between steps that are far apart."""
        try:
            self(lambda z, time: z, schedule, calls)
        except ValueError:
            return False
        return True

    def counts(self, calls: Sequence[int]) -> list[int]:
        """The numbers of calls nearest below those given that it makes use of: odd ones for Heun."""
        return sorted({n - 1 + n % 2 for n in calls if n > 2 or n % 2} if self.sampler is heun else set(calls))


METHODS = {
    "ancestral, σ² = β": Method(ancestral, "log_snr"),
    "ancestral, posterior σ²": Method(partial(ancestral, variance="posterior"), "quadratic"),
    "DDIM, η = 0": Method(ddim, "quadratic"),
    "Heun": Method(heun, "karras"),
    "DPM-Solver++(2M)": Method(dpm_solver_2m, "quadratic"),
}
"""The samplers by name, each with its best spacing: by mean rank at 5, 10 and 20 calls of the shipped low-β CNN, on
validation digits. (Ancestral sampling with σ² = β does better with even steps below 10 calls.)"""


def fewest_calls(schedule: NoiseSchedule, least: int, methods: Iterable[Method]) -> int:
    """The smallest number of network calls, at least so many, in which all methods can walk a schedule; T at most."""
    methods = list(methods)
    numbers = range(min(least, schedule.T), schedule.T)
    return next((calls for calls in numbers if all(m.can_walk(schedule, calls) for m in methods)), schedule.T)


class Row(NamedTuple):
    """One point of quality against network calls."""

    sampler: str
    spacing: str
    calls: int
    samples: int
    fid: float
    low: float  # of the 95 % interval
    high: float
    floor: float  # FID of as many real digits


def compare(
    network: Decoder,
    schedule: NoiseSchedule,
    start: Callable[[Noise], Tensor],
    digits: Part,
    points: Sequence[tuple[str, Method, int]],
    *,
    samples: int,
) -> Iterator[Row]:
    """FID on the digit classifier's features for each (name, method, calls), lower is better.

    Args:
        start: draws z_T (see `sampling`).
        digits: real ones to compare with, at least twice as many as the samples.

    Yields:
        one `Row` for each point.

    Raises:
        ValueError: if there are too few digits, or the schedule has too few steps for a point.
    """
    classifier, _ = load_classifier()
    real = metrics.features(classifier.embed, digits[: 2 * samples].images)
    for name, method, calls in points:
        images, _ = sample(method(network, schedule, calls), range(SEED, SEED + samples), start=start)
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
        kinds = [(name, method.sampler, spacing) for name, method in METHODS.items() for spacing in SPACINGS]
        methods = [(name, Method(sampler, spacing)) for name, sampler, spacing in kinds]
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
        CheckpointError: if the project ships no weights for this experiment.
    """
    if not (experiment.shipped_folder / "weights.safetensors").exists():
        raise checkpoints.CheckpointError(f"there are no shipped weights of {experiment.slug}: record them first.")
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
        checkpoints.write_bytes(kept, to_csv(rows))
        on_row(row)
    path = experiment.shipped_folder / f"{choice}.csv"
    checkpoints.write_bytes(path, to_csv(rows))
    return path


def to_csv(rows: Sequence[Row]) -> bytes:
    """Rows as CSV, with a seal."""
    return sealed.to_csv(pd.DataFrame(rows, columns=Row._fields))


def read_rows(path: Path, remedy: str = sealed.RESTORE) -> list[Row]:
    """A file of what `to_csv` returned; none if there is no file.

    Arguments and errors as for `sealed.read_json`.
    """
    return [Row(*row) for row in sealed.read_csv(path, remedy).itertuples(index=False)] if path.exists() else []
