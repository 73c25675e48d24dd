"""The notebooks' own parameters, those that are not an experiment's: what they may be, checked before any work starts.

Notebooks and grids share this check; those of an experiment are checked by `Experiment` and `RestorationExperiment`.
"""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddpm_utils.cold.samplers import ALGORITHMS
from ddpm_utils.data.checks import SMALLEST
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.samplers import ancestral
from ddpm_utils.diffusion.schedules import LARGEST_T, NoiseSchedule
from ddpm_utils.diffusion.solvers import METHODS, Method, fewest_calls
from ddpm_utils.names import canonical, suggestion
from ddpm_utils.scalars import is_integer, plain, whole
from ddpm_utils.training.parameters import ParameterError
from ddpm_utils.training.weights import ALLOWED, WEIGHTS, absolute, is_allowed

MOST_IMAGES = 60_000  # of MNIST in training; parts of a data set have fewer
OWN: dict[str, dict[str, range | tuple[str, ...] | type]] = {
    "01_forward_process": {"shown": range(1, 13)},
    "02_training": {"resume": bool},
    "03_sampling": {"weights": str, "calls": range(1, LARGEST_T + 1), "shown": range(1, 65)},
    "04_evaluation": {
        "weights": str,
        "calls": range(1, LARGEST_T + 1),
        "samples": range(SMALLEST, MOST_IMAGES + 1),
        "images": range(1, MOST_IMAGES + 1),
        "inception_weights": str,
    },
    "05_custom_degradation": {
        "algorithm": tuple(ALGORITHMS),
        "weights": str,
        "calls": range(1, 1001),
        "shown": range(1, 13),
    },
}
"""By notebook: integers of a range, some names, or a type."""
WALKS = {"03_sampling": Method(ancestral, "even"), "04_evaluation": METHODS["ancestral, posterior σ²"]}
"""What a notebook makes its calls with."""
NOUNS: dict[type, str] = {bool: "true or false"}
INJECTED = "# Parameters"  # the first line of the cell that papermill adds after the parameters cell
WEIGHTS_FILE = "empty, download, or a file that is there"


def check_parameters(
    notebook: str, dataset: Dataset | None = None, schedule: NoiseSchedule | None = None, /, **values: Any
) -> dict[str, Any]:
    """Check some of a notebook's own parameters.

    Args:
        dataset: what the images are to be taken from, which bounds their number.
        schedule: of the forward process, which bounds the number of calls: between two of few steps no signal may be
            left.

    Returns:
        the values by name, as they are understood: 20.0 as 20, and names in the spelling of the package.

    Raises:
        ParameterError: if one is not allowed; each sentence names the parameter, the value and what is.
    """
    found = {name: problem(notebook, name, value, dataset, schedule) for name, value in values.items()}
    if any(found.values()):
        raise ParameterError((name, f"{name} {wrong}") for name, wrong in found.items() if wrong)
    return {name: understood(notebook, name, value) for name, value in values.items()}


def understood(notebook: str, name: str, value: Any) -> Any:
    """Return the value that is meant; what is wrong is returned as it is (see `problem`)."""
    allowed = OWN[notebook][name]
    if isinstance(allowed, range):
        return whole(value)
    choices = WEIGHTS if name == "weights" else allowed if isinstance(allowed, tuple) else ()
    if is_integer(whole(value)) and str(whole(value)) in choices:
        return str(whole(value))  # an algorithm, such as 2
    value = plain(value)
    return canonical(value, choices) or value if isinstance(value, str) else value


def check_names(notebook: str, cells: Sequence[str]) -> None:
    """Refuse parameters that papermill was given and the notebook does not have: papermill itself only warns.

    Args:
        notebook: its name without ending, such as "02_training".
        cells: the code of the cells that were executed, IPython's `In`.

    Raises:
        ParameterError: if there are unknown names; each sentence says what there is.
    """
    injected = [number for number, cell in enumerate(cells) if cell.split("\n", 1)[0].rstrip() == INJECTED]
    if not injected:
        return
    from ddpm_utils.batch.notebooks import parameters_of  # takes seconds, and is seldom needed

    known = list(parameters_of(notebook))
    before = [number - 1 for number in injected if number and number - 1 not in injected]
    own = {name for number in before for name in _assigned(cells[number])}  # the parameters cell: a copy may have more
    given = dict.fromkeys(name for number in injected for name in _assigned(cells[number]))
    unknown = [name for name in given if name not in own and name not in known]
    if unknown:
        there = f"in {notebook}; there are {', '.join(known)}."
        raise ParameterError(
            (name, f"there is no parameter {name!r} {there}{suggestion(name, known)}") for name in unknown
        )


def _assigned(code: str) -> list[str]:
    """The names that some code assigns, in order; none if it is no Python."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except SyntaxError:
        return []
    return [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def located(values: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as a process in any folder understands them: with the whole paths of files of weights."""
    files = {name: values[name] for name in ("weights", "inception_weights") if isinstance(values.get(name), str)}
    return values | {name: absolute(path) for name, path in files.items() if path not in ("", "download")}


def problem(
    notebook: str, name: str, value: Any, dataset: Dataset | None = None, schedule: NoiseSchedule | None = None
) -> str | None:
    """What is wrong with a notebook's own parameter, as the rest of a sentence that begins with its name; or None.

    Args:
        name: one of `OWN[notebook]`.
        dataset, schedule: as for `check_parameters`.
    """
    allowed, why = OWN[notebook][name], ""
    value, given = understood(notebook, name, value), value
    if isinstance(allowed, range):
        if dataset and name in ("samples", "images"):
            most = len(dataset.test) if name == "images" else min(len(dataset.test), len(dataset.validation))
            if most + 1 < allowed.stop:
                allowed, why = range(allowed.start, most + 1), f" ({dataset.name} has no more)"
        if schedule and name == "calls" and notebook in WALKS and type(value) is int and value in allowed:
            least = fewest_calls(schedule, value, [WALKS[notebook]])
            if least > value:
                allowed, why = range(least, allowed.stop), " (between two of fewer steps no signal is left)"
        what = f"an integer from {allowed.start} to {allowed.stop - 1}{why}"
        if not allowed:
            what = f"at least {allowed.start}, so that {dataset and dataset.name} has too few images for this notebook"
        right = type(value) is int and value in allowed
    elif isinstance(allowed, tuple):
        right, what = isinstance(value, str) and value in allowed, f"one of {', '.join(allowed)}"
    elif name == "weights":
        right, what = is_allowed(value), ALLOWED
    elif name == "inception_weights":
        right, what = isinstance(value, str) and (value in ("", "download") or Path(value).is_file()), WEIGHTS_FILE
    else:
        right, what = isinstance(value, allowed), NOUNS[allowed]
    near = suggestion(value, allowed) if isinstance(allowed, tuple) and isinstance(value, str) else ""
    return None if right else f"must be {what}, not {plain(given)!r}.{near}"
