"""The structure of the code: imports point one way and never form a circle; files and functions stay short."""

import ast
from graphlib import TopologicalSorter

import pytest

from ddpm_utils.batch.provenance import PACKAGE, imports
from ddpm_utils.system.places import PROJECT

ORDER = (
    *("__main__", "commands", "batch", "lab", "evaluation", "plots", "training", "networks", "cold", "diffusion"),
    *("checkpoints", "randomness", "data", "system", "names", "scalars", "shapes"),
)
"""Folders and modules of the package: each may import only what stands after it, and of its own folder."""
LEVELS, MODULES = 12, 78  # at most
FILE_LINES, FUNCTION_LINES = 250, 60  # at most

FILES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
IMPORTS = {name: imports(tree) for name, tree in TREES.items()}
MAINTENANCE = sorted((PROJECT / "maintenance").rglob("*.py"))


def place(module: str) -> int:
    """Where a module's folder stands in the order."""
    return ORDER.index(module.split(".")[1])


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down(name):
    upward = {other for other in IMPORTS[name] if place(other) < place(name)}
    assert not upward
    relative = [node for node in ast.walk(TREES[name]) if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative


def test_there_is_no_circle_and_few_levels():
    levels: dict[str, int] = {}
    for name in TopologicalSorter(IMPORTS).static_order():  # raises CycleError
        levels[name] = 1 + max((levels[other] for other in IMPORTS[name]), default=0)
    assert max(levels.values()) <= LEVELS, sorted(levels.items(), key=lambda item: item[1])
    assert len(FILES) <= MODULES


def test_the_package_knows_nothing_of_maintenance():
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(module.startswith("maintenance") for module in modules), name


@pytest.mark.parametrize("path", [*FILES.values(), *MAINTENANCE], ids=lambda path: str(path.relative_to(PROJECT)))
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= FILE_LINES
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert {f.name: n for f in functions if (n := f.end_lineno - f.lineno + 1) > FUNCTION_LINES} == {}
