"""How long good samples take: from a trained network, and from nothing."""

import time

import pandas as pd
from torch import nn

from benchmarks.networks import BATCH
from benchmarks.section import Section, Verdict
from ddpm_utils import comparison, metrics
from ddpm_utils.classifier import load_classifier
from ddpm_utils.data import Dataset
from ddpm_utils.experiment import LEAN, PUBLISHED, Experiment
from ddpm_utils.runs import Run
from ddpm_utils.sampling import MatchedStart, sample

SAMPLES = 2000
CNN = Experiment(**PUBLISHED["low β"], dataset="mnist")
LEAN_SAMPLER, LEAN_CALLS = "ancestral, posterior σ²", 20  # chosen on validation digits
BRIEF_EPOCHS = 2


def fid_text(fid: float, low: float, high: float) -> str:
    """FID with its interval."""
    return f"{fid:.2f} ({low:.2f} … {high:.2f})"


def time_to_quality() -> Section:
    """Full ancestral sampling against few calls: FIDs as recorded, times measured now."""
    table = pd.read_csv(CNN.shipped_folder / "calls.csv")
    full = table[table.calls == CNN.T].iloc[0]
    good = table[(table.fid <= 1.05 * full.fid) & (table.calls < CNN.T)].sort_values(["calls", "fid"]).iloc[0]
    network, schedule = CNN.load_decoder("shipped").network, CNN.noise_schedule
    start = MatchedStart(CNN.load_data().train.images, schedule)
    rows, seconds = [], []
    for row in (full, good):
        method = comparison.METHODS[row.sampler]
        started = time.perf_counter()
        sample(method(network, schedule, row.calls), range(BATCH), start=start)
        seconds.append(time.perf_counter() - started)
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
        f"Low β, the shipped CNN, matched start; spacings chosen on validation digits, FID against test digits "
        f"(recorded); real against real {full.floor:.2f}."
    )
    measured = f"{seconds[0] / seconds[1]:.0f}×, {good.calls} calls"
    verdict = Verdict("time to an FID ≤ 1.05× that of full ancestral sampling, T = 2000", "≥ 40× less", measured)
    return Section("Time to quality", pd.DataFrame(rows), note, (verdict,))


def from_scratch() -> Section:
    """Train the lean U-Net from nothing, briefly and as shipped, and compare with the report's CNN."""
    lean = Experiment(**LEAN, dataset="mnist")
    digits = lean.load_data()
    if digits.name != "mnist":
        return Section("From scratch", pd.DataFrame(), "Not measured: this needs the full MNIST.")
    recorded = pd.read_csv(CNN.shipped_folder / "calls.csv")
    best = recorded.loc[recorded.fid.idxmin()]
    epoch = CNN.load_decoder("shipped").description["epoch"]
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
    for epochs in (BRIEF_EPOCHS, lean.epochs):
        network, minutes = train_timed(lean.with_values(epochs=epochs), digits)
        found = fid_of_samples(network, lean, digits)
        rows.append(
            {
                "decoder": f"lean U-Net, {epochs} epochs",
                "training": f"{minutes:.1f} minutes",
                "sampler": f"{LEAN_SAMPLER}, {LEAN_CALLS} calls",
                column: fid_text(found["FID"], *found["FID interval"]),
            }
        )
        if found["FID"] <= best.fid and reached == "not reached":
            reached = f"{minutes:.1f} minutes, {epochs} epochs"
    what = f"training from scratch to the FID of the CNN's best checkpoint (epoch {epoch})"
    note = (
        f"Low β, matched start, test digits; real against real {found['FID floor']:.2f}. The CNN with its best sampler."
    )
    return Section("From scratch", pd.DataFrame(rows), note, (Verdict(what, "≤ 10 minutes, aim 5", reached),))


def train_timed(experiment: Experiment, digits: Dataset) -> tuple[nn.Module, float]:
    """The network that an experiment trains from nothing, in memory only, and the minutes it took."""
    run = Run(experiment.make_network(), learning_rate=experiment.learning_rate)
    started = time.perf_counter()
    for _ in experiment.train(run, digits):
        pass
    return run.evaluated.eval(), (time.perf_counter() - started) / 60


def fid_of_samples(network: nn.Module, experiment: Experiment, digits: Dataset) -> dict:
    """FID of new samples against test digits (see `metrics.fid_quality`)."""
    schedule = experiment.noise_schedule
    sampler = comparison.METHODS[LEAN_SAMPLER](network, schedule, LEAN_CALLS)
    start = MatchedStart(digits.train.images, schedule)
    images, _ = sample(sampler, range(comparison.SEED, comparison.SEED + SAMPLES), start=start)
    classifier, _ = load_classifier()
    real = metrics.features(classifier.embed, digits.test.images[: 2 * SAMPLES])
    return metrics.fid_quality(metrics.features(classifier.embed, images), real)
