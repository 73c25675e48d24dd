"""The notebooks' own parameters, those that are not an experiment's: what they may be, checked before any work starts.

Notebooks and grids share this check; those of an experiment are checked by `Experiment` and `RestorationExperiment`.
"""

from pathlib import Path
from typing import Any

from ddpm_utils.cold.samplers import ALGORITHMS
from ddpm_utils.data import Dataset
from ddpm_utils.diffusion.samplers import ancestral
from ddpm_utils.diffusion.schedules import LARGEST_T, NoiseSchedule
from ddpm_utils.diffusion.solvers import METHODS, Method, fewest_calls
from ddpm_utils.training.base import WEIGHTS
from ddpm_utils.training.parameters import ParameterError

MOST_IMAGES = 60_000  # of MNIST in training; parts of a data set have fewer
OWN: dict[str, dict[str, range | tuple[str, ...] | type]] = {
    "01_forward_process": {"shown": range(1, 13)},
    "02_training": {"resume": bool},
    "03_sampling": {"weights": WEIGHTS, "calls": range(1, LARGEST_T + 1), "shown": range(1, 65)},
    "04_evaluation": {
        "weights": WEIGHTS,
        "calls": range(1, LARGEST_T + 1),
        "samples": range(4, MOST_IMAGES + 1),  # of fewer no KID can be had
        "images": range(1, MOST_IMAGES + 1),
        "inception_weights": str,
    },
    "05_custom_degradation": {
        "algorithm": tuple(ALGORITHMS),
        "weights": WEIGHTS,
        "calls": range(1, 1001),
        "shown": range(1, 13),
    },
}
"""By notebook: integers of a range, some names, or a type."""
WALKS = {"03_sampling": Method(ancestral, "even"), "04_evaluation": METHODS["ancestral, posterior σ²"]}
"""What a notebook makes its calls with."""
NOUNS = {bool: "true or false"}
WEIGHTS_FILE = "empty, download, or a file that is there"


def check_parameters(
    notebook: str, dataset: Dataset | None = None, schedule: NoiseSchedule | None = None, /, **values: Any
) -> None:
    """Check some of a notebook's own parameters.

    Args:
        dataset: what the images are to be taken from, which bounds their number.
        schedule: of the forward process, which bounds the number of calls: between two of few steps no signal may be
            left.

    Raises:
        ParameterError: if one is not allowed; each sentence names the parameter, the value and what is.
    """
    found = {name: problem(notebook, name, value, dataset, schedule) for name, value in values.items()}
    if any(found.values()):
        raise ParameterError((name, f"{name} {wrong}") for name, wrong in found.items() if wrong)


def problem(
    notebook: str, name: str, value: Any, dataset: Dataset | None = None, schedule: NoiseSchedule | None = None
) -> str | None:
    """What is wrong with a notebook's own parameter, as the rest of a sentence that begins with its name; or None.

    Args:
        name: one of `OWN[notebook]`.
        dataset, schedule: as for `check_parameters`.
    """
    allowed, why = OWN[notebook][name], ""
    if isinstance(allowed, range):
        if dataset and name in ("samples", "images"):
            most = len(dataset.test) if name == "images" else min(len(dataset.test), len(dataset.validation))
            if most + 1 < allowed.stop:
                allowed, why = range(allowed.start, most + 1), f" ({dataset.name} has no more)"
        if schedule and name == "calls" and notebook in WALKS and type(value) is int and value in allowed:
            least = fewest_calls(schedule, value, [WALKS[notebook]])
            if least > value:
                allowed, why = range(least, allowed.stop), " (between two of fewer steps no signal is left)"
        right, what = type(value) is int and value in allowed, f"an integer from {allowed[0]} to {allowed[-1]}{why}"
    elif isinstance(allowed, tuple):
        right, what = isinstance(value, str) and value in allowed, f"one of {', '.join(allowed)}"
    elif name == "inception_weights":
        right, what = isinstance(value, str) and (value in ("", "download") or Path(value).is_file()), WEIGHTS_FILE
    else:
        right, what = isinstance(value, allowed), NOUNS[allowed]
    return None if right else f"must be {what}, not {value!r}."
