"""The committed notebooks and the gallery: executed by maintainers, and by them alone."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import nbformat
import papermill

from ddpm_utils import data
from ddpm_utils.batch.notebooks import NOTEBOOKS, numbered, outputs_sha256
from ddpm_utils.commands import run
from ddpm_utils.system.errors import DataError
from ddpm_utils.system.files import METADATA, write_bytes
from ddpm_utils.system.places import PROJECT

GALLERY = PROJECT / "figures"
STRIPPED_KEYS = "metadata.widgets metadata.papermill cell.metadata.papermill cell.metadata.execution"


def refresh() -> None:
    """Execute the committed notebooks from top to bottom at their default parameters, and strip them.

    Their data are those that every clone has: `DDPM_DATA` does not count.
    """
    for path in [*numbered(), NOTEBOOKS / "app.ipynb"]:
        with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, DDPM_OUTPUT=folder, DDPM_DATA=""):
            executed = Path(folder) / path.name
            papermill.execute_notebook(str(path), str(executed), kernel_name="python3")
            keep = ["--keep-output", "--keep-count", "--extra-keys", STRIPPED_KEYS]
            subprocess.run([sys.executable, "-m", "nbstripout", *keep, str(executed)], check=True)
            notebook = nbformat.read(executed, as_version=4)
            notebook.metadata[METADATA] = {"outputs": outputs_sha256(notebook)}
            write_bytes(path, (nbformat.writes(notebook) + "\n").encode())


def write_gallery() -> None:
    """Execute the main job, and replace those of its figures that the README shows, in figures/<slug>/.

    The others stand in the notebooks.

    Raises:
        DataError: if the full MNIST cannot be had, on which the gallery's figures are measured.
        RuntimeError: if a notebook failed; the gallery stays as it was.
    """
    dataset = data.load("mnist")
    if dataset.name != "mnist":
        raise DataError(f"the gallery needs the full MNIST. {dataset.source}")
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, DDPM_OUTPUT=folder):
        if run({}):
            raise RuntimeError("a notebook failed, so the gallery was not changed.")
        for path in Path(folder).glob("data/runs/*/figures/*.png"):
            target = GALLERY / path.parent.parent.name / path.name
            if target in shown_in_readme():
                write_bytes(target, path.read_bytes())


def shown_in_readme() -> set[Path]:
    """Return the pictures of the gallery that the README shows."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    return {PROJECT / path for path in re.findall(r"\]\((figures/[^)]+)\)", text)}
