"""The files that set up the environment agree with each other."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def requirements(project) -> dict[str, Requirement]:
    listed = [
        *project["dependencies"],
        *(text for extra in project["optional-dependencies"].values() for text in extra),
    ]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, listed)}


@pytest.fixture(scope="module")
def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def test_environment_installs_the_project(environment):
    assert environment.keys() >= {"name", "channels", "dependencies"}
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert "-e .[dev]" in pip
    assert "pip" in environment["dependencies"]


def name_of(entry: str) -> str:
    """The package of a line such as python=3.11, "pip" or torch>=2.5."""
    return canonicalize_name(re.match(r"[\w.-]+", entry).group())


def test_environment_pins_nothing_twice(environment, requirements):
    *conda, pip = sorted(environment["dependencies"], key=lambda entry: isinstance(entry, dict))
    packages = [*conda, *(entry for entry in pip["pip"] if not entry.startswith("-"))]
    assert {name_of(entry) for entry in packages}.isdisjoint(requirements)


def test_python_version_agrees(environment, project):
    python = next(e for e in environment["dependencies"] if isinstance(e, str) and name_of(e) == "python")
    assert re.search(r"\d+\.\d+", python).group() in SpecifierSet(project["requires-python"])


def test_workflows_call_targets_that_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for path in (ROOT / ".github" / "workflows").iterdir():
        jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
        called = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
        assert called
        for target in (command.removeprefix("make ") for command in called):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{path.name} calls {target}"


def test_every_dependency_has_a_tested_version(requirements):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    tested = {canonicalize_name(constraint.name): constraint for constraint in constraints}
    for name, requirement in requirements.items():
        assert name in tested, f"{name} is missing in constraints.txt"
        (pin,) = tested[name].specifier
        assert pin.operator == "==", f"{name} is not pinned"
        assert pin.version in requirement.specifier, f"{tested[name]} does not satisfy {requirement}"
