"""The same numbers again: a sweep repeated, by other workers, in another order; samples in other batches, threads."""

import hashlib
import tempfile
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ddpm_utils.diffusion.samplers import sample
from ddpm_utils.diffusion.solvers import METHODS
from ddpm_utils.training.experiments import Experiment
from maintenance.reliability import work
from maintenance.report import Section, Verdict

TOLERANCE = 1e-4
TURNED = work.GRID.replace("  02_training:\n", "") + "  02_training:\n"
WATCHED = "02_this_run.png"  # the training as notebook 02 watched it, of which there is none if 04 has trained
SWEEPS = {
    "the same again": (work.GRID, "2", ()),
    "by one worker instead of two": (work.GRID, "1", ()),
    "notebook 04 before notebook 02": (TURNED, "2", (WATCHED,)),
}
"""What is another time: the grid, the number of workers, and the figures that may differ."""


def outcome(folder: Path, grid: str, workers: str = "2") -> dict[str, str]:
    """What a sweep leaves, by its file: every tensor, loss and number of its table, and every figure."""
    folder.mkdir()
    (folder / "grid.yaml").write_text(grid, encoding="utf-8")
    process = work.start(["ddpm", "sweep", str(folder / "grid.yaml"), "--workers", workers], folder)
    if process.wait() != 0:
        raise RuntimeError((folder / work.LOG).read_text(encoding="utf-8")[-500:])
    figures = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.png")}
    left = {name: value for name, value in work.left(folder).items() if not name.endswith(".ipynb")}  # these hold dates
    return left | figures


def drawn(batch_size: int, threads: int) -> Tensor:
    """Ten samples of shipped weights, a seed each."""
    experiment = Experiment(**work.NETWORK)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        network = experiment.load_decoder("shipped").network
        method = METHODS["ancestral, posterior σ²"]
        chain = method.subset(experiment.noise_schedule, 20)
        return sample(method.sampler, network, chain, count=10, batch_size=batch_size)
    finally:
        torch.set_num_threads(before)


def report() -> Section:
    """See the module."""
    rows, equal = [], 0
    with tempfile.TemporaryDirectory(prefix="determinism-") as folder:
        first = outcome(Path(folder) / "first", work.GRID)
        for number, (what, (grid, workers, may_differ)) in enumerate(SWEEPS.items()):
            other = outcome(Path(folder) / str(number), grid, workers)
            compared = [name for name in first.keys() | other if not name.endswith(may_differ)]
            same = sum(first.get(name) == other.get(name) for name in compared)
            equal += same == len(compared)
            rows.append({"what": f"a sweep, {what}", "the same bits": f"{same} of {len(compared)} files"})
    samples, batches, threads = drawn(10, 1), drawn(3, 1), drawn(10, 2)
    apart = (batches - samples).abs().max().item()
    rows.append({"what": "ten samples, in batches of 3 instead of 10", "largest difference of a pixel": f"{apart:.1e}"})
    largest = f"{(threads - samples).abs().max():.1e}"
    rows.append({"what": "ten samples, on two threads instead of one", "largest difference of a pixel": largest})
    note = (
        "Two experiments times notebooks 02 and 04, one thread each. Files are checkpoints (but for the seconds that "
        f"epochs took), the sweep's table, and all figures; in the other order all but {WATCHED}, a picture of the "
        "training as notebook 02 makes it. Samples: the shipped lean U-Net, 20 calls."
    )
    verdicts = (
        Verdict("sweeps that leave the same bits", f"{len(SWEEPS)} of {len(SWEEPS)}", f"{equal} of {len(SWEEPS)}"),
        Verdict("samples do not depend on the batch", f"≤ {TOLERANCE:g}", f"{apart:.1e}"),
    )
    return Section("The same numbers again", pd.DataFrame(rows).fillna(""), note, verdicts)
