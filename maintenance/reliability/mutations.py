"""Small faults in source code, by mutmut's operators, and a sample of them."""

import ast
import difflib
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, zip_longest
from typing import NamedTuple

import libcst as cst
from libcst.metadata import MetadataWrapper, WhitespaceInclusivePositionProvider
from mutmut.mutation.mutators import mutation_operators

NEVER = (cst.Annotation, cst.Decorator, cst.Raise)  # with all that is in them; docstrings are left alone as well
CHECKS = ("isinstance", "len")  # calls that mutmut leaves alone


class Mutant(NamedTuple):
    """A module with one fault."""

    module: str
    kind: str
    line: int  # of the first line that differs
    original: str  # the lines that differ
    mutated: str
    source: str  # the whole module

    @property
    def name(self) -> str:
        """Where it is and what it changes."""
        return f"{self.module}:{self.line}  {self.original} → {self.mutated or '(nothing)'}"


def mutants(module: str, source: str) -> list[Mutant]:
    """Every fault that mutmut's operators make in a module, each once, if it compiles to something else."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    finder = _Finder(wrapper.module)
    wrapper.visit(finder)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found, seen = [], {ast.dump(ast.parse(source))}
    for kind, node, changed in finder.found:
        where = wrapper.resolve(WhitespaceInclusivePositionProvider)[node]
        first, last = (starts[end.line - 1] + end.column for end in (where.start, where.end))
        mutated = source[:first] + wrapper.module.code_for_node(changed) + source[last:]
        try:
            tree = ast.dump(ast.parse(mutated))
        except SyntaxError:
            continue
        if tree not in seen:
            seen.add(tree)
            found.append(Mutant(module, kind, *difference(source, mutated), mutated))
    return found


def difference(before: str, after: str) -> tuple[int, str, str]:
    """The number of the first line that differs, and the lines that do."""
    old, new = before.splitlines(), after.splitlines()
    blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    _, first, last, new_first, new_last = next(block for block in blocks if block[0] != "equal")
    return first + 1, _one_line(old[first:last]), _one_line(new[new_first:new_last])


def sample(possible: Mapping[str, Sequence[Mutant]], count: int, floor: int, seed: int) -> dict[str, list[Mutant]]:
    """At least `count` mutants if there are so many: of each module in proportion, and of its kinds in turn.

    Args:
        floor: the fewest of a module, if it has so many.
        seed: of the draw. Another module's mutants do not change which of this one's are drawn.
    """
    total = sum(map(len, possible.values()))
    chosen = {}
    for module, its in possible.items():
        shuffled = random.Random(f"{seed} {module}").sample(its, len(its))
        shuffled.sort(key=lambda mutant: mutant.kind)  # stable: at random within a kind
        turns = zip_longest(*(list(kind) for _, kind in groupby(shuffled, key=lambda mutant: mutant.kind)))
        in_turn = [mutant for turn in turns for mutant in turn if mutant is not None]
        chosen[module] = in_turn[: max(floor, math.ceil(count * len(its) / total))]
    return chosen


class _Finder(cst.CSTVisitor):
    """Collects what the operators make of each node: (kind, node, changed node)."""

    METADATA_DEPENDENCIES = (WhitespaceInclusivePositionProvider,)

    def __init__(self, module: cst.Module):
        super().__init__()
        self.found: list[tuple[str, cst.CSTNode, cst.CSTNode]] = []
        self.aliases = {statement for statement in module.body if _is_type_alias(statement)}

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, NEVER) or node in self.aliases or _is_docstring(node) or _is_check(node):
            return False
        for kind, changed in _changes(node):
            self.found.append((kind, node, changed))
        return True


def _changes(node: cst.CSTNode) -> Iterator[tuple[str, cst.CSTNode]]:
    for of_type, operator in mutation_operators:
        if isinstance(node, of_type):
            yield from ((_kind(operator.__name__, node, changed), changed) for changed in operator(node))


def _kind(operator: str, node: cst.CSTNode, changed: cst.CSTNode) -> str:
    """What an operator changes; two of mutmut's do more than one thing."""
    match operator, node:
        case "operator_assignment", _:
            return "None"
        case "operator_arg_removal", cst.Call(args=args):
            return "None" if len(changed.args) == len(args) else "argument removed"
        case "operator_swap_op", cst.ComparisonTarget():
            return "comparison"
        case "operator_swap_op", cst.BooleanOperation():
            return "and, or"
        case "operator_swap_op", _:
            return "arithmetic"
    return operator.removeprefix("operator_").replace("_", " ")


def _is_type_alias(statement: cst.CSTNode) -> bool:
    """An assignment at the top of a module to a name in CapWords."""
    match statement:
        case cst.SimpleStatementLine(body=[cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))])]):
            return name[0].isupper() and not name.isupper()
    return False


def _is_docstring(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Expr) and isinstance(node.value, cst.BaseString)


def _is_check(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value in CHECKS


def _one_line(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)
