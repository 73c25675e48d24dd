"""Bad parameters: drawn at random until one is neither refused nor usable, and notebooks run at the edges."""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from ddpm_utils.batch.engines import cores
from ddpm_utils.batch.jobs import Job, execute
from ddpm_utils.system.places import PROJECT
from maintenance.report import Section, Verdict

EXAMPLES = 2000
SMALL = {"network": "lean_unet", "epochs": 1, "batch_size": 1600}
ROUGH = SMALL | {"beta": 0.1, "T": 20}
LITTLE = SMALL | {"calls": 1, "weights": "run"}
TINY = {"T": 1, "shown": 1, "calls": 1, "severity": 1e-6}
EDGES: list[tuple[str, str, dict]] = [
    ("T = 1, one digit, one call, severity 1e-6", "05_custom_degradation", TINY),  # these two take longest
    ("batch of 1", "02_training", ROUGH | {"batch_size": 1}),
    ("T = 1, one digit", "01_forward_process", {"T": 1, "shown": 1}),
    ("β = 1e-9", "01_forward_process", {"beta": 1e-9, "T": 2}),
    ("β = 1 − 1e-9", "01_forward_process", {"beta": 1 - 1e-9, "T": 6}),
    ("T = 1", "02_training", SMALL | {"T": 1}),
    ("batch of all, a learning rate near 1", "02_training", ROUGH | {"batch_size": 3200, "learning_rate": 0.99}),
    ("β = 1 − 1e-9", "02_training", SMALL | {"beta": 1 - 1e-9, "T": 6}),
    ("T = 1, one sample, one call", "03_sampling", LITTLE | {"T": 1, "shown": 1}),
    ("β = 1e-9", "03_sampling", LITTLE | {"beta": 1e-9, "T": 2, "shown": 4}),
    ("β = 1 − 1e-9", "03_sampling", LITTLE | {"beta": 1 - 1e-9, "T": 6, "calls": 6, "shown": 4}),
    ("a harsh chain in one call", "03_sampling", LITTLE | {"beta": 0.1, "T": 1300}),
    ("T = 1, 20 samples, one image", "04_evaluation", LITTLE | {"T": 1, "samples": 20, "images": 1}),
    ("β = 1e-9", "04_evaluation", LITTLE | {"beta": 1e-9, "T": 2, "samples": 20, "images": 2}),
    ("a harsh chain", "04_evaluation", LITTLE | {"beta": 0.1, "T": 1300, "calls": 11, "samples": 20}),
]
"""What is at the edge, in which notebook, with which parameters."""
SENTENCE = re.compile(r"cell \[\d+\]: (ValueError|FloatingPointError): [^\n]+[.?]")


def drawn_at_random(examples: int = EXAMPLES) -> tuple[bool, str]:
    """Whether tests/batch/test_parameters.py passes on examples that were never drawn before, and what it says."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/batch/test_parameters.py"]
    environment = os.environ | {"DDPM_EXAMPLES": str(examples)}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, encoding="utf-8")
    found = [line for line in done.stdout.splitlines() if line.startswith(("E ", "FAILED"))]
    return done.returncode == 0, " ".join(found) or done.stdout.strip().splitlines()[-1]


def at_the_edge(what: str, notebook: str, parameters: dict) -> dict:
    """A row of the table: a notebook executed at the edge of what its parameters may be."""
    with tempfile.TemporaryDirectory() as folder:
        event = execute(Job(notebook, parameters, Path(folder), Path(folder)), threads=1)
    refused = event.state == "failed" and bool(SENTENCE.fullmatch(event.message))
    outcome = "runs" if event.state == "done" else "refused" if refused else "FAILED"
    return {"notebook": notebook, "edge": what, "outcome": outcome, "sentence": event.message.strip()}


def report() -> Section:
    """See the module."""
    right, said = drawn_at_random()
    with ThreadPoolExecutor(cores()) as pool:
        rows = list(pool.map(lambda edge: at_the_edge(*edge), EDGES))
    fine = sum(row["outcome"] != "FAILED" for row in rows)
    note = (
        f"{EXAMPLES} random values of every type for the parameters of each of five kinds (hypothesis, no fixed seed): "
        f"{said}. Each notebook is executed at the edges of what it takes; what cannot be known before a network is "
        "trained, that its chain diverges, is told in a sentence then."
    )
    verdicts = (
        Verdict("random parameters: refused in a sentence, or usable", "all", "all" if right else said),
        Verdict(
            "notebooks at the edges: run, or end in a sentence", f"{len(rows)} of {len(rows)}", f"{fine} of {len(rows)}"
        ),
    )
    return Section("Bad parameters", pd.DataFrame(rows), note, verdicts)
