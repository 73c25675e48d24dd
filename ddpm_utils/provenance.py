"""What a notebook's results were made of: parameters, code, data. If it is all the same, they stay as they are.

Code is compared as Python understands it: comments, docstrings and layout do not count, nor do modules that are not
imported on the way.
"""

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ddpm_utils.classifier import SHIPPED as CLASSIFIER
from ddpm_utils.data import load
from ddpm_utils.notebooks import without_exercises
from ddpm_utils.partners import load_partners
from ddpm_utils.training_setup import TrainingSetup

PACKAGE = Path(__file__).parent
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def made_of(experiment: TrainingSetup, notebook: str, parameters: dict) -> dict[str, str]:
    """The sha256 of what a notebook's results depend on, by its name.

    "training" is what the trained weights depend on: data, the experiment, the modules that train. A change of, say,
    a figure's colour changes "code" alone, and costs no training. What is recorded in data/checkpoints and only shown
    beside the results does not count.
    """
    images = _images(experiment.dataset, getattr(experiment, "degradation", "") == "morph")
    shipped = experiment.shipped_folder / "weights.safetensors"
    files = [CLASSIFIER] + [shipped] * (parameters.get("weights", "auto") != "run" and shipped.exists())
    trained_by = _modules(frozenset({type(experiment).__module__.removeprefix("ddpm_utils.")}))
    settings = experiment.description | {"epochs": experiment.epochs, "learning_rate": experiment.learning_rate}
    return {
        "parameters": sha256(parameters),
        "code": _notebook(notebook),
        "data": sha256([images, *(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)]),
        "training": sha256([images, trained_by, settings]),
    }


def sha256(value: object) -> str:
    """The hash of what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def imports(tree: ast.AST) -> set[str]:
    """The package's modules that some code imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("ddpm_utils.") for alias in node.names if "ddpm_utils" in alias.name}
        elif isinstance(node, ast.ImportFrom) and node.module == "ddpm_utils":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ddpm_utils."):
            found.add(node.module.removeprefix("ddpm_utils."))
    return {name for name in found if (PACKAGE / f"{name}.py").exists()}


def imported_by(names: Iterable[str]) -> set[str]:
    """Modules, and all of the package that they import, directly or not."""
    found, new = set(), set(names)
    while new:
        found |= new
        new = {other for name in new for other in imports(_parse(name))} - found
    return found


def canonical(code: str) -> str:
    """Code without comments, docstrings and layout."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


@cache
def _parse(name: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))


@cache
def _modules(names: frozenset[str]) -> str:
    files = (PACKAGE / f"{name}.py" for name in sorted(imported_by(names)))
    return sha256({path.stem: canonical(path.read_text(encoding="utf-8")) for path in files})


@cache
def _notebook(name: str) -> str:
    code = "\n".join(cell.source for cell in without_exercises(name).cells if cell.cell_type == "code")
    return sha256([canonical(code), _modules(frozenset(imports(ast.parse(code))))])


@cache
def _images(dataset: str, partners: bool) -> str:
    """The data set that is really there (offline it is another), and what digits morph into."""
    morphed = load_partners()[:2] if partners else ()
    return sha256([load(dataset).sha256, *(hashlib.sha256(part.numpy().tobytes()).hexdigest() for part in morphed)])
