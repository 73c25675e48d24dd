"""A grid of experiments in YAML, checked as a whole before anything starts.

    experiments:                     # each is one experiment, or all combinations of what it lists
      - {beta: [0.001, 0.1], T: 200, network: lean_unet, dataset: mnist}
    notebooks:                       # what is executed for each, in order, with parameters of its own
      02_training:
      04_evaluation: {weights: run, samples: 1000}

The keys of an experiment are those of `Experiment`, or of `RestorationExperiment` if `degradation` is among them.
`betas: [0.1, 0.2]` is one schedule, `betas: [[0.1, 0.2], [0.3]]` two; other schedules take a line of their own.
"""

import dataclasses
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ddpm_utils.batch.notebooks import parameters_of
from ddpm_utils.batch.parameters import OWN, located, problem, understood
from ddpm_utils.names import suggestion
from ddpm_utils.training.base import TrainingSetup
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.parameters import ParameterError
from ddpm_utils.training.restorations import RestorationExperiment

PART_2 = "05_custom_degradation"  # the one for restorations
KEYS = ("experiments", "notebooks")
RESERVED = {"run_name": "a sweep gives each run a folder of its own", "resume": "a sweep always resumes"}
EXPERIMENTAL = {field.name for kind in (Experiment, RestorationExperiment) for field in dataclasses.fields(kind)}


class Entry(NamedTuple):
    """One experiment of a grid."""

    name: str  # its folder's
    values: dict  # those given, without lists, as the experiment understood them
    experiment: TrainingSetup
    notebooks: dict[str, dict]  # those executed for it, in order, with all parameters that they get


def read_grid(path: Path) -> list[Entry]:
    """The experiments of a grid, in order: those listed first vary slowest.

    Raises:
        ValueError: if anything in it is wrong; all of it is named at once, a line each.
    """
    try:
        content = YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}).") from error
    except (YAMLError, ValueError, RecursionError) as error:
        mark, reason = getattr(error, "problem_mark", None), str(error).partition("\n")[0]
        where = f", line {mark.line + 1}: {getattr(error, 'problem', reason)}" if mark else f": {reason}"
        raise ValueError(f"{path} is not valid YAML{where}.") from error
    problems: list[str] = []
    entries = _entries(content, problems)
    if problems:
        lines = "\n".join(f"  {problem}" for problem in dict.fromkeys(problems))
        raise ValueError(f"{path} cannot be run:\n{lines}")
    return entries


def _entries(content: Any, problems: list[str]) -> list[Entry]:
    if not isinstance(content, dict):
        problems.append("it must hold the keys experiments and notebooks.")
        return []
    unknown = [key for key in content if key not in KEYS]
    there = f"there are {', '.join(KEYS)}."
    problems += [f"there is no key {key!r}; {there}{suggestion(str(key), KEYS)}" for key in unknown]
    listed, notebooks = content.get("experiments"), content.get("notebooks")
    if not isinstance(listed, list) or not listed or not all(isinstance(entry, dict) for entry in listed):
        problems.append("experiments must be a list of mappings such as {beta: [0.001, 0.1], T: 200}.")
        listed = []
    if not isinstance(notebooks, dict) or not notebooks:
        problems.append("notebooks must map names such as 02_training to their parameters.")
        notebooks = {}
    notebooks = {name: _own_parameters(name, own, problems) for name, own in notebooks.items()}
    combinations = [values for entry in listed for values in _combinations(entry, problems)]
    made = [(values, experiment) for values in combinations if (experiment := _try(values, problems))]
    if problems:
        return []
    entries = [_entry(values, experiment, notebooks, combinations, problems) for values, experiment in made]
    names = [entry.name for entry in entries]
    problems += [f"{name} occurs {names.count(name)} times." for name in set(names) if names.count(name) > 1]
    return entries


def _combinations(entry: dict, problems: list[str]) -> list[dict]:
    """All combinations of an entry's lists."""
    lists = {name: value if _is_several(name, value) else [value] for name, value in entry.items()}
    problems += [f"the list of {name} is empty." for name, values in lists.items() if not values]
    problems += [f"{name} cannot be set: {why}." for name, why in RESERVED.items() if name in lists]
    return [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]


def _is_several(name: str, value: Any) -> bool:
    """Whether a value lists several; one custom schedule is a list itself."""
    return isinstance(value, list) and (name != "betas" or any(isinstance(betas, list) for betas in value))


def _try(values: dict, problems: list[str]) -> TrainingSetup | None:
    """The experiment; or all that is wrong with it."""
    try:
        return make_experiment(values)
    except ParameterError as error:
        problems += [sentence for _, sentence in error.problems]
    return None


def _own_parameters(name: str, own: Any, problems: list[str]) -> dict:
    """A notebook's own parameters, those that are not the experiment's."""
    try:
        types = parameters_of(name)
    except ValueError as error:
        problems.append(str(error))
        return {}
    if not isinstance(own or {}, dict):
        problems.append(f"the parameters of {name} must be a mapping such as {{calls: 30}}, not {own!r}.")
        return {}
    for key, value in (own or {}).items():
        if key not in types:
            problems.append(f"{name} has no parameter {key!r}; it has {', '.join(types)}.{suggestion(str(key), types)}")
        elif key in RESERVED:
            problems.append(f"{key} of {name} cannot be set: {RESERVED[key]}.")
        elif key in EXPERIMENTAL:
            problems.append(f"{key} of {name} belongs to the experiments.")
        elif wrong := problem(name, key, value):
            problems.append(f"{key} of {name} {wrong}")
    own = {key: understood(name, key, value) for key, value in (own or {}).items() if key in OWN[name]}
    return located(own)


def _entry(
    values: dict, experiment: TrainingSetup, notebooks: dict[str, dict], combinations: list[dict], problems: list[str]
) -> Entry:
    """An experiment with its notebooks' parameters, and a name that tells what varies over the grid."""
    restores = isinstance(experiment, RestorationExperiment)
    suited = {name: own for name, own in notebooks.items() if (name == PART_2) == restores}
    if not suited:
        problems.append(f"{experiment.title}: none of the notebooks is for it ({', '.join(notebooks)}).")
    settings = {field.name: getattr(experiment, field.name) for field in dataclasses.fields(experiment)}  # type: ignore[arg-type]
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    taken = {n: {k: v for k, v in settings.items() if k in parameters_of(n)} | own for n, own in suited.items()}
    for key in values:
        if suited and not any(key in parameters for parameters in taken.values()):
            problems.append(f"none of {', '.join(suited)} has a parameter {key!r}.")
    values = {key: getattr(experiment, key) for key in values}  # as the experiment understood them
    varied = [k for k in values if k not in experiment.identity and len({str(c.get(k)) for c in combinations}) > 1]
    name = "-".join([experiment.slug, *(f"{key}{values[key]}" for key in varied)])
    return Entry(name, values, experiment, taken)


def make_experiment(values: dict) -> TrainingSetup:
    """An `Experiment` from named values, or a `RestorationExperiment` if a degradation is among them.

    Raises:
        ParameterError: if a name is unknown or a value not allowed.
    """
    restores = any(name == "degradation" or suggestion(str(name), ["degradation"]) for name in values)
    kind = RestorationExperiment if restores else Experiment
    return kind(**{str(name): value for name, value in values.items()})
