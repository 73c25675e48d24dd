"""A grid is checked as a whole, and expands to the experiments that it lists."""

import json
import math
from dataclasses import fields
from pathlib import Path

import pytest

from ddpm_utils.batch.grid import read_grid
from ddpm_utils.system.places import PROJECT
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.restorations import RestorationExperiment

pytestmark = pytest.mark.usefixtures("unchecked")
NOTEBOOKS = "notebooks:\n  02_training:\n  03_sampling: {weights: run}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "grid.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> list[str]:
    """The lines of what is wrong with a grid."""
    with pytest.raises(ValueError, match="cannot be run") as found:
        read_grid(write(folder, text))
    return [line.strip() for line in str(found.value).splitlines()[1:]]


def test_lists_expand_to_all_combinations_the_first_slowest(tmp_path):
    path = write(tmp_path, f"experiments:\n  - {{beta: [0.01, 0.1], T: [20, 50], seed: 3}}\n{NOTEBOOKS}")
    entries = read_grid(path)
    assert [(e.experiment.beta, e.experiment.T) for e in entries] == [(0.01, 20), (0.01, 50), (0.1, 20), (0.1, 50)]
    training, sampling = entries[1].notebooks.values()
    experiment = Experiment(beta=0.01, T=50, seed=3)
    names = {field.name for field in fields(Experiment)} - {"target", "weighting"}  # which no notebook takes
    assert training == {name: getattr(experiment, name) for name in names} | {"betas": []}
    assert sampling == training | {"weights": "run"}


def test_names_tell_what_varies(tmp_path):
    seeds = read_grid(write(tmp_path, f"experiments:\n  - {{beta: 0.1, T: 20, seed: [0, 1], epochs: 3}}\n{NOTEBOOKS}"))
    assert [entry.name for entry in seeds] == ["constant-beta0.1-T20-cnn-seed0", "constant-beta0.1-T20-cnn-seed1"]


def test_numbers_with_exponents_are_numbers(tmp_path):
    (entry,) = read_grid(write(tmp_path, f"experiments:\n  - {{beta: 1e-1, T: 20, learning_rate: 2e-3}}\n{NOTEBOOKS}"))
    assert entry.experiment == Experiment(beta=0.1, T=20, learning_rate=0.002)


def test_degradations_have_their_own_notebook(tmp_path):
    text = "experiments:\n  - {degradation: [blur, fade]}\n  - {beta: 0.1, T: 20}\n"
    entries = read_grid(write(tmp_path, f"{text}{NOTEBOOKS}  05_custom_degradation: {{calls: 5}}\n"))
    assert [list(entry.notebooks) for entry in entries] == [["05_custom_degradation"]] * 2 + [
        ["02_training", "03_sampling"]
    ]
    assert entries[1].experiment == RestorationExperiment("fade")
    parameters = entries[1].notebooks["05_custom_degradation"]
    assert parameters.items() >= {"degradation": "fade", "T": 50, "epochs": 2, "calls": 5}.items()


def test_all_problems_are_told_at_once(tmp_path):
    found = problems(
        tmp_path,
        """
        experiments:
          - {beta: [0.01, 2.0], T: [20, 0], network: lean, betta: 3, epochs: 1.5}
          - {beta: 0.1, T: 20, run_name: mine}
          - {T: []}
        notebooks:
          02_training: {tempo: 1, epochs: 3, resume: false}
          01_forward_process: {shown: 13}
          05_custom_degradation: {algorithm: "3", calls: 1001}
          06_missing:
          04_evaluation: {weights: mine, calls: 0, samples: many}
        extra: 1
        """,
    )
    beginnings = [
        *("there is no key 'extra'", "02_training has no parameter 'tempo'", "there is no notebook '06_missing'"),
        *("epochs of 02_training belongs to the experiments.", "resume of 02_training cannot be set: a sweep always"),
        *(
            "shown of 01_forward_process must be an integer from 1 to 12, not 13",
            "calls of 05_custom_degradation must be an integer from 1 to 1000, not 1001",
        ),
        "algorithm of 05_custom_degradation must be one of direct, 1, 2, not '3'.",
        *(
            "weights of 04_evaluation must be one of auto, run, shipped",
            "calls of 04_evaluation must be an integer from 1",
        ),
        *("samples of 04_evaluation must be an integer", "run_name cannot be set", "the list of T is empty"),
        *("there is no parameter 'betta'", "epochs must be an integer", "network must be one of", "T must be in 1"),
        "beta must lie strictly between 0 and 1, not 2.0",
    ]
    assert len(found) == len(beginnings)
    assert all(any(line.startswith(beginning) for line in found) for beginning in beginnings)


