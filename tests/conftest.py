"""What the tests share: shape annotations that are checked, data, folders and another implementation."""

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")
os.environ["DDPM_CONVOLUTION"] = "spectral"  # on any machine, in all processes that the tests start
jaxtyping.install_import_hook(
    "ddpm_utils",
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",  # an int is a float, too
)

from ddpm_utils import data  # noqa: E402  (after the hook)
from tests.few_digits import load_few  # noqa: E402

SLOW = (
    *("browser", "maintenance", "test_clean_tree.py", "test_wheel.py", "lab/test_training.py"),
    *(
        "system/test_locks.py",
        "system/test_surroundings.py",
        "training/test_other_data.py",
        "training/test_accelerate.py",
    ),
    *(f"batch/test_{name}.py" for name in ("engines", "jobs", "notebooks", "own_degradation", "own_network")),
    *(f"batch/test_{name}.py" for name in ("custom_schedule", "other_images", "student", "sweep")),
    *(
        "test_probes.py::test_shipped_weights",
        "data/test_image_files.py::test_mnist_exported",
        "training/test_divergence.py",
    ),
    *("evaluation/test_explanations.py", "evaluation/test_restoration.py", "training/test_restoration_experiment.py"),
    *("batch/test_check_names.py::test_papermill",),
    *("networks/test_allocator.py", "plots/test_styled.py::test_importing", "system/test_terminal.py::test_help"),
    *("system/test_places.py::test_a_current_folder", "cold/test_theory.py::test_no_error", "batch/test_provenance.py"),
    *("diffusion/test_latent_model.py", "evaluation/test_classifier.py::test_learns"),
    *("test_commands.py::test_trains", "test_security.py::test_jupyterlab", "test_vocabulary.py::test_the_ten_lines"),
)
"""How the tests begin that train, execute notebooks or start processes: `make quick` leaves them out."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark them."""
    for item in items:
        if item.nodeid.startswith(tuple(f"tests/{name}" for name in SLOW)):
            item.add_marker("slow")


def pytest_ignore_collect(collection_path, config):
    """Do not even import what `make quick` leaves out as a whole."""
    if config.option.markexpr == "not slow" and collection_path in {Path(__file__).parent / name for name in SLOW}:
        return True


def pytest_terminal_summary(terminalreporter):
    """The browser tests' latencies, also where their processes' output is not shown."""
    passed = [report for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    found = [value for report in passed for name, value in report.user_properties if name == "latency"]
    if found:
        terminalreporter.section("from a key to the new picture, median in the browser")
        for line in sorted(found):
            terminalreporter.write_line(line)


@pytest.fixture
def unchecked(monkeypatch):
    """Annotations are not checked, as when users run it: for tests of what the code itself refuses."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    """The 5,000 embedded digits."""
    return data.load("mnist_5k")


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder that holds the complete MNIST."""
    root = os.environ.get("DDPM_DATA")
    if not root:
        pytest.skip("needs the full MNIST: set DDPM_DATA to the folder that holds MNIST/raw")
    return Path(root)


@pytest.fixture(scope="session")
def mnist(mnist_root) -> data.Dataset:
    """The complete MNIST."""
    return data.load("mnist", mnist_root)


@pytest.fixture
def output(tmp_path, monkeypatch) -> Path:
    """Runs are written below it."""
    monkeypatch.setenv("DDPM_OUTPUT", str(tmp_path))
    return tmp_path


@pytest.fixture
def few(output, monkeypatch) -> None:
    """Every data set that this process loads has 64 digits to train on, and 300 to validate with."""
    monkeypatch.setattr(data, "load", load_few)


@pytest.fixture(scope="module")
def short_bootstrap() -> Iterator[None]:
    """Intervals of the FID, which have tests of their own, are made of two resamples: a hundred take a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddpm_utils.evaluation.metrics.RESAMPLES", 2)
        yield


@pytest.fixture(scope="session")
def diffusers_scheduler():
    """Makes a scheduler of diffusers for one of our schedules, with tables in double precision.

    Its arrays have no entry for the identity: index t − 1 there is step t here.
    """

    def make(kind: type, schedule, **options):
        scheduler = kind(schedule.T, trained_betas=schedule.beta[1:].tolist(), **options)
        scheduler.betas = torch.from_numpy(np.array(schedule.beta[1:]))
        scheduler.alphas = 1 - scheduler.betas
        scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
        scheduler.one = scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
        return scheduler

    return make


@pytest.fixture
def start():
    """Latents of three small images."""
    return torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
