"""Imports point one way and never form a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ddpm_utils
from ddpm_utils.provenance import imports

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
    "sealed": {"checkpoints"},
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
    "student": {"checkpoints", "notebooks"},
    "notebooks": {"checkpoints", "data", "sealed"},
    "provenance": {"classifier", "data", "notebooks", "partners", "training_setup"},
    "parameters": {"cold", "comparison", "data", "sampling", "schedules", "training_setup"},
    "grid": {"experiment", "notebooks", "parameters", "restoration_experiment", "training_setup"},
    "jobs": {"checkpoints", "grid", "notebooks", "provenance", "sealed"},
    "engines": {"jobs"},
    "progress": {"engines", "jobs"},
    "quality_map": {"ledger", "plots"},
    "sweep": {
        *("checkpoints", "data", "engines", "experiment", "grid", "jobs", "parameters", "plots", "provenance"),
        *("quality_map", "restoration_experiment", "sealed", "table", "training_setup"),
    },
    "site": {"checkpoints", "experiment", "sealed", "table"},
    "forward": {"schedules"},
    "degradations": {"networks"},
    "latent_model": set(),
    "exact": {"forward", "schedules"},
    "likelihood": {"exact", "forward", "sampling", "schedules"},
    "analysis": {"forward", "objectives", "sampling", "schedules", "training"},
    "ledger": {"data", "sealed"},
    "table": {"experiment", "metrics", "sealed", "training_setup"},
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
        *("metrics", "sampling", "schedules", "sealed", "solvers"),
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
    "shipping": {"checkpoints", "classifier", "data", "ledger", "runs", "sealed", "training_setup"},
    "walks": {"cold", "degradations", "sampling", "training"},
    "restoration_evaluation": {
        *("classifier", "data", "degradations", "ledger", "metrics", "mixtures"),
        *("restoration_experiment", "sampling", "starts", "training", "walks"),
    },
    "restoration_recording": {
        *("checkpoints", "classifier", "data", "restoration_evaluation"),
        *("restoration_experiment", "sealed", "shipping"),
    },
    "decoder_comparison": {
        *("checkpoints", "data", "evaluation", "experiment", "ledger", "restoration_evaluation"),
        *("runs", "sampling", "sealed", "shipping", "training", "training_setup"),
    },
    "restoration_tables": {"decoder_comparison", "restoration_experiment", "restoration_recording", "table"},
}


def imports_of(name: str) -> set[str]:
    """The package's modules that a module imports, anywhere in it."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    assert all(node.level == 0 for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)), "relative import"
    return imports(tree)


@pytest.mark.parametrize("name", ALLOWED)
def test_a_module_imports_only_what_it_may(name):
    assert imports_of(name) <= ALLOWED[name]


def test_there_is_no_circle():
    TopologicalSorter({name: imports_of(name) for name in MODULES}).prepare()  # raises CycleError
