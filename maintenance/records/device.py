"""Where a measurement runs: on a CUDA device if there is one, else on the CPU; and what a record says about it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_utils.networks.cpu import processor


def device() -> torch.device:
    """Return the CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """Return the name of the GPU, or of the processor with its number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{processor()}, {torch.get_num_threads()} threads"


class OnDevice:
    """A network that computes on `device`, and takes and returns tensors on the CPU.

    Args:
        network: frozen; it is moved.
    """

    def __init__(self, network: nn.Module):
        self.network = network.to(device()).eval()

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        """Call the network."""
        return self.network(*(tensor.to(device()) for tensor in inputs)).cpu()


@contextmanager
def timed(record: dict[str, Any]) -> Iterator[None]:
    """Write the wall-clock seconds of a block and the device to a record: "seconds" and "device"."""
    started = time.perf_counter()
    yield
    record |= {"seconds": round(time.perf_counter() - started, 1), "device": device_name()}
