"""The benchmark's own arithmetic; what it measures is not tested here."""

import itertools
import time

import pytest
import torch

from ddpm_utils.networks.cnn import CNN
from ddpm_utils.system.places import PROJECT
from maintenance import report
from maintenance.benchmarks import loops, samplers, speed
from maintenance.benchmarks.race import Result, race, ratios, take_turns
from maintenance.report import Section, Verdict

WHOSE = ("ours", "diffusers")


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


def test_turns_are_taken():
    order = []
    runs = {name: lambda name=name: order.append(name) or 1 for name in "ab"}
    assert [len(result.rounds) for result in take_turns(runs, 2).values()] == [2, 2]
    assert order == [*"ab", *"ab", *"ab"]


@pytest.fixture
def network_inputs(monkeypatch) -> list[int]:
    """The batch sizes of all calls of the report's CNN from now on."""
    seen = []
    monkeypatch.setattr(CNN, "forward", count_calls(CNN.forward, seen))
    return seen


def count_calls(forward, seen: list[int]):
    """`forward`, which also notes its batch size."""

    def counted(self, z, time):
        seen.append(len(z))
        return forward(self, z, time)

    return counted


@pytest.mark.parametrize("loop", [loops.plain_loop, loops.diffusers_loop, loops.our_loop])
def test_training_loops_train_as_many_images_as_they_say(loop, network_inputs, digits, monkeypatch):
    monkeypatch.setattr(loops, "STEPS", 2)
    monkeypatch.setattr(loops, "BATCH", 8)
    monkeypatch.setattr(loops.data, "load", lambda name: digits)
    monkeypatch.setattr(loops, "mnist_loader", lambda: itertools.repeat(torch.zeros(8, 1, 28, 28)))
    assert loop()() == sum(network_inputs) == 16


@pytest.mark.parametrize("kind", ["calls", *(f"{s}, {whose}" for s in samplers.SAMPLERS for whose in WHOSE)])
def test_sampler_loops_make_as_many_calls_as_they_say(kind, network_inputs):
    assert samplers.sampler_loops(2)[kind]() == len(network_inputs) == 20


def test_a_race_and_its_table_report_those_that_cannot_run(monkeypatch):
    monkeypatch.setattr(speed, "race", lambda contenders, environment: race(contenders, rounds=3))
    lines = {"slow": (sleeper, 0.04), "fast": (sleeper, 0.01), "missing": (unavailable,)}
    results, table = speed.throughput(lines, "slow")
    assert [len(result.rounds) for result in results.values()] == [3, 3]
    assert results["slow"].median > 0.02  # seconds per unit, at least what it slept
    assert results["fast"].median > 0.005
    assert list(table.contender) == ["slow", "fast", "missing"]
    assert table["images/s"][2] == "not run: RuntimeError: no such library"
    assert results.keys() == {"slow", "fast"}


def test_the_summary_has_every_verdict():
    sections = [Section("One", speed.pd.DataFrame([{"a": 1}]), "A note.", (Verdict("speed", "≥ 2×", "3×"),))]
    summary, text = report.markdown("Benchmarks", sections)
    assert "| speed  | ≥ 2×     | 3×         |" in summary
    assert summary in text
    assert "## One" in text
    assert "A note." in text


@pytest.mark.parametrize(
    ("name", "file", "verdict"),
    [
        ("benchmarks", "maintenance/benchmarks/results.md", "training step, same CNN, against the plain loop"),
        ("stress", "maintenance/reliability/stress.md", "killed anywhere, then resumed: the same bits"),
        ("determinism", "maintenance/reliability/determinism.md", "sweeps that leave the same bits"),
        ("mutants", "maintenance/reliability/mutants.md", "small faults in the science that the tests notice"),
        ("soak", "maintenance/reliability/soak.md", "growth of memory in half an hour"),
    ],
)
def test_the_readme_shows_the_recorded_summary(name, file, verdict):
    recorded = (PROJECT / file).read_text(encoding="utf-8")
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    shown = readme.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- end of {name} -->")[0]
    assert verdict in shown
    assert shown in recorded
