"""Every training and measurement that the repository ships, in order; except the classifier, which measures them.

Each step can be stopped at any moment: training goes on from its last state, at most half a minute old, a measurement
from its last finished part. A step that is done takes seconds.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from ddpm_utils.evaluation import recorded
from ddpm_utils.evaluation.recorded import RECORDED
from ddpm_utils.training.base import TrainingSetup
from ddpm_utils.training.experiments import PUBLISHED, Experiment
from maintenance.records import (
    decoders,
    decomposition_results,
    information_results,
    parameterised,
    restorations,
    seeds,
    table_1,
)
from maintenance.records.samplers import record_comparison


class Step(NamedTuple):
    """One step of the reproduction."""

    title: str
    minutes: float  # on two cores, alone
    work: Callable[[], object]


def plan(train: Callable[[TrainingSetup], None], say: Callable[[str], None] = print) -> list[Step]:
    """All steps.

    Args:
        train: trains an experiment to its end, or goes on from where it was.
        say: is told what a step is doing.
    """
    published = [Experiment(**{"epochs": 50} | values, dataset="mnist") for values in RECORDED]
    trainings = [(e, 36) for e in published]
    steps = [Step(f"train {e.title}, {e.epochs} epochs", minutes, partial(train, e)) for e, minutes in trainings]
    for e in published:
        sizes = {} if e.network == "cnn" else table_1.LEAN_SIZES
        record = partial(table_1.record, e, on_progress=say, **sizes)
        steps.append(Step(f"record {e.title}", 25 if e.T > 1000 else 10, record))
    for e in published[: len(PUBLISHED)]:
        steps.append(Step(f"explain {e.title}", 20, partial(table_1.record_explanations, e, on_progress=say)))
    low = published[0]
    for choice, samples, minutes in (("spacings", 1000, 30), ("calls", 2000, 60)):
        compare = partial(record_comparison, low, choice, samples=samples, on_row=say)
        steps.append(Step(f"compare samplers, {choice}", minutes, compare))
    return steps + part_2(train, say) + verdicts(train, say)


def verdicts(train: Callable[[TrainingSetup], None], say: Callable[[str], None]) -> list[Step]:
    """The networks with three seeds, and the measurements that the verdicts of notebooks 04 and 05 stand on."""
    minutes = {"cnn": 0.8, "lean_unet": 1.1}
    steps = [
        Step(f"train {e.title}, seed {e.seed}", e.epochs * minutes.get(e.network, 1.0), partial(train, e))
        for e in seeds.ALL
        if not seeds.is_trained(e)
    ]
    return [
        *steps,
        Step("decomposition of β = 0.1", 200, partial(decomposition_results.record_decomposition, say)),
        Step("restorations from equal information", 300, partial(information_results.record_information, say)),
        Step("targets and weightings", 60, partial(parameterised.record_parameterisation, say)),
    ]


def part_2(train: Callable[[TrainingSetup], None], say: Callable[[str], None]) -> list[Step]:
    """The restorations, their fine-tuning with a σ (after the blur that it begins with), and the prelude's decoders."""
    steps = []
    for e in [*recorded.TRAINED, *recorded.FINE_TUNED, recorded.LARGE_RESTORATION]:
        minutes = e.epochs * (4 if e.network == "unet" else 0.7)
        steps.append(Step(f"train {e.title}, {e.epochs} epochs", minutes, partial(train, e)))
        record = partial(restorations.record_restoration, e, on_progress=say)
        steps.append(Step(f"record {e.title}", 5, record))
    compared = {e for group in recorded.COMPARED.values() for e in group}
    for e in sorted(compared, key=lambda e: (e.network, e.epochs)):
        minutes = e.epochs * {"unet": 4, "cnn": 1}.get(e.network, 0.7)
        steps.append(Step(f"train {e.title}, {e.epochs} epochs", minutes, partial(train, e)))
    return [*steps, Step("decoders", 10, partial(decoders.record_decoders, on_progress=say))]


def reproduce(steps: list[Step]) -> Iterator[str]:
    """Take all steps; yields a line before each: its number, its title, and how many hours of work are left."""
    for number, step in enumerate(steps):
        hours = sum(step.minutes for step in steps[number:]) / 60
        yield f"[{number + 1}/{len(steps)}] {step.title}; about {hours:.1f} hours left on two cores"
        step.work()
