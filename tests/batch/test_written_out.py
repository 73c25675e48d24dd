"""Each equation, algorithm and network is written out in a cell, and an assertion compares it with the package.

Whoever reads only the notebooks can write a working model: their own cells, in one script, train and sample without it.
"""

import ast
import subprocess
import sys
from functools import cache
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pytest
from nbformat import NotebookNode

from ddpm_utils.batch.notebooks import without_exercises
from ddpm_utils.system.places import RESOURCES
from tests.needed_cells import cells_for, loaded

LONGEST = 16  # lines of a definition


class Written(NamedTuple):
    """Where something is written out, and what compares it with the package."""

    notebook: str
    code: str  # of the cell that writes it out
    compared: str  # in the assertion
    fault: str  # in the place of `code`, which the assertion notices


FORWARD, TRAINING, SAMPLING = "01_forward_process", "02_training", "03_sampling"
EVALUATION, COLD = "04_evaluation", "05_custom_degradation"
WRITTEN = {
    "equation 1": Written(FORWARD, "+ beta_t**0.5 * noise", "ddpm.diffuse_step(", "+ beta_t * noise"),
    "equation 2": Written(
        FORWARD, "alpha = np.cumprod(1 - beta)", "noise_schedule.alpha)", "alpha = 1 - np.cumsum(beta)"
    ),
    "equation 2, a jump": Written(FORWARD, "(1 - alpha[t]) ** 0.5 * n for", "ddpm.diffuse(x", "(1 - alpha[t]) * n for"),
    "equation 3": Written(FORWARD, "t / 1000 * (0.02 - 0.0001)", "linear.beta", "(t - 1) / 1000 * (0.02 - 0.0001)"),
    "cosine schedule": Written(FORWARD, "1 - f[1:] / f[:-1]", "cosine.beta", "1 - f[1:]"),
    "posterior": Written(FORWARD, "before**0.5 * beta_t * x", "ddpm.posterior(", "before * beta_t * x"),
    "best guess": Written(
        FORWARD, "(weights(z, a) @ known.flatten(1))", "exact(z,", "(weights(z, a) @ known.flatten(1) / 2)"
    ),
    "density of one pixel": Written(FORWARD, "0.05**2 * a + 1 - a", "one_dimension.diffused(", "0.05**2 + 1 - a"),
    "reverse step": Written(FORWARD, "known_before * seen / (", "step.log_density(", "known_before / ("),
    "marginal likelihood": Written(
        TRAINING, "normal(x_value, f(z_grid), 0.2)", "model.density(", "normal(x_value, f(z_grid), 0.3)"
    ),
    "ancestral sampling": Written(TRAINING, "f(z_drawn) + 0.2 *", "expected", "f(z_drawn) + 0.4 *"),
    "ELBO": Written(TRAINING, "- log_q + log_prior", "model.elbo(", "- log_q"),
    "terms of the ELBO": Written(TRAINING, "b**2 / (2 * variance *", "of_means", "b / (2 * variance *"),
    "equation 4": Written(TRAINING, "- epsilon).square().mean()  # equation 4", "losses", "- epsilon).abs().mean()"),
    "algorithm 1": Written(TRAINING, "        optimizer.step()", "losses", "        pass"),
    "E[ε|z_t]": Written(
        TRAINING, "(near * means[0] + (1 - near) * means[1])", "z_known.mean", "(means[0] + means[1]) / 2"
    ),
    "time encoding": Written(TRAINING, "angle.cos() - 1", "difference", "angle.cos()"),
    "CNN": Written(
        TRAINING, "self.blocks[0](z) + self.time_encoding", "difference", "self.blocks[0](z) - self.time_encoding"
    ),
    "guess of x": Written(TRAINING, "(one.z - (1 - chain.alpha[t]) ** 0.5 * one.g)", "one.x_hat", "(one.z - one.g)"),
    "algorithm 2": Written(SAMPLING, "z + beta[t] ** 0.5 * noise()", "packaged.z", "z + beta[t] * noise()"),
    "algorithm 2, digits": Written(SAMPLING, "beta[t] / (1 - alpha[t]) ** 0.5 * g) /", "own[:shown]", "beta[t] * g) /"),
    "algorithm 2's mean": Written(SAMPLING, "beta_t / (1 - a) ** 0.5 * g)", "difference", "beta_t * g)"),
    "DDIM": Written(SAMPLING, "(1 - alpha[t - 1]) ** 0.5 * g", "same", "(1 - alpha[t]) ** 0.5 * g"),
    "matched start": Written(SAMPLING, "vectors * values.sqrt() @", 'starts["matched"]', "vectors * values @"),
    "Heun": Written(SAMPLING, "slope + network(", "same", "slope - network("),
    "DPM-Solver++(2M)": Written(SAMPLING, "h / (2 * h_before)", "same", "h / h_before"),
    "FID": Written(EVALUATION, "s_r.trace() - 2 * root", "packaged", "s_r.trace() - root"),
    "interval of the FID": Written(EVALUATION, "deviation = np.std(", "half_width", "deviation = 3 * np.std("),
    "affine decoder": Written(
        EVALUATION, "a * covariance + (1 - a) * torch.eye(784)", "differences", "covariance + (1 - a) * torch.eye(784)"
    ),
    "exact decoder": Written(EVALUATION, "-squared / (2 * (1 - a))", "differences", "-squared / (1 - a)"),
    "bits of a step": Written(EVALUATION, "step_beta[2:] ** 2 / (2 * sigma2", "L_t", "step_beta[2:] / (2 * sigma2"),
    "index off by one": Written(EVALUATION, "(1 - a[t]) ** 0.5 * g)", "packaged.z", "(1 - a[t - 1]) ** 0.5 * g)"),
    "mixture": Written(
        EVALUATION, "a * C + (1 - a) * torch.eye(len(m))", "packaged", "C + (1 - a) * torch.eye(len(m))"
    ),
    "loss of R": Written(COLD, "(R(z, t / T) - x).abs().pow(norm)", "own_loss", "(R(z, t / T) - x).abs()"),
    "cold, algorithm 1": Written(COLD, "z = D(x_hat, s, context)", "own_end", "z = D(x_hat, t, context)"),
    "cold, algorithm 2": Written(
        COLD,
        "z - D(x_hat, t, context) + D(x_hat, s, context)",
        "own_end",
        "D(x_hat, t, context) + D(x_hat, s, context)",
    ),
}


