"""Whatever a parameter is given: it is refused in a sentence before any work starts, or it can be worked with."""

import dataclasses
import json
import os
import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddpm_utils.batch.grid import EXPERIMENTAL, RESERVED
from ddpm_utils.batch.notebooks import numbered, parameters_of
from ddpm_utils.batch.parameters import OWN, WALKS, check_parameters, problem
from ddpm_utils.cold.mixtures import DEGRADATIONS
from ddpm_utils.diffusion.forward import diffuse, posterior_tables
from ddpm_utils.diffusion.samplers import ancestral
from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.diffusion.solvers import METHODS, fewest_calls
from ddpm_utils.scalars import plain, whole
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.restorations import RestorationExperiment
from ddpm_utils.training.weights import WEIGHTS

EXAMPLES = int(os.environ.get("DDPM_EXAMPLES", 100))
pytestmark = pytest.mark.usefixtures("unchecked")
often = settings(  # the same examples each time; `make stress` draws others
    max_examples=EXAMPLES,
    derandomize=not os.environ.get("DDPM_EXAMPLES"),
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LARGEST = 3000  # T that is worked with here

NUMBERS = st.one_of(
    st.integers(-3, LARGEST),
    st.integers(),
    st.floats(),
    st.floats(0, 1),
    st.sampled_from([0.0, 1.0, 1e-300, 1e-17, 1e-9, 1 - 1e-9, 1 - 1e-16, float("nan"), float("inf"), 2**63, 10**30]),
)
ANYTHING = st.one_of(
    NUMBERS,
    st.none(),
    st.booleans(),
    st.text(max_size=8),
    st.binary(max_size=3),
    st.sampled_from(["auto", "run", "shipped", "direct", "1", "2", "download", ""]),
    st.sampled_from(["mnist_5k", "cosine", "linear", "unet", "one_cycle", "..", "a/b", "x" * 300, "é", "a\n"]),
    st.lists(st.integers(), max_size=2),
    st.builds(np.float64, st.floats(0, 1)),
    st.builds(np.int64, st.integers(0, 9)),
    st.builds(torch.tensor, st.sampled_from([0, 5, 200.0, 0.1, True])),
)
BETAS = st.lists(st.one_of(st.floats(0, 1), st.floats(), st.integers(0, 1)), max_size=9)


def is_refused(error: ValueError, *names: str) -> bool:
    """Whether an error is one sentence that begins with the parameter, and says what is allowed."""
    sentence = str(error)
    begins = re.match(rf"({'|'.join(names)})\b", sentence)
    says = re.search(r"\b(must|may hold|take a smaller)\b", sentence)
    return bool(begins and says and sentence.endswith((".", "?")) and len(sentence) < 1000)


def shows(error: ValueError, value) -> bool:
    """Whether an error shows the value: as given, the integer that it is, or what is wrong in the list of betas."""
    value = plain(value)
    forms = [repr(value), str(value), str(whole(value)), *(map(repr, value) if isinstance(value, list) else [])]
    return any(form in str(error) for form in forms)


def can_be_worked_with(experiment: Experiment) -> bool:
    """Whether all that is computed from an experiment's schedule is finite, and its names are those of files."""
    schedule = experiment.noise_schedule
    assert np.all(np.diff(schedule.alpha) < 0)
    assert all(np.isfinite(table).all() for table in posterior_tables(schedule))
    calls = fewest_calls(schedule, 5, METHODS.values())
    assert 1 <= calls <= schedule.T
    x = torch.full((1, 1, 2, 2), 0.25)
    z = diffuse(x, schedule.T, torch.ones_like(x), schedule)
    perfect = lambda z, time: torch.ones_like(z)  # noqa: E731  (the noise that made z_T)
    method = METHODS["DDIM, η = 0"]
    walked = list(method.sampler(perfect, method.subset(schedule, calls), z))
    steps = list(ancestral(perfect, schedule, z, lambda: torch.zeros_like(x))) if schedule.T < 50 else walked
    assert all(latent.z.isfinite().all() for latent in (*walked, *steps))
    json.dumps(experiment.description)
    return all(re.fullmatch(r"\w[\w.-]{,199}", name) for name in (experiment.slug, experiment.run_folder.name))


@often
@given(name=st.sampled_from([field.name for field in dataclasses.fields(Experiment)]), value=ANYTHING)
def test_each_parameter_of_an_experiment_is_refused_or_works(name, value):
    try:
        experiment = Experiment(**{name: value})
    except ValueError as error:
        assert is_refused(error, name, "beta"), error  # noqa: PT017
        assert shows(error, value)  # noqa: PT017
    else:
        assert experiment.T > LARGEST or can_be_worked_with(experiment)


@often
@given(
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    numbers=st.fixed_dictionaries({name: st.floats(0, 1) for name in ("beta", "beta_min", "beta_max")}),
    T=st.integers(1, LARGEST),
)
def test_each_schedule_is_refused_or_works(schedule, numbers, T):
    try:
        experiment = Experiment(schedule, T=T, **numbers)
    except ValueError as error:
        assert is_refused(error, "beta", "beta_min", "beta_max"), error  # noqa: PT017
    else:
        assert can_be_worked_with(experiment)


@often
@given(betas=st.one_of(BETAS, BETAS.map(np.array), BETAS.map(lambda betas: torch.tensor(betas, dtype=torch.float64))))
def test_each_custom_schedule_is_refused_or_works(betas):
    try:
        experiment = Experiment(schedule="custom", betas=betas)
    except ValueError as error:
        assert is_refused(error, "betas") or "betas" in str(error), error  # noqa: PT017
    else:
        assert len(betas) == experiment.T
        assert can_be_worked_with(experiment)


@often
@given(name=st.sampled_from([field.name for field in dataclasses.fields(RestorationExperiment)]), value=ANYTHING)
def test_each_parameter_of_a_restoration_is_refused_or_works(name, value):
    try:
        experiment = RestorationExperiment(**{name: value})
    except ValueError as error:
        assert is_refused(error, name), error  # noqa: PT017
        assert shows(error, value)  # noqa: PT017
    else:
        assert_restores(experiment)


@often
@given(
    degradation=st.sampled_from(sorted(set(DEGRADATIONS) - {"morph"})),  # whose partners are data
    T=st.integers(-1, 60),
    severity=st.one_of(st.floats(), st.floats(0, 4)),
    sigma=st.one_of(st.floats(), st.floats(0, 2)),
)
def test_each_degradation_is_refused_or_works(degradation, T, severity, sigma):
    try:
        experiment = RestorationExperiment(degradation, T, severity, sigma=sigma)
    except ValueError as error:
        assert is_refused(error, "T", "severity", "sigma"), error  # noqa: PT017
    else:
        assert_restores(experiment)


def assert_restores(experiment: RestorationExperiment) -> None:
    """One call of the objective is finite, at the first step and the last."""
    x = torch.linspace(-0.5, 0.5, 784).reshape(1, 1, 28, 28).expand(2, -1, -1, -1)
    drawn = experiment.objective.draw(x, torch.Generator().manual_seed(0))
    loss = experiment.objective(lambda z, time: z, x, torch.tensor([1, experiment.T]), *drawn)
    assert loss.isfinite().all()
    assert re.fullmatch(r"\w[\w.+-]{,199}", experiment.slug)


def test_what_is_a_notebooks_own_is_known():
    for path in numbered():
        assert set(OWN[path.stem]) == set(parameters_of(path.stem)) - EXPERIMENTAL - (set(RESERVED) - {"resume"})


@often
@given(data=st.data())
def test_each_of_a_notebooks_own_parameters_is_refused_or_allowed(data):
    notebook = data.draw(st.sampled_from(sorted(OWN)))
    name = data.draw(st.sampled_from(sorted(OWN[notebook])))
    value = data.draw(ANYTHING)
    allowed = OWN[notebook][name]
    if allowed is str:
        allowed = WEIGHTS if name == "weights" else ("", "download")
    meant = whole(value)
    if name == "algorithm" and type(meant) is int:
        meant = str(meant)
    right = type(meant) is bool if allowed is bool else type(meant) in (int, str) and meant in allowed
    if right:
        assert check_parameters(notebook, **{name: value}) == {name: meant}
        return
    with pytest.raises(ValueError, match=rf"^{name} must be ") as found:
        check_parameters(notebook, **{name: value})
    assert shows(found.value, value)


@pytest.mark.parametrize(
    ("notebook", "name", "values", "meant"),
    [
        ("03_sampling", "calls", [20, 20.0, np.int64(20), np.float32(20), torch.tensor(20), np.array(20.0)], 20),
        ("02_training", "resume", [True, np.bool_(True), torch.tensor(True)], True),
        ("05_custom_degradation", "algorithm", ["direct", "Direct", " DIRECT "], "direct"),
        ("05_custom_degradation", "algorithm", ["2", 2, 2.0, np.int32(2)], "2"),  # papermill -p algorithm 2
        ("04_evaluation", "weights", ["shipped", "Shipped", "SHIPPED"], "shipped"),
    ],
)
def test_values_are_understood_in_other_forms(notebook, name, values, meant):
    for value in values:
        found = check_parameters(notebook, **{name: value})[name]
        assert (type(found), found) == (type(meant), meant)


@pytest.mark.parametrize(
    ("notebook", "name", "value", "end"),
    [
        ("03_sampling", "calls", True, "not True."),
        ("03_sampling", "calls", 20.5, "not 20.5."),
        ("03_sampling", "calls", "20", "not '20'."),
        ("04_evaluation", "samples", np.array([20]), "not array([20])."),
        ("02_training", "resume", 1, "not 1."),
        ("05_custom_degradation", "algorithm", "dirct", "not 'dirct'. Did you mean 'direct'?"),
        ("05_custom_degradation", "algorithm", 3, "not 3."),
        ("05_custom_degradation", "algorithm", True, "not True."),
    ],
)
def test_other_values_are_refused_as_they_were_given(notebook, name, value, end):
    with pytest.raises(ValueError, match=f"^{name} must be ") as found:
        check_parameters(notebook, **{name: value})
    assert str(found.value).endswith(end)


def test_no_more_images_than_there_are(digits):
    assert problem("04_evaluation", "samples", 800, digits) is None
    assert problem("04_evaluation", "images", 1000, digits) is None
    for name, value, most in (("samples", 801, 800), ("images", 1001, 1000)):
        with pytest.raises(
            ValueError, match=rf"{name} must be an integer from [0-9]+ to {most} \(mnist_5k has no more\), not"
        ):
            check_parameters("04_evaluation", digits, **{name: value})


@pytest.mark.parametrize("notebook", sorted(WALKS))
def test_few_calls_are_refused_if_they_leave_no_signal(notebook):
    harsh = constant(beta=0.1, T=1300)
    sentence = r"calls must be an integer from (\d+) to \d+ \(between two of fewer steps no signal is left\), not 1\."
    with pytest.raises(ValueError, match=sentence) as found:
        check_parameters(notebook, None, harsh, calls=1)
    least = int(re.search(sentence, str(found.value))[1])
    check_parameters(notebook, None, harsh, calls=least)
    with pytest.raises(ValueError, match=rf"from {least} to .* not {least - 1}\."):
        check_parameters(notebook, None, harsh, calls=least - 1)
    check_parameters(notebook, None, harsh, calls=5000)  # all steps
    check_parameters(notebook, None, constant(beta=0.001, T=2000), calls=1)
