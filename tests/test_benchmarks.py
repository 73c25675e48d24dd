"""The benchmark's own arithmetic; what it measures is not tested here."""

import itertools
import time

import pytest
import torch

from benchmarks import __main__ as benchmark
from benchmarks import loops, samplers, speed
from benchmarks.race import Result, race, ratios, take_turns
from benchmarks.section import Section, Verdict
from ddpm_utils.data import PROJECT


def sleeper(seconds: float):
    """Sets up a run of two units."""

    def run() -> int:
        time.sleep(seconds)
        return 2

    return run


def unavailable():
    """A setup that fails."""
    raise RuntimeError("no such library")


def test_ratios():
    assert ratios(Result([4.0, 6.0, 9.0]), Result([2.0, 2.0, 3.0])) == (2.0, 3.0, 3.0)
    assert Result([4.0, 6.0, 9.0]).median == 6.0


def test_a_race_reports_those_that_cannot_run():
    results, failed = race({"slow": (sleeper, 0.04), "fast": (sleeper, 0.01), "missing": (unavailable,)}, rounds=3)
    assert failed == {"missing": "RuntimeError: no such library"}
    assert [len(result.rounds) for result in results.values()] == [3, 3]
    assert results["slow"].median > 0.02  # seconds per unit, at least what it slept
    assert results["fast"].median > 0.005


def test_turns_are_taken():
    order = []
    runs = {name: lambda name=name: order.append(name) or 1 for name in "ab"}
    assert [len(result.rounds) for result in take_turns(runs, 2).values()] == [2, 2]
    assert order == [*"ab", *"ab", *"ab"]


@pytest.mark.parametrize("loop", [loops.plain_loop, loops.diffusers_loop, loops.our_loop])
def test_training_loops_train(loop, monkeypatch):
    monkeypatch.setattr(loops, "STEPS", 1)
    monkeypatch.setattr(loops, "BATCH", 8)
    monkeypatch.setattr(loops, "mnist_loader", lambda: itertools.repeat(torch.zeros(8, 1, 28, 28)))
    assert loop()() == 8


def test_sampler_loops_make_their_calls():
    assert {name: run() for name, run in samplers.sampler_loops(1).items()} == dict.fromkeys(
        ["calls", *(f"{s}, {whose}" for s in samplers.SAMPLERS for whose in ("ours", "diffusers"))], samplers.CALLS
    )


def test_a_table_of_contenders():
    lines = {"slow": (sleeper, 0.02), "fast": (sleeper, 0.01), "missing": (unavailable,)}
    results, table = speed.throughput(lines, "slow")
    assert list(table.contender) == ["slow", "fast", "missing"]
    assert table["images/s"][2] == "not run: RuntimeError: no such library"
    assert results.keys() == {"slow", "fast"}


def test_the_summary_has_every_verdict():
    sections = [Section("One", speed.pd.DataFrame([{"a": 1}]), "A note.", (Verdict("speed", "≥ 2×", "3×"),))]
    summary, report = benchmark.markdown(sections)
    assert "| speed  | ≥ 2×     | 3×         |" in summary
    assert summary in report
    assert "## One" in report
    assert "A note." in report


def test_the_readme_shows_the_recorded_summary():
    report = (PROJECT / "benchmarks" / "results.md").read_text(encoding="utf-8")
    summary = benchmark.MARKED.search((PROJECT / "README.md").read_text(encoding="utf-8"))[0]
    assert "\n".join(summary.splitlines()[1:-1]) in report
