"""The mutation tests' own machinery, on a toy project whose faults are known."""

from collections import Counter

import pytest
from ruamel.yaml import YAML

from maintenance.reliability import mutants as harness
from maintenance.reliability import trial
from maintenance.reliability.mutations import Mutant, mutants, sample
from maintenance.reliability.trial import copy

TOY = '''"""A toy."""

import math

LIMIT = 3
Pair = tuple[int, 2]


def scaled(x: float, factor: int = 2) -> float:
    """x·factor + 1."""
    if len(str(x)) > 99:
        raise ValueError("too long", 1)
    return x * factor + 1
'''
TESTS = """from pathlib import Path

from ddpm_utils.toy import scaled


def test_scaled():
    with open("runs.txt", "a") as file:
        file.write("x")
    assert scaled(3.0) == 7
    assert Path(__file__).parents[1].joinpath("ddpm_utils", "toy.py").exists()
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # a toy needs none, and starts faster
    folder = tmp_path / "project"
    for name, content in {
        "ddpm_utils/__init__.py": "",
        "ddpm_utils/toy.py": TOY,
        "tests/conftest.py": "",
        "tests/test_toy.py": TESTS,
        "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\n',
        "data/runs/large.txt": "",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def possible():
    return {"toy": mutants("toy", TOY), "twice": mutants("twice", TOY + TOY.replace("scaled", "other"))}


def named(possible, mutated: str) -> Mutant:
    (found,) = [mutant for mutant in possible["toy"] if mutant.mutated == mutated]
    return found


def test_faults_are_those_of_the_code(possible):
    changes = {mutant.mutated for mutant in possible["toy"]}
    assert changes == {
        *("LIMIT = None", "LIMIT = 4"),
        "def scaled(x: float, factor: int = 3) -> float:",
        *("if len(str(x)) >= 99:", "if len(str(x)) > 100:"),
        *("return x / factor + 1", "return x * factor - 1", "return x * factor + 2"),
    }
    comparison = named(possible, "if len(str(x)) >= 99:")
    assert (comparison.kind, comparison.line, comparison.original) == ("comparison", 11, "if len(str(x)) > 99:")
    assert comparison.source == TOY.replace("> 99", ">= 99")


def test_kinds_tell_none_from_an_argument_removed_and_operators_from_each_other():
    found = mutants("calls", "y = f(a, b)\nz = a < b or a + b\n")
    assert Counter(mutant.kind for mutant in found) == {
        **{"None": 4, "argument removed": 2},  # of both assignments, and of both arguments
        **{"comparison": 1, "and, or": 1, "arithmetic": 1},
    }


def test_the_sample_is_drawn_by_seed_module_and_kind(possible):
    chosen = sample(possible, 12, 2, seed=0)
    assert chosen == sample(possible, 12, 2, seed=0)
    assert chosen != sample(possible, 12, 2, seed=1)
    assert {module: len(its) for module, its in chosen.items()} == {"toy": 4, "twice": 8}  # as 8 to 16
    assert {len(set(its)) for its in chosen.values()} == {4, 8}
    for module, its in chosen.items():
        kinds = Counter(mutant.kind for mutant in possible[module])
        drawn = Counter(mutant.kind for mutant in its)
        assert all(drawn[kind] >= min(len(its) // len(kinds), count) for kind, count in kinds.items())
    assert len(sample(possible, 1, 3, seed=0)["toy"]) == 3  # the floor
    assert sample({"toy": possible["toy"]}, 4, 2, seed=0)["toy"] == chosen["toy"]  # whatever other modules there are
    assert {module: len(its) for module, its in sample(possible, 99, 2, seed=0).items()} == {"toy": 8, "twice": 16}


def test_a_copy_is_given_the_fault_and_gets_its_source_back(project, tmp_path):
    tree = copy(project, tmp_path / "tree")
    assert not (tree / "data" / "runs").exists()
    for source in ("broken", None):
        with harness.fault(tree, "toy", source):
            assert harness.path_of(tree, "toy").read_text() == (source or TOY)
            assert harness.path_of(project, "toy").read_text() == TOY
        assert harness.path_of(tree, "toy").read_text() == TOY


def outcomes(project, chosen):
    return harness.find_outcomes({"toy": chosen}, {"toy": ("toy",)}, project, project.parent / "runs", libraries=())


def test_what_breaks_is_killed_what_does_not_survives_and_a_second_run_goes_on(project, possible, monkeypatch):
    wrong, same = named(possible, "return x * factor - 1"), named(possible, "if len(str(x)) >= 99:")
    assert outcomes(project, [wrong, same]) == {wrong: "failed", same: "passed"}
    assert harness.path_of(project, "toy").read_text() == TOY
    assert not (project / "runs.txt").exists()  # not one test ran in the project itself

    tried = []

    def all_fail(missing, *_):
        tried.extend(missing)
        return [(mutant, "failed") for mutant in missing]

    monkeypatch.setattr(harness, "try_all", all_fail)
    other = named(possible, "LIMIT = 4")
    assert outcomes(project, [same, wrong, other]) == {same: "passed", wrong: "failed", other: "failed"}
    assert tried == [other]
    (project / "tests" / "test_toy.py").write_text(TESTS + "\n")  # other tests: everything anew
    outcomes(project, [same])
    assert tried == [other, same]


def test_what_does_not_end_is_stopped(project, possible, monkeypatch):
    monkeypatch.setattr(harness, "TIMEOUT", (1, 0))
    monkeypatch.setattr(trial, "WAIT", 3)
    sleeping, busy = (
        possible["toy"][i]._replace(source=f"{TOY}\nimport time\nwhile True:\n    {what}\n")
        for i, what in enumerate(("time.sleep(1)", "pass"))
    )
    assert outcomes(project, [busy, sleeping]) == {busy: "timeout", sleeping: "timeout"}


def test_tests_that_fail_by_themselves_are_refused(project, possible):
    (project / "tests" / "test_toy.py").write_text("assert False")
    with pytest.raises(RuntimeError, match="the tests of toy fail without a fault"):
        outcomes(project, possible["toy"][:1])


def test_the_report(possible):
    one, other, third = possible["toy"][:3]
    ends = {one: "failed", other: "passed", third: "timeout"}
    judged = {("toy", other.original, other.mutated): {"equivalent": True, "why": "It is never read."}}
    section = harness.as_section({"toy": possible["toy"]}, ends, judged)
    assert section.table.iloc[-1].to_dict() == {
        **{"module": "all", "possible": 8, "sampled": 3, "killed": 2, "by timeout": 1},
        **{"survived": 1, "equivalent": 1, "killed share": "66.7 %"},
    }
    assert f"- toy:{other.line} `{other.original}` → `{other.mutated}`: equivalent. It is never read." in section.note
    assert section.verdicts[0].measured == "66.7 % of 3; 100.0 % of the 2 that are not equivalent"


def test_what_the_harness_names_exists():
    for module, tests in harness.TESTS.items():
        assert harness.path_of(harness.PROJECT, module).exists()
        assert all((harness.PROJECT / harness.file_of(name)).exists() for name in tests)


def test_judgements_are_of_lines_that_are_there():
    for entry in YAML(typ="safe").load(harness.JUDGEMENTS):
        source = " ".join(harness.path_of(harness.PROJECT, entry["module"]).read_text(encoding="utf-8").split())
        assert " ".join(entry["original"].split()) in source
        assert entry["why"]
