import os
import platform
import subprocess
import sys

import pytest

from ddpm_utils.networks.cpu import TUNABLES, keep_freed_memory
from ddpm_utils.training.experiments import Experiment

FAULTS = """
import resource
import torch

def faults():
    for _ in range(20):
        torch.ones(2**24)  # 64 MB: the first few may make the heap grow
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
"""
KEEP = """
from ddpm_utils.networks.cpu import keep_freed_memory
assert keep_freed_memory()
print(faults())
"""
on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def run(code: str, **environment: str) -> list[int]:
    """The numbers that a fresh process prints."""
    command = [sys.executable, "-c", code]
    printed = subprocess.run(
        command, capture_output=True, encoding="utf-8", check=True, env=os.environ | environment
    ).stdout
    return [int(number) for number in printed.split()]


@on_glibc
def test_a_buffer_is_not_fetched_from_the_system_again():
    without, kept = run(FAULTS + KEEP)
    assert without > 1000
    assert kept < without / 10


@on_glibc
def test_a_process_can_be_started_that_way():
    (without,), (kept,) = run(FAULTS), run(FAULTS, GLIBC_TUNABLES=TUNABLES)
    assert kept < without / 10


def test_other_systems_are_left_alone(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert keep_freed_memory() is False


def test_training_keeps_memory_and_building_a_network_does_not(monkeypatch, digits, output):
    calls = []
    monkeypatch.setattr("ddpm_utils.training.base.keep_freed_memory", lambda: calls.append("kept"))
    experiment = Experiment()
    experiment.make_network()
    experiment.load_decoder("shipped")
    run = experiment.open_run(digits)
    assert calls == []
    experiment.train(run, digits)
    assert calls == ["kept"]
