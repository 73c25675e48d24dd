"""Random streams: one for each (seed, key), and one for each image, so that no result depends on the batch size."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddpm_utils.scalars import whole

DRAWN_AHEAD = 8  # steps whose noise is drawn at once
START_SEED = 1_000_000  # of the first unconditional sample; the next image has the next seed
NOISE_SEED = 2_000_000  # of the noise that degrades the first test image
RESTORE_SEED = 3_000_000  # of the noise that restores it


class Noise:
    """Standard normal images from one random stream per image, so that no result depends on the batch size.

    Args:
        seeds: one per image.
        shape: of one image.
    """

    def __init__(self, seeds: Iterable[int], shape: Sequence[int] = (1, 28, 28)):
        self.seeds = list(seeds)
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in self.seeds]
        self.shape = tuple(shape)
        self.ahead: list[Tensor] = []
        self.drawn = 1  # steps to draw at once: z_T alone first

    def __call__(self) -> Float[Tensor, "batch ..."]:
        """The next ε ~ N(0, I) of every image, shape (batch, *shape), float32."""
        if not self.ahead:  # then a few steps ahead, since each draw has its cost
            shape = (self.drawn, *self.shape)
            draws = torch.stack([torch.randn(shape, generator=generator) for generator in self.generators], dim=1)
            self.ahead, self.drawn = list(draws), DRAWN_AHEAD
        return self.ahead.pop(0)


def generator_for(seed: int, *key: int | str) -> torch.Generator:
    """An independent random stream for each (seed, key): NumPy's SeedSequence seeds torch's generator."""
    words = [int.from_bytes(k.encode(), "big") if isinstance(k, str) else whole(k) for k in (seed, *key)]
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state & np.uint64(2**63 - 1)))
