"""Of a notebook, the code cells that some of its cells need: those that assign the names which they read."""

import dis
from collections.abc import Callable
from types import CodeType

from nbformat import NotebookNode


def loaded(code: CodeType) -> set[str]:
    """Return the global names that a cell, or a function in it, reads."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_NAME", "LOAD_GLOBAL")}
    return names.union(*(loaded(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def stored(code: CodeType) -> set[str]:
    """Return the global names that a cell assigns, defines or imports."""
    return {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_NAME"}


def cells_for(cells: list[NotebookNode], wanted: Callable[[int], bool]) -> list[NotebookNode]:
    """Return the code cells that are wanted, by their index, and of the others those whose names they need."""
    kept, missing = [], set()
    for i in reversed(range(len(cells))):
        if cells[i].cell_type == "code":
            code = compile(cells[i].source, f"cell {i}", "exec")
            if wanted(i) or stored(code) & missing:
                kept.insert(0, cells[i])
                missing = (missing - stored(code)) | (loaded(code) - stored(code))
    return kept


def without_own_degradation(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Return the cells of notebook 05, but for those that make, train and show a degradation of one's own."""
    own = '"dropout": (own.process, own_R, 0.0)'
    assert sum(own in cell.source for cell in cells) == 1
    kept = [cell for cell in cells if not ('DEGRADATIONS["dropout"]' in cell.source or "Dropout(" in cell.source)]
    return [NotebookNode(cell, source=cell.source.replace(own, "")) for cell in kept]
