"""Imports point one way and never form a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ddpm_utils

PACKAGE = Path(ddpm_utils.__file__).parent
MODULES = {path.stem: path for path in PACKAGE.glob("*.py")}

ALLOWED: dict[str, set[str]] = {
    "schedules": set(),
    "data": set(),
    "networks": set(),
    "unets": {"networks"},
    "spectral": set(),
    "allocator": set(),
    "checkpoints": set(),
    "metrics": set(),
    "plots": {"checkpoints"},
    "curves": {"plots"},
    "live": {"metrics"},
    "widgets": {"live"},
    "live_densities": {"forward", "latent_model", "live", "plots", "scalar_chain", "schedules"},
    "live_images": {"latent_model", "live", "plots", "precomputed"},
    "live_training": {
        *("comparison", "data", "evaluation", "experiment", "live"),
        *("plots", "sampling", "training"),
    },
    "precomputed": {
        *("cold", "comparison", "degradations", "evaluation", "experiment", "forward", "metrics"),
        *("sampling", "schedules", "training_setup", "walks"),
    },
    "panels": {"cold", "live_densities", "live_images", "live_training", "precomputed", "widgets"},
    "student": {"checkpoints", "sweep"},
    "site": {"checkpoints", "experiment", "table"},
    "forward": {"schedules"},
    "degradations": {"networks"},
    "latent_model": set(),
    "exact": {"forward", "schedules"},
    "likelihood": {"exact", "forward", "sampling", "schedules"},
    "analysis": {"forward", "objectives", "sampling", "schedules", "training"},
    "ledger": {"checkpoints", "data"},
    "table": {"checkpoints", "experiment", "metrics"},
    "explanation_plots": {"ledger", "plots"},
    "mixtures": {"degradations", "networks", "schedules"},
    "partners": {"data"},
    "objectives": {"degradations", "forward", "schedules"},
    "runs": {"checkpoints"},
    "training": {"objectives", "runs"},
    "density_plots": {"forward", "latent_model", "plots", "schedules"},
    "sampling": {"forward", "schedules"},
    "solvers": {"sampling", "schedules"},
    "classifier": {"checkpoints", "data", "networks", "training"},
    "comparison": {
        *("checkpoints", "classifier", "data", "experiment"),
        *("metrics", "sampling", "schedules", "solvers"),
    },
    "training_setup": {
        *("allocator", "checkpoints", "data", "networks", "objectives"),
        *("runs", "spectral", "training", "unets"),
    },
    "experiment": {"objectives", "schedules", "training_setup"},
    "restoration_experiment": {"checkpoints", "degradations", "mixtures", "objectives", "partners", "training_setup"},
    "cold": {"degradations", "sampling"},
    "starts": {"degradations"},
    "properties": {"data", "degradations", "networks"},
    "cold_errors": {"degradations", "properties", "sampling"},
    "scalar_chain": {"latent_model", "schedules"},
    "cold_plots": {"metrics", "plots"},
    "shipping": {"checkpoints", "classifier", "data", "ledger", "training_setup"},
    "walks": {"cold", "degradations", "sampling", "training"},
    "restoration_evaluation": {
        *("classifier", "data", "degradations", "ledger", "metrics", "mixtures"),
        *("restoration_experiment", "sampling", "starts", "training", "walks"),
    },
    "restoration_recording": {
        *("checkpoints", "classifier", "data", "restoration_evaluation"),
        *("restoration_experiment", "shipping"),
    },
    "decoder_comparison": {
        *("checkpoints", "data", "evaluation", "experiment", "ledger", "restoration_evaluation"),
        *("sampling", "shipping", "training", "training_setup"),
    },
    "restoration_tables": {"decoder_comparison", "restoration_experiment", "restoration_recording", "table"},
}


def imports(name: str) -> set[str]:
    """The package's modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("ddpm_utils.") for alias in node.names if "ddpm_utils" in alias.name}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            if node.module == "ddpm_utils":
                found |= {alias.name for alias in node.names}
            elif node.module.startswith("ddpm_utils."):
                found.add(node.module.removeprefix("ddpm_utils."))
    return found & MODULES.keys()


def test_reads_both_kinds_of_import():
    assert {"forward", "schedules"} <= imports("sampling")  # from ddpm_utils.forward import …
    assert "checkpoints" in imports("classifier")  # from ddpm_utils import …


@pytest.mark.parametrize("name", ALLOWED)
def test_a_module_imports_only_what_it_may(name):
    assert imports(name) <= ALLOWED[name]


def test_there_is_no_circle():
    TopologicalSorter({name: imports(name) for name in MODULES}).prepare()  # raises CycleError