def test_problems_of_several_parameters_are_told_with_the_others(tmp_path):
    found = problems(tmp_path, f"experiments:\n  - {{beta: 0.1, T: 2000, epochs: 0, 1: 2}}\n{NOTEBOOKS}")
    assert found[0].startswith("beta = 0.1, T = 2000: alpha at T = 2000 is 3e-92")
    assert found[1] == "epochs must be at least 1, not 0."
    assert found[2].startswith("there is no parameter '1'; there are schedule, ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"experiments:\n  - {{beta: 0.1, T: 20}}\n  - {{beta: [0.1, 0.2], T: 20}}\n{NOTEBOOKS}", "occurs 2 times."),
        (f"experiments:\n  - {{degradation: blur}}\n{NOTEBOOKS}", "none of the notebooks is for it"),
        ("experiments:\n  - {network: cnn}\nnotebooks: {01_forward_process: }", "has a parameter 'network'."),
        (f"experiments: {{beta: 0.1}}\n{NOTEBOOKS}", "experiments must be a list of mappings"),
        ("experiments:\n  - {beta: 0.1}\nnotebooks: [02_training]", "notebooks must map names"),
        (
            "experiments:\n  - {beta: 0.1}\nnotebooks: {03_sampling: 30}",
            "must be a mapping such as {calls: 30}, not 30",
        ),
        ("- beta", "it must hold the keys experiments and notebooks."),
    ],
)
def test_each_problem_has_its_sentence(tmp_path, text, problem):
    assert any(problem in line for line in problems(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("experiments: [", r"grid.yaml is not valid YAML, line 1: "),
        (5000 * "[", r"grid.yaml is not valid YAML: maximum recursion depth"),
        ("experiments:\n  - {T: 1, T: 2}\n", r'is not valid YAML, line 2: found duplicate key "T"'),
        ("experiments: !!python/object/apply:os.system [ls]", "is not valid YAML, line 1: "),
        ("experiments: \0", "is not valid YAML: unacceptable character #x0000: special characters are not allowed"),
        ("experiments: 2026-13-45", "is not valid YAML: month must be in 1..12"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(tmp_path, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_grid(write(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"missing.yaml cannot be read \(No such file"):
        read_grid(tmp_path / "missing.yaml")


def test_the_committed_grids_can_be_run():
    published = read_grid(PROJECT / "grids" / "published.yaml")
    assert [entry.name for entry in published] == ["constant-beta0.001-T2000-cnn", "constant-beta0.1-T200-cnn"]
    assert all(entry.experiment.epochs == 50 and entry.experiment.dataset == "mnist" for entry in published)
    grid = read_grid(PROJECT / "grids" / "beta_T.yaml")
    assert len({(e.experiment.beta, e.experiment.T) for e in grid}) == 20
    assert all(math.isclose(e.experiment.learning_rate, 0.002) for e in grid)


# Schedules of one's own, other numbers, other spellings


def test_a_list_of_betas_is_one_schedule_and_a_list_of_lists_several(tmp_path):
    one = read_grid(write(tmp_path, f"experiments:\n  - {{schedule: custom, betas: [0.1, 0.2]}}\n{NOTEBOOKS}"))
    assert [entry.experiment for entry in one] == [Experiment("custom", betas=[0.1, 0.2])]
    assert one[0].notebooks["03_sampling"].items() >= {"schedule": "custom", "betas": [0.1, 0.2], "T": 2}.items()
    json.dumps(one[0].notebooks)
    text = "{schedule: custom, betas: [[0.1, 0.2], [3e-1], [0.1, 0.3]], seed: [0, 1]}"
    several = read_grid(write(tmp_path, f"experiments:\n  - {text}\n  - {{beta: 0.1, T: 20}}\n{NOTEBOOKS}"))
    assert [entry.experiment.T for entry in several] == [2, 2, 1, 1, 2, 2, 20]
    assert len({entry.name for entry in several}) == 7
    assert all(len(entry.name) < 60 for entry in several)


@pytest.mark.parametrize(
    ("text", "beginnings"),
    [
        (
            "{schedule: [constant, custom], T: 20, betas: [0.1, 0.2]}",
            ["betas must be empty for the schedule 'constant'"],
        ),
        ("{schedule: custom}", ["betas must hold β_1 … β_T, and not be empty."]),
        ("{schedule: custom, betas: [0.1, two]}", ["betas must be a list of numbers, β_1 … β_T, and β_2 is 'two'."]),
        ("{schedule: custom, betas: 0.1}", ["betas must be a list of numbers, β_1 … β_T, not 0.1."]),
        ("{schedule: custom, betas: [[0.1], 0.2]}", ["betas must be a list of numbers, β_1 … β_T, not 0.2."]),
        ("{schedule: custom, betas: [[0.1], [2.0]]}", ["betas[0] = β_1 must lie strictly between 0 and 1, not 2.0."]),
        ("{beta: [[0.1, 0.2]]}", ["beta must be a number, not [0.1, 0.2]. For a β of its own at each step take"]),
    ],
)
def test_betas_that_make_no_schedule_have_their_sentence(tmp_path, text, beginnings):
    found = problems(tmp_path, f"experiments:\n  - {text}\n{NOTEBOOKS}")
    assert len(found) == len(beginnings)
    assert all(line.startswith(beginning) for line, beginning in zip(found, beginnings, strict=True))


def test_numbers_and_names_may_be_written_otherwise(tmp_path):
    text = (
        "{beta: 0.1, T: 20.0, epochs: 3.0, network: LeanUNet, dataset: MNIST5k, lr_schedule: One Cycle, seed: [0.0, 1]}"
    )
    notebooks = "notebooks:\n  03_sampling: {weights: Run, calls: 20.0, shown: 1e1}\n"
    part_2 = "  - {degradation: Blur, T: 1e1, norm: 1.0}\n"
    own = "  05_custom_degradation: {algorithm: 2, weights: AUTO}\n"
    plain = "{beta: 0.1, T: 20, epochs: 3, network: lean_unet, dataset: mnist_5k, lr_schedule: one_cycle, seed: [0, 1]}"
    found = read_grid(write(tmp_path, f"experiments:\n  - {text}\n{part_2}{notebooks}{own}"))
    notebooks = "notebooks:\n  03_sampling: {weights: run, calls: 20, shown: 10}\n"
    part_2 = "  - {degradation: blur, T: 10, norm: 1}\n"
    own = '  05_custom_degradation: {algorithm: "2", weights: auto}\n'
    expected = read_grid(write(tmp_path, f"experiments:\n  - {plain}\n{part_2}{notebooks}{own}"))
    assert found == expected
    assert json.dumps([entry.notebooks for entry in found]) == json.dumps([entry.notebooks for entry in expected])
    assert json.dumps([entry.values for entry in found]) == json.dumps([entry.values for entry in expected])


def test_names_that_are_nearly_right_are_suggested(tmp_path):
    found = problems(
        tmp_path,
        """
        experiments:
          - {betta: 0.1, network: lean_net, "T": "20"}
          - {degredation: blur}
        notebooks:
          03_samplings:
          02_training: {resumes: true}
          05_custom_degradation: {algorithm: dirct}
        notebook: {}
        """,
    )
    for words in (
        *("there is no key 'notebook'; there are experiments, notebooks. Did you mean 'notebooks'?",),
        *("there is no notebook '03_samplings'; ", "02_training has no parameter 'resumes'; "),
        *("algorithm of 05_custom_degradation must be one of direct, 1, 2, not 'dirct'. Did you mean 'direct'?",),
        *("there is no parameter 'betta'; ", "there is no parameter 'degredation'; ", "network must be one of "),
    ):
        (line,) = [line for line in found if line.startswith(words)]
        assert "Did you mean '" in line
    assert "T must be an integer, not '20'." in found
