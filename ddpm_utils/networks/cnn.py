"""The decoder g(z_t, t/T; φ) of the report, its time encoding, and a small digit classifier."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddpm_utils.shapes import SIZE


class TimeEncoding(nn.Module):
    """t/T → 16 numbers: sines and cosines of 16 frequencies, then an MLP (report, section 2.1.2).

    Frequencies 0 and 2π·1.5^i for i = 0…14; features sin and cos − 1; layers 32→128→128→128→16 with GELU between.
    """

    frequencies: Tensor

    def __init__(self, features: int = 16, hidden: int = 128, frequencies: int = 16):
        super().__init__()
        rising = 2 * math.pi * 1.5 ** torch.arange(frequencies - 1, dtype=torch.float64)
        self.register_buffer("frequencies", torch.cat([torch.zeros(1), rising]).float(), persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(2 * frequencies, hidden), nn.GELU(),
            nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, features),
        )  # fmt: skip

    def forward(self, time: Float[Tensor, " batch"]) -> Float[Tensor, "batch features"]:
        """time: t/T in [0, 1]."""
        angle = time[:, None] * self.frequencies
        return self.mlp(torch.cat([angle.sin(), angle.cos() - 1], dim=1))


class CNN(nn.Module):
    """The report's decoder: five convolutions that keep 28 × 28, 291,217 parameters.

    Channels 1→16→32→32→16→1; four 7×7 convolutions, each followed by a normalisation and GELU, then a linear
    3×3 one (after a GELU, which never goes below −0.17, the output could not be N(0, 1) noise). The time
    encoding is added to the first block's feature map after its GELU.

    Args:
        norm: what LayerNorm normalises between a 7×7 convolution and its GELU. "element": over (C, 28, 28)
            with one weight per element, as in the published runs; "plane": over (28, 28), shared by the
            channels, as in the coursework's starter notebook; "none": nothing.
    """

    def __init__(self, norm: str = "element"):
        super().__init__()
        norms: dict[str, Callable[[int], nn.Module]] = {
            "element": lambda channels: nn.LayerNorm((channels, SIZE, SIZE)),
            "plane": lambda channels: nn.LayerNorm((SIZE, SIZE)),
            "none": lambda channels: nn.Identity(),
        }
        if norm not in norms:
            raise ValueError(f"norm must be one of {', '.join(norms)}, not {norm!r}.")
        widths = [1, 16, 32, 32, 16]
        self.time_encoding = TimeEncoding(widths[1])
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 7, padding=3), norms[norm](after), nn.GELU())
            for before, after in pairwise(widths)
        )
        self.output = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(
        self, z: Float[Tensor, "batch 1 28 28"], time: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch 1 28 28"]:
        """Estimate ε from z_t and time = t/T in [0, 1]."""
        first, *others = self.blocks
        h = first(z) + self.time_encoding(time)[:, :, None, None]
        for block in others:
            h = block(h)
        return self.output(h)
