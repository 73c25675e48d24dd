"""What results were made of: it changes with what changes them, and with nothing else."""

import ast
import shutil

import pytest

from ddpm_utils.batch import provenance
from ddpm_utils.batch.provenance import canonical, imported_by, imports, made_of
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.restorations import RestorationExperiment


@pytest.mark.parametrize(
    "other",
    [
        "def f(x):\n    return x + 1  # more\n",
        'def f(x):\n    """Add one."""\n    return x + 1\n',
        '"""A module."""\n\n\ndef f(x):\n    return (\n        x\n        + 1\n    )\n',
    ],
)
def test_comments_docstrings_and_layout_do_not_count(other):
    assert canonical(other) == canonical("def f(x):\n    return x + 1\n")


@pytest.mark.parametrize("other", ["def f(x):\n    return x + 2\n", "def f(y):\n    return y + 1\n", "X = 'x'\n"])
def test_code_and_texts_count(other):
    assert canonical(other) != canonical("def f(x):\n    return x + 1\n")


def test_a_function_of_a_docstring_alone_is_still_one():
    assert canonical('def f():\n    """Nothing."""\n') == "def f():\n    pass"


def test_imports_are_found_in_both_forms_and_inside_functions():
    tree = ast.parse(
        "from data import x\nfrom ddpm_utils.plots import curves\n"
        "def f():\n    from ddpm_utils.diffusion.forward import diffuse\n"
    )
    assert imports(tree) == {"ddpm_utils.plots.curves", "ddpm_utils.diffusion.forward"}


def test_what_a_folder_offers_is_found_where_it_is():
    tree = ast.parse("import ddpm_utils as ddpm\nfrom ddpm_utils import plots\nddpm.diffuse\nplots.images\n")
    assert imports(tree) >= {"ddpm_utils.diffusion.forward"}


def test_imports_of_imports_count():
    betas, training = "ddpm_utils.diffusion.betas", "ddpm_utils.training.experiments"
    datasets = "ddpm_utils.data.datasets"
    assert imported_by([datasets]) >= {"ddpm_utils.data.sources", "ddpm_utils.data.image_files", "ddpm_utils.shapes"}
    assert imported_by([betas]) == {betas, "ddpm_utils.scalars"}
    found = {name.removeprefix("ddpm_utils.") for name in imported_by([training])}
    assert found >= {"training.experiments", "training.base", "training.loop", "training.run", "networks.unets"}
    assert "data.datasets" in found
    assert {name.split(".")[0] for name in found}.isdisjoint({"plots", "evaluation", "lab", "batch"})


def test_the_same_is_made_of_the_same():
    one, other = (made_of(Experiment(), "02_training", {"T": 2000}) for _ in range(2))
    assert one == other


RUN = {"calls": 5, "weights": "run"}


def changed(experiment: Experiment, notebook: str, parameters: dict) -> set[str]:
    """What differs from a first one."""
    one, other = made_of(Experiment(), "03_sampling", RUN), made_of(experiment, notebook, parameters)
    return {name for name in one if one[name] != other[name]}


def test_it_tells_what_has_changed():
    assert changed(Experiment(), "03_sampling", RUN | {"calls": 6}) == {"parameters"}
    assert changed(Experiment(), "04_evaluation", RUN) == {"code"}
    assert changed(Experiment(epochs=9), "03_sampling", RUN) == {"training"}
    assert changed(Experiment(learning_rate=0.1), "03_sampling", RUN) == {"training"}
    assert changed(Experiment(), "03_sampling", {}) == {"parameters", "data"}  # the notebook prefers shipped weights
    morph = RestorationExperiment("morph")
    assert made_of(morph, "05_custom_degradation", {})["data"] != made_of(Experiment(), "02_training", {})["data"]


@pytest.fixture
def fresh():
    """Nothing is remembered of modules that a test changes, neither before nor after it."""

    def forget():
        for cached in (provenance._parse, provenance._modules, provenance._notebook, provenance._offers):
            cached.cache_clear()

    yield forget
    forget()


@pytest.mark.parametrize(
    ("module", "parts"),
    [("plots/curves", {"code"}), ("networks/unets", {"code", "training"}), ("batch/sweep", set())],
)
def test_a_changed_module_counts_where_it_is_imported(tmp_path, monkeypatch, fresh, module, parts):
    """A colour costs no training; a network does; what notebook 02 does not import costs nothing."""
    before = made_of(Experiment(), "02_training", {})
    copy = shutil.copytree(provenance.PACKAGE, tmp_path / "ddpm_utils", ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / f"{module}.py").open("a", encoding="utf-8") as file:
        file.write("\nCHANGED = 1\n")
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    fresh()
    after = made_of(Experiment(), "02_training", {})
    assert {name for name in before if before[name] != after[name]} == parts
