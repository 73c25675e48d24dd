import platform
import subprocess
import sys

import pytest

from ddpm_utils.networks.cpu import keep_freed_memory

CODE = """
import resource
import torch
from ddpm_utils.allocator import keep_freed_memory

def faults():
    for _ in range(20):
        torch.ones(2**24)  # 64 MB: the first few may make the heap grow
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

without = faults()
assert keep_freed_memory()
print(without, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_buffer_is_not_fetched_from_the_system_again():
    printed = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
    without, kept = map(int, printed.split())
    assert without > 1000
    assert kept < without / 10


def test_other_systems_are_left_alone(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert keep_freed_memory() is False
