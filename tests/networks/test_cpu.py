"""Which form the 7×7 convolutions take on a machine: chosen, or measured once."""

import os

import pytest
import torch

from ddpm_utils.networks import cpu, spectral
from ddpm_utils.training.experiments import Experiment

WORKS = [f"{form}, {work}" for work in ("training", "calls") for form in spectral.FORMS]


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine on which nothing was measured: a function that sets what a measurement finds, and lists its threads."""
    monkeypatch.delenv(cpu.VARIABLE)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *arguments, **options: str(tmp_path / "cache"))
    cpu._kept_choice.cache_clear()
    asked: list[int] = []

    def find(*seconds: float, slowest: float = 1.0, rounds: int = 3) -> list[int]:
        found = {work: [value * slowest, *[value] * (rounds - 1)] for work, value in zip(WORKS, seconds, strict=True)}
        monkeypatch.setattr(cpu, "measure", lambda threads: asked.append(threads) or found)
        return asked

    yield find
    cpu._kept_choice.cache_clear()


@pytest.mark.parametrize(
    ("seconds", "form"),
    [
        ((2, 1, 2, 1), "spectral"),
        ((1, 2, 1, 2), "direct"),
        ((2, 1, 1, 2), "direct"),  # faster in training alone
        ((1, 2, 2, 1), "direct"),
        ((1, 1, 1, 1), "direct"),
    ],
)
def test_spectral_must_be_faster_in_training_and_in_calls(machine, seconds, form):
    machine(*seconds)
    assert cpu.convolution(1) == form


def test_is_measured_once_per_number_of_threads(machine, tmp_path):
    asked = machine(2, 1, 2, 1)
    assert [cpu.convolution(threads) for threads in (1, 2, 1, 2)] == ["spectral"] * 4
    assert asked == [1, 2]
    machine(1, 2, 1, 2)
    cpu._kept_choice.cache_clear()  # another process
    assert [cpu.convolution(threads) for threads in (1, 2, 3)] == ["spectral", "spectral", "direct"]
    assert asked == [1, 2, 3]


@pytest.mark.parametrize("busy", [{"slowest": 2.1}, {"rounds": 2}], ids=str)
def test_a_measurement_beside_other_work_is_not_kept(machine, tmp_path, busy):
    asked = machine(1, 2, 1, 2, **busy)
    assert [cpu.convolution(1), cpu.convolution(1)] == ["direct", "direct"]
    assert asked == [1]  # once in each process
    cpu._kept_choice.cache_clear()
    machine(2, 1, 2, 1, slowest=1.9)
    assert cpu.convolution(1) == "spectral"
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("what", ["processor", "torch"])
def test_is_measured_again_on_another_machine(machine, monkeypatch, what):
    asked = machine(2, 1, 2, 1)
    cpu.convolution(1)
    cpu._kept_choice.cache_clear()
    if what == "processor":
        monkeypatch.setattr(cpu, "processor", lambda: "another one")
    else:
        monkeypatch.setattr(torch, "__version__", "3.0")
    cpu.convolution(1)
    assert asked == [1, 1]


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b"\xff", None])
def test_a_cache_that_cannot_be_used_is_done_without(machine, tmp_path, damage):
    asked = machine(2, 1, 2, 1)
    cpu.convolution(1)
    (path,) = (tmp_path / "cache").glob("*.json")
    if damage is None:
        path.unlink()
        path.parent.rmdir()
        path.parent.write_text("a file, where the folder should be", encoding="utf-8")
    else:
        path.write_bytes(damage)
    cpu._kept_choice.cache_clear()
    assert cpu.convolution(1) == "spectral"
    assert asked == [1, 1]


def test_a_choice_needs_no_measurement(machine, monkeypatch):
    asked = machine(2, 1, 2, 1)
    for form in spectral.FORMS:
        monkeypatch.setenv(cpu.VARIABLE, form)
        assert cpu.convolution() == form
        network = Experiment().make_network()
        assert {layer.form for layer in spectral.spectral_layers(network)} == {form}
    monkeypatch.setenv(cpu.VARIABLE, "fast")
    Experiment(network="lean_unet").make_network()  # has no such layer
    with pytest.raises(ValueError, match="DDPM_CONVOLUTION must be direct or spectral, not 'fast'"):
        Experiment().make_network()
    assert not asked


def test_a_measurement_leaves_no_trace():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with torch.inference_mode():
        seconds = cpu.measure(1)
    assert set(seconds) == set(WORKS)
    assert all(0 < value < 60 for values in seconds.values() for value in values)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_the_tests_do_not_depend_on_the_machine():
    assert os.environ[cpu.VARIABLE] == "spectral"
