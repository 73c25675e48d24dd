"""`make mutants`: would the tests notice if the science were wrong? Small faults, one at a time, in a copy."""

import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pandas as pd
from ruamel.yaml import YAML

from ddpm_utils.system.files import Ledger
from ddpm_utils.system.places import PROJECT
from maintenance.reliability.mutations import Mutant, mutants, sample
from maintenance.reliability.trial import LIBRARIES, copy, run_tests
from maintenance.report import Section, Verdict

TESTS = {
    "diffusion/schedules": ("diffusion/schedules", "diffusion/betas", "diffusion/forward", "diffusion/solvers"),
    "diffusion/forward": ("diffusion/forward", "diffusion/samplers", "data/checks"),
    "diffusion/samplers": ("diffusion/samplers", "diffusion/solvers", "cold/samplers", "data/checks"),
    "diffusion/solvers": ("diffusion/solvers", "diffusion/samplers"),
    "cold/samplers": ("cold/samplers",),
    "cold/degradations": ("cold/degradations", "cold/samplers"),
    "diffusion/exact": ("diffusion/exact", "diffusion/image_mixture", "diffusion/likelihood", "data/checks"),
    "evaluation/metrics": ("evaluation/metrics", "evaluation/inception", "data/checks"),
    "evaluation/statistics": ("evaluation/statistics",),
    "networks/parameterisation": ("networks/parameterisation",),
    "checkpoints": ("checkpoints",),
    "training/objectives": ("training/loop", "data/checks"),
    "diffusion/one_dimension": ("diffusion/scalar_chain", "diffusion/latent_model"),
    "cold/starts": ("cold/starts", "data/checks"),
    "diffusion/likelihood": ("diffusion/likelihood",),
}
"""The modules, and the tests that concern them, the slow ones last: tests/<folder>/test_<name>.py."""
COUNT, FLOOR, SEED = 440, 15, 0
AT_ONCE = 2
TIMEOUT = (20, 3)  # seconds of processor time, and so many times what the tests take without a fault
JUDGEMENTS = PROJECT / "maintenance" / "reliability" / "survivors.yaml"
RUNS = PROJECT / "data" / "runs" / "mutants"


def report() -> Section:
    """Return the sample's outcomes, read from an earlier run with the same sources and tests, or measured now."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    possible = {module: mutants(module, path_of(PROJECT, module).read_text(encoding="utf-8")) for module in TESTS}
    chosen = sample(possible, COUNT, FLOOR, SEED)
    outcomes = find_outcomes(chosen, TESTS, PROJECT, RUNS)
    return as_section(possible, outcomes, judgements())


def find_outcomes(
    chosen: Mapping[str, Sequence[Mutant]],
    tests: Mapping[str, Sequence[str]],
    project: Path,
    runs: Path,
    libraries: Sequence[str] = LIBRARIES,
) -> dict[Mutant, str]:
    """How the tests of each module end with each of its mutants: "passed", "failed" or "timeout".

    Args:
        runs: the folder of what is known already, a file for each state of a module and its tests, and of the copies.

    Raises:
        RuntimeError: if the tests fail without a fault.
    """
    ledgers = {module: Ledger(runs / f"{module}-{digest(project, module, tests[module])}.json") for module in chosen}
    missing = [mutant for module, its in chosen.items() for mutant in its if mutant.name not in ledgers[module].results]
    for done, (mutant, outcome) in enumerate(try_all(missing, tests, project, runs, libraries), 1):
        ledgers[mutant.module](mutant.name, lambda outcome=outcome: outcome)
        if outcome == "passed" or done % 20 == 0:
            print(f"{done} of {len(missing)}: {outcome}: {mutant.name}", flush=True)
    return {mutant: ledgers[module].results[mutant.name] for module, its in chosen.items() for mutant in its}


def digest(project: Path, module: str, tests: Sequence[str]) -> str:
    """Of a module's source, its tests and what these share."""
    files = [path_of(project, module), project / "tests" / "conftest.py", *(project / file_of(name) for name in tests)]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:12]


def try_all(
    missing: Sequence[Mutant], tests: Mapping[str, Sequence[str]], project: Path, runs: Path, libraries: Sequence[str]
) -> Iterator[tuple[Mutant, str]]:
    """Mutants and outcomes as they are found, two at a time, each in a copy of the project."""
    trees: SimpleQueue[Path] = SimpleQueue()
    for i in range(AT_ONCE):
        trees.put(copy(project, runs / "copies" / str(i)))

    def in_a_tree(module: str, source: str | None, seconds: float) -> str:
        tree = trees.get()
        try:
            with fault(tree, module, source):
                return run_tests(tree, [file_of(name) for name in tests[module]], seconds, libraries)
        finally:
            trees.put(tree)

    def timeout_of(module: str) -> float:
        """From how long the tests take without a fault."""
        started = time.monotonic()
        if in_a_tree(module, None, 600) != "passed":
            raise RuntimeError(f"the tests of {module} fail without a fault.")
        return TIMEOUT[0] + TIMEOUT[1] * (time.monotonic() - started)

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        modules = dict.fromkeys(mutant.module for mutant in missing)
        timeouts = dict(zip(modules, pool.map(timeout_of, modules), strict=True))
        futures = {
            pool.submit(in_a_tree, mutant.module, mutant.source, timeouts[mutant.module]): mutant for mutant in missing
        }
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(runs / "copies")


