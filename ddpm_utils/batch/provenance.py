"""What a notebook's results were made of: parameters, code, data. If it is all the same, they stay as they are.

Code is compared as Python understands it: comments, docstrings and layout do not count, nor do modules that are not
imported on the way.
"""

import ast
import hashlib
import json
import sysconfig
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path

from ddpm_utils.batch.notebooks import without_exercises
from ddpm_utils.cold.mixtures import load_partners
from ddpm_utils.data.datasets import load
from ddpm_utils.evaluation.classifier import SHIPPED as CLASSIFIER
from ddpm_utils.training.base import TrainingSetup
from ddpm_utils.training.parameters import NETWORKS
from ddpm_utils.training.weights import WEIGHTS

PACKAGE = Path(__file__).resolve().parents[1]
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def made_of(experiment: TrainingSetup, notebook: str, parameters: dict) -> dict[str, str]:
    """The sha256 of what a notebook's results depend on, by its name.

    "training" is what the trained weights depend on: data, the experiment, the modules that train, and those of a
    network of the user's own. A change of, say, a figure's colour changes "code" alone, and costs no training. What is
    recorded in data/checkpoints and only shown beside the results does not count.
    """
    images = _images(experiment.dataset, getattr(experiment, "degradation", "") == "morph")
    shipped = experiment.shipped_folder / "weights.safetensors"
    weights = parameters.get("weights", "auto")
    files = [CLASSIFIER] + [shipped] * (weights in ("auto", "shipped") and shipped.exists())
    files += [] if weights in WEIGHTS else [Path(weights)]
    own = {} if experiment.network in NETWORKS else own_modules(experiment.network.partition(":")[0])
    used = {name for code in own.values() for name in imports(ast.parse(code))}
    trained_by = [_modules(frozenset({type(experiment).__module__, *used})), own]
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
    """The package's modules that some code imports, anywhere in it, such as "ddpm_utils.data".

    Of a folder, or of the package itself, it is the modules whose names are used: `ddpm.sample` and `from
    ddpm_utils import data` name one each (see the folders' `__init__.pyi`).
    """
    found: set[str] = set()
    folders: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            folders |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.name for alias in node.names}
            found |= {node.module, *(f"{node.module}.{name}" for name in names), *_offered(node.module, names)}
            folders |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in folders:
            found |= _offered(folders[node.value.id], {node.attr})
    return {name for name in found if name.split(".")[0] == PACKAGE.name and path_of(name).exists()}


def _offered(folder: str, names: set[str]) -> set[str]:
    """The modules in which a folder of the package finds names that it offers."""
    modules = _offers(folder)
    return {modules[name] for name in names if name in modules}


@cache
def _offers(folder: str) -> dict[str, str]:
    """Name → module, as the folder's stub says."""
    stub = path_of(folder).with_suffix("") / "__init__.pyi"
    if folder.split(".")[0] != PACKAGE.name or not stub.exists():
        return {}
    nodes = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"{folder}.{n.module or alias.name}" for n in nodes for alias in n.names}


def own_modules(name: str) -> dict[str, str]:
    """The code, in canonical form, of a module of the user's own and of those that it imports from beside it, by name.

    Of an installed module, only what belongs to the same package counts.
    """
    path = Path(str(import_module(name).__file__))
    root = path.parents[name.count(".") + (path.stem == "__init__")]
    installed = str(root) in sysconfig.get_paths().values()
    found: dict[str, str] = {}
    new = {name}
    while new:
        module = new.pop()
        package, file = root.joinpath(*module.split("."), "__init__.py"), root.joinpath(*module.split("."))
        path = package if package.exists() else file.with_suffix(".py")
        top = module.split(".")[0]
        if module in found or top == PACKAGE.name or not path.exists() or (installed and top != name.split(".")[0]):
            continue
        found[module] = canonical(path.read_text(encoding="utf-8"))
        inside = module if path == package else module.rpartition(".")[0]
        for node in ast.walk(ast.parse(found[module])):
            if isinstance(node, ast.Import):
                new |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = resolve_name("." * node.level + (node.module or ""), inside)
                new |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def path_of(module: str) -> Path:
    """A module's file: "ddpm_utils.evaluation.metrics" → …/ddpm_utils/evaluation/metrics.py."""
    return PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")


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
    return ast.parse(path_of(name).read_text(encoding="utf-8"))


@cache
def _modules(names: frozenset[str]) -> str:
    paths = {name: path_of(name) for name in sorted(imported_by(names))}
    return sha256({name: canonical(path.read_text(encoding="utf-8")) for name, path in paths.items()})


@cache
def _notebook(name: str) -> str:
    code = "\n".join(cell.source for cell in without_exercises(name).cells if cell.cell_type == "code")
    return sha256([canonical(code), _modules(frozenset(imports(ast.parse(code))))])


@cache
def _images(dataset: str, partners: bool) -> str:
    """The data set that is really there (offline it is another), and what digits morph into."""
    morphed = load_partners()[:2] if partners else ()
    return sha256([load(dataset).sha256, *(hashlib.sha256(part.numpy().tobytes()).hexdigest() for part in morphed)])
