"""The files that set up the environment agree with each other."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import ddpm_utils
from maintenance.notebooks import shown_in_readme

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


def test_there_is_one_name(environment, project):
    """Of the project, the package and the environment; nothing advises to install from PyPI, where it is not."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["name"] == environment["name"] == citation["title"].partition(":")[0] == "ddpm-utils"
    assert citation["version"] == ddpm_utils.__version__
    assert list(project["scripts"]) == ["ddpm"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]
    for path in [*ROOT.glob("*.*"), *ROOT.glob("ddpm_utils/**/*.py"), *ROOT.glob("*/*.md")]:
        if path.suffix in (".md", ".py", ".yml", ".toml"):
            assert not re.search(r"pip install .?ddpm-utils|ddpm-lab", path.read_text(encoding="utf-8")), path


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


@pytest.fixture(scope="module")
def workflows() -> dict[str, dict]:
    folder = ROOT / ".github" / "workflows"
    return {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(folder.iterdir())}


def commands(workflow: dict) -> list[str]:
    """All lines that a workflow's steps run."""
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    return [line for step in steps for line in step.get("run", "").splitlines()]


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile, without the environment's folder."""
    found = re.search(rf"^{target}:.*\n((\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"the Makefile has no target {target}"
    return [line.strip().removeprefix("OMP_NUM_THREADS=1 ").removeprefix("$(BIN)/") for line in found[1].splitlines()]


def test_workflows_call_targets_that_exist(workflows):
    for name, workflow in workflows.items():
        called = [command.split()[1] for command in commands(workflow) if command.startswith("make ")]
        assert called, name
        assert all(recipe(target) for target in called)


def test_without_make_the_same_is_tested(workflows):
    """Windows has no make: its step runs what `make test` runs, but for the tests of what needs POSIX."""
    lines = commands(workflows["test.yml"])
    for command in [command for target in ("lint", "types", "test") for command in recipe(target)]:
        assert any(line.removesuffix(" --ignore tests/maintenance") == command for line in lines), command


def test_workflows_may_only_read_and_keep_downloads(workflows, project):
    for workflow in workflows.values():
        assert workflow["permissions"] == {"contents": "read"}
        setups = [s for job in workflow["jobs"].values() for s in job["steps"] if "setup-python" in s.get("uses", "")]
        assert [setup["with"]["cache"] for setup in setups] == ["pip"] * len(setups)
    matrix = workflows["test.yml"]["jobs"]["test"]["strategy"]["matrix"]
    classified = [name.rsplit(" ", 1)[1] for name in project["classifiers"] if " 3." in name]
    assert matrix["python"] == classified
    assert all(version in SpecifierSet(project["requires-python"]) for version in matrix["python"])


def test_the_makefile_finds_a_python(tmp_path):
    """Any Python from 3.11 on will do, under any of its names; without one, a sentence says so."""
    for name, script in {"python3.12": "exit 1", "python3": f'exec "{sys.executable}" "$@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")  # the first as pyenv's shim of what is not installed
        (tmp_path / name).chmod(0o755)
    for tool in ("make", "sh"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text(encoding="utf-8"), encoding="utf-8")

    def make(*arguments: str) -> subprocess.CompletedProcess:
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS")}
        command = [str(tmp_path / "make"), *arguments]
        path = {"PATH": str(tmp_path)}
        return subprocess.run(command, cwd=tmp_path, env=environment | path, capture_output=True, encoding="utf-8")

    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    assert "\npython3 -m venv .venv\n" in f"\n{make('--dry-run', 'lint').stdout}"
    (tmp_path / "python3").unlink()
    refused = make("lint")
    assert refused.returncode == 2
    assert "No Python 3.11 or newer with venv was found" in refused.stderr
    assert not (tmp_path / ".venv").exists()


def test_every_dependency_has_a_tested_version(requirements):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    tested = {canonicalize_name(constraint.name): constraint for constraint in constraints}
    for name, requirement in requirements.items():
        assert name in tested, f"{name} is missing in constraints.txt"
        (pin,) = tested[name].specifier
        assert pin.operator == "==", f"{name} is not pinned"
        assert pin.version in requirement.specifier, f"{tested[name]} does not satisfy {requirement}"


def test_the_gallery_is_what_the_readme_shows():
    assert {path for path in (ROOT / "figures").rglob("*") if path.is_file()} == shown_in_readme()