@contextmanager
def fault(tree: Path, module: str, source: str | None) -> Iterator[None]:
    """A module has another source meanwhile; None leaves it as it is."""
    path = path_of(tree, module)
    original = path.read_bytes()
    try:
        if source is not None:
            path.write_text(source, encoding="utf-8")
        yield
    finally:
        path.write_bytes(original)


def path_of(project: Path, module: str) -> Path:
    """A module's file."""
    return project / "ddpm_utils" / f"{module}.py"


def file_of(tests: str) -> str:
    """A file of tests, as seen from the project: "cold/starts" → tests/cold/test_starts.py."""
    folder, _, name = tests.rpartition("/")
    return "/".join(part for part in ("tests", folder, f"test_{name}.py") if part)


def judgements() -> dict[tuple[str, str, str], dict]:
    """What was found out about survivors, by module and lines."""
    entries = YAML(typ="safe").load(JUDGEMENTS) or []
    return {(entry["module"], entry["original"], entry["mutated"]): entry for entry in entries}


def as_section(
    possible: Mapping[str, Sequence[Mutant]],
    outcomes: Mapping[Mutant, str],
    judged: Mapping[tuple[str, str, str], dict],
) -> Section:
    """A table by module, every survivor with its judgement, and the share that was killed."""
    survivors = [mutant for mutant, outcome in outcomes.items() if outcome == "passed"]
    known = {mutant: judged.get((mutant.module, mutant.original, mutant.mutated), {}) for mutant in survivors}

    def row(name: str, count: int, its: Sequence[Mutant]) -> dict:
        ends = Counter(outcomes[mutant] for mutant in its)
        equivalent = sum(bool(known.get(mutant, {}).get("equivalent")) for mutant in its)
        killed = len(its) - ends["passed"]
        return {
            "module": name,
            "possible": count,
            "sampled": len(its),
            "killed": killed,
            "by timeout": ends["timeout"],
            "survived": ends["passed"],
            "equivalent": equivalent,
            "killed share": f"{100 * killed / len(its):.1f} %",
        }

    modules = [
        row(module, len(all_of_it), [mutant for mutant in outcomes if mutant.module == module])
        for module, all_of_it in possible.items()
    ]
    total = row("all", sum(map(len, possible.values())), list(outcomes))
    shown = [survivor_text(mutant, known[mutant]) for mutant in survivors]
    others = total["sampled"] - total["equivalent"]
    measured = f"{total['killed share']} of {total['sampled']}"
    if total["equivalent"]:
        measured += f"; {100 * total['killed'] / others:.1f} % of the {others} that are not equivalent"
    return Section(
        "Small faults in the science",
        pd.DataFrame([*modules, total]),
        "\n\n".join([NOTE, kinds_text(outcomes), "**Survivors**", "\n".join(shown) if shown else "None."]),
        (Verdict("small faults in the science that the tests notice", "≥ 90 % of ≥ 400", measured),),
    )


NOTE = f"""A sample (seed {SEED}) of the faults that the operators of [mutmut](https://mutmut.readthedocs.io) 3 make:
modules in proportion to their number, at least {FLOOR} each; within a module the kinds of faults take turns. Each is
put into a copy of the project, and the tests that concern the module (`TESTS` in `mutants.py`) run until one fails; all
are part of `make test`, and the full MNIST is not used. A timeout counts as killed. Not mutated: annotations and type
aliases, docstrings, decorators, `raise` statements, and the arguments of `len` and `isinstance`. What does not compile,
or is the same code, is no fault. Equivalent faults cannot change what the code does, or what it draws in distribution;
they count as survivors in the share."""


def kinds_text(outcomes: Mapping[Mutant, str]) -> str:
    """How many of each kind were killed."""
    sampled = Counter(mutant.kind for mutant in outcomes)
    killed = Counter(mutant.kind for mutant, outcome in outcomes.items() if outcome != "passed")
    return "Killed, by kind: " + "; ".join(f"{kind} {killed[kind]}/{n}" for kind, n in sampled.most_common()) + "."


def survivor_text(mutant: Mutant, judgement: Mapping) -> str:
    """A line of the list of survivors."""
    verdict = "equivalent" if judgement.get("equivalent") else "not noticed"
    change = f"`{mutant.original}` → `{mutant.mutated or '(nothing)'}`"
    return f"- {mutant.module}:{mutant.line} {change}: {verdict}. {judgement.get('why', 'Not judged yet.')}"
