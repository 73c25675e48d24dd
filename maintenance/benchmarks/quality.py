"""How long good samples take: from a trained network, and from nothing."""

import time

import pandas as pd
from torch import nn

from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion import solvers
from ddpm_utils.diffusion.samplers import MatchedStart, sample
from ddpm_utils.networks.cpu import keep_freed_memory
from ddpm_utils.system.files import read_csv
from ddpm_utils.training.experiments import LEAN, PUBLISHED, Experiment
from ddpm_utils.training.run import Run
from maintenance.benchmarks.networks import BATCH
from maintenance.records import samplers
from maintenance.report import Section, Verdict

SAMPLES = 2000
LOW_BETA = Experiment(**PUBLISHED["low β"], dataset="mnist")
LEAN_SAMPLER, LEAN_CALLS = "ancestral, posterior σ²", 20  # chosen on validation digits, with a try-out of the network
EPOCHS = (2, 7)  # of the lean U-Net


def fid_text(fid: float, low: float, high: float) -> str:
    """FID with its interval."""
    return f"{fid:.2f} ({low:.2f} … {high:.2f})"


def time_to_quality() -> Section:
    """Full ancestral sampling against few calls: FIDs as recorded, times measured now."""
    table = read_csv(LOW_BETA.shipped_folder / "calls.csv")
    full = table[table.calls == LOW_BETA.T].iloc[0]
    few = table[table.calls < LOW_BETA.T].sort_values(["calls", "fid"])
    enough = few[few.fid <= 1.05 * full.fid]
    good = enough.iloc[0] if len(enough) else few.loc[few.fid.idxmin()]
    keep_freed_memory()
    network, schedule = LOW_BETA.load_decoder("shipped").network, LOW_BETA.noise_schedule
    start = MatchedStart(LOW_BETA.load_data().train.images, schedule)
    rows, seconds = [], []
    for row in (full, good):
        method = solvers.METHODS[row.sampler]
        rounds = 1 if row.calls == LOW_BETA.T else 5
        started = time.perf_counter()
        for _ in range(rounds):
            sample(method.sampler, network, method.subset(schedule, row.calls), count=BATCH, start=start)
        seconds.append((time.perf_counter() - started) / rounds)
        rows.append(
            {
                "sampler": row.sampler,
                "spacing": row.spacing,
                "calls": row.calls,
                f"{BATCH} samples, s": f"{seconds[-1]:.2f}",
                f"FID of {row.samples} samples": fid_text(row.fid, row.low, row.high),
            }
        )
    note = (
        "Low β, the shipped CNN, matched start; FIDs as recorded on test digits (calls.csv). The second row is that of "
        f"the fewest calls within 5 % of the first, or else the best; real against real {full.floor:.2f}."
    )
    measured = f"{seconds[0] / seconds[1]:.0f}×, {good.calls} calls, FID {good.fid / full.fid:.2f}×"
    verdict = Verdict("time to an FID ≤ 1.05× that of full ancestral sampling, T = 2000", "≥ 40× less", measured)
    return Section("Time to quality", pd.DataFrame(rows), note, (verdict,))


def from_scratch() -> Section:
    """Train the lean U-Net from nothing, twice, for minutes, and compare with the report's CNN."""
    lean = Experiment(**LEAN, dataset="mnist")
    digits = lean.load_data()
    if digits.name != "mnist":
        raise RuntimeError("this needs the full MNIST.")
    recorded = read_csv(LOW_BETA.shipped_folder / "calls.csv")
    best = recorded.loc[recorded.fid.idxmin()]
    epoch = LOW_BETA.load_decoder("shipped").description["epoch"]
    column = f"FID of {SAMPLES} samples"
    rows = [
        {
            "decoder": f"the report's CNN, epoch {epoch}",
            "training": "recorded",
            "sampler": f"{best.sampler}, {best.calls} calls",
            column: fid_text(best.fid, best.low, best.high),
        }
    ]
    reached = "not reached"
    for epochs in EPOCHS:
        network, minutes = train_timed(lean.with_values(epochs=epochs), digits)
        method = (LEAN_SAMPLER, solvers.METHODS[LEAN_SAMPLER], LEAN_CALLS)
        start = MatchedStart(digits.train.images, lean.noise_schedule)
        found = next(samplers.compare(network, lean.noise_schedule, start, digits.test, [method], samples=SAMPLES))
        rows.append(
            {
                "decoder": f"lean U-Net, {epochs} epochs",
                "training": f"{minutes:.1f} minutes",
                "sampler": f"{LEAN_SAMPLER}, {LEAN_CALLS} calls",
                column: fid_text(found.fid, found.low, found.high),
            }
        )
        if found.fid <= best.fid and reached == "not reached":
            reached = f"{minutes:.1f} minutes, {epochs} epochs"
    what = f"training from scratch to the FID of the CNN's best checkpoint (epoch {epoch})"
    note = f"Low β, matched start, test digits; real against real {found.floor:.2f}. The CNN with its best sampler."
    return Section("From scratch", pd.DataFrame(rows), note, (Verdict(what, "≤ 10 minutes, aim 5", reached),))


def train_timed(experiment: Experiment, digits: Dataset) -> tuple[nn.Module, float]:
    """The network that an experiment trains from nothing, in memory only, and the minutes it took."""
    run = Run(experiment.make_network(), learning_rate=experiment.learning_rate)
    started = time.perf_counter()
    for _ in experiment.train(run, digits):
        pass
    return run.network.eval(), (time.perf_counter() - started) / 60
