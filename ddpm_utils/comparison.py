"""Quality against network calls: every sampler with the same trained network, start, seeds and digits."""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd
from torch import Tensor

from ddpm_utils import metrics
from ddpm_utils.classifier import load_classifier
from ddpm_utils.data import Part
from ddpm_utils.sampling import Decoder, Latent, Noise, ancestral, ddim, sample
from ddpm_utils.schedules import NoiseSchedule
from ddpm_utils.solvers import dpm_solver_2m, heun

SEED = 4_000_000  # seeds of the compared samples: this and following ones


class Method(NamedTuple):
    """A sampler, and how its steps are spread (see `NoiseSchedule.subset`)."""

    sampler: Callable[..., Iterator[Latent]]
    spacing: str = "even"

    def __call__(self, network: Decoder, schedule: NoiseSchedule, calls: int) -> Callable[[Tensor, Noise], Iterator]:
        """(z, noise) → the trajectory that makes `calls` network calls, as `sampling.sample` wants it.

        Heun makes two calls a step and one in the last, so an even number is one too many for it.

        Raises:
            ValueError: if the schedule has fewer steps than that takes.
        """
        steps = (calls + 1) // 2 if self.sampler is heun else calls
        return partial(self.sampler, network, schedule.subset(steps, self.spacing))


METHODS = {
    "ancestral, σ² = β": Method(ancestral),
    "ancestral, posterior σ²": Method(partial(ancestral, variance="posterior")),
    "DDIM, η = 0": Method(ddim, "karras"),
    "Heun": Method(heun, "karras"),
    "DPM-Solver++(2M)": Method(dpm_solver_2m, "quadratic"),
}
"""The samplers by name, each with the spacing that did best on validation digits."""


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


def to_csv(rows: Sequence[Row]) -> bytes:
    """Rows as CSV."""
    return pd.DataFrame(rows, columns=Row._fields).to_csv(index=False).encode()


def from_csv(content: bytes) -> list[Row]:
    """What `to_csv` wrote."""
    return [Row(*row) for row in pd.read_csv(io.BytesIO(content)).itertuples(index=False)]