@cache
def code_cells(notebook: str) -> list[NotebookNode]:
    return [cell for cell in without_exercises(notebook).cells if cell.cell_type == "code"]


def index_of(cells: list[NotebookNode], text: str, first: int = 0) -> int:
    """Return the index of the first cell, from one on, that holds a text."""
    return next(i for i in range(first, len(cells)) if text in cells[i].source)


def assertions(cell: NotebookNode) -> list[str]:
    """Return the code of a cell's assertions."""
    return [ast.unparse(node) for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Assert)]


def where(written: Written) -> tuple[list[NotebookNode], int, int]:
    """Return a notebook's code cells, and which of them writes something out, and which compares it."""
    cells = code_cells(written.notebook)
    first = index_of(cells, written.code)
    compared = written.compared.replace('"', "'")  # as `ast.unparse` writes it
    found = [i for i in range(first, len(cells)) if any(compared in line for line in assertions(cells[i]))]
    assert found, f"no assertion compares {written.code}"
    return cells, first, found[0]


@pytest.mark.parametrize("name", WRITTEN)
def test_is_written_out_and_compared(name):
    cells, first, _ = where(WRITTEN[name])
    definitions = [
        node for node in ast.walk(ast.parse(cells[first].source)) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    assert all(node.end_lineno - node.lineno < LONGEST for node in definitions)


def run(cells: list[NotebookNode]) -> None:
    """Execute cells in this process."""
    names = {"__name__": "__main__", "In": []}
    try:
        for cell in cells:
            exec(compile(cell.source, "cell", "exec"), names)
    finally:
        plt.close("all")


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITTEN)
def test_the_assertion_notices_a_fault(name, output):
    """That it holds without the fault is what `test_notebooks` shows."""
    written = WRITTEN[name]
    cells, first, compared = where(written)
    faulty = NotebookNode(cells[first], source=cells[first].source.replace(written.code, written.fault))
    cells = [*cells[:first], faulty, *cells[first + 1 :]]
    with pytest.raises(AssertionError):
        run(cells_for(cells, lambda i: i in (first, compared)))


SCRIPT = {
    TRAINING: [
        "def algorithm_1",
        "class ToyNetwork",
        "toy_beta = ",
        "class TimeEncoding",
        "class CNN",
        "def first_batches",
    ],
    SAMPLING: ["def algorithm_2", "def ddim", "def heun", "def dpm_solver_2m"],
}
"""Cells of the notebooks that make the script, in order."""
MAIN = """
import sys
generator = torch.Generator().manual_seed(0)
toy_network, time = ToyNetwork(), torch.arange(101) / 100
toy_losses = list(algorithm_1(toy_network, toy_draws(512, 600, 100, generator), 0.005, toy_alpha))
with torch.inference_mode():
    start = torch.randn(2000, generator=generator)
    noise, toy_beta = lambda: torch.randn(2000, generator=generator), torch.tensor(toy_beta).float()
    noisy = algorithm_2(toy_network, start, toy_beta, time, noise)
    solved = [solver(toy_network, start, toy_alpha, time) for solver in (ddim, heun, dpm_solver_2m)]
for pixels in (*list(noisy)[-1:], *solved):
    print("toy", (pixels.abs() - 0.5).abs().lt(0.2).float().mean().item(), pixels.gt(0).float().mean().item())
images = torch.tensor(np.load(sys.argv[1])["train_pixels"][:256]).reshape(-1, 1, 28, 28) / 255 - 0.5
beta = torch.cat([torch.zeros(1), torch.full((50,), 0.05)])
cnn, alpha = CNN(), torch.cumprod(1 - beta, 0)
batches = first_batches(images, torch.randperm(256, generator=generator), [generator] * 8, 50)
losses = list(algorithm_1(cnn, batches, 0.002, alpha))
print("losses", *losses)
with torch.inference_mode():
    *_, drawn = algorithm_2(cnn, torch.randn(4, 1, 28, 28, generator=generator), beta, torch.arange(51) / 50,
                            lambda: torch.randn(4, 1, 28, 28, generator=generator))
print("drawn", tuple(drawn.shape), bool(drawn.isfinite().all()))
"""


def without_package(cell: NotebookNode) -> str:
    """Return a cell's statements but for those that use the package."""
    kept = [
        s
        for s in ast.parse(cell.source).body
        if not loaded(compile(ast.unparse(s), "cell", "exec")) & {"ddpm", "experiment", "digits", "chain"}
    ]
    return "\n".join(map(ast.unparse, kept))


def test_the_notebooks_cells_make_a_working_model(tmp_path):
    """One script of their own cells, without the package: it trains the pixel and the report's CNN, and samples."""
    cells = [code_cells(name)[index_of(code_cells(name), text)] for name, texts in SCRIPT.items() for text in texts]
    imports = (
        "import sys\nsys.modules['ddpm_utils'] = None\nimport numpy as np\nimport torch\nfrom torch import nn\nseed = 0"
    )
    path = tmp_path / "own_model.py"
    path.write_text("\n\n".join([imports, *map(without_package, cells), MAIN]), encoding="utf-8")
    assert "ddpm." not in path.read_text(encoding="utf-8")
    command = [sys.executable, str(path), str(RESOURCES / "data" / "mnist_5k.npz")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    *toys, losses, drawn = done.stdout.splitlines()
    for line in toys:
        near, white = map(float, line.split()[1:])
        assert near > 0.9
        assert 0.3 < white < 0.7
    first, *_, last = map(float, losses.split()[1:])
    assert np.isfinite(last)
    assert last < 0.8 * first
    assert drawn == "drawn (4, 1, 28, 28) True"
