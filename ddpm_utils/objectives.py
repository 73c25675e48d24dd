"""What a network is trained for: to estimate the noise (hot), or the clean image (cold)."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddpm_utils.forward import diffuse
from ddpm_utils.schedules import NoiseSchedule, gather

Images = Float[Tensor, "batch 1 height width"]
Network = Callable[[Tensor, Tensor], Tensor]  # (z, t/T) → an estimate of z's shape


@runtime_checkable
class Objective(Protocol):
    """What a network is trained for. One call is one Monte Carlo estimate of the loss of each image."""

    T: int

    def draw(self, x: Images, generator: torch.Generator) -> Tensor:
        """The randomness of one call, of shape (batch, …), apart from t."""

    def __call__(self, network: Network, x: Images, t: Int[Tensor, " batch"], drawn: Tensor) -> Float[Tensor, " batch"]:
        """The loss of each image at its own t in 1…T, a mean over pixels."""


class NoisePrediction:
    """‖g(√α_t·x + √(1−α_t)·ε, t/T) − ε‖², averaged over pixels where equation 4 sums."""

    def __init__(self, schedule: NoiseSchedule):
        self.schedule = schedule
        self.T = schedule.T

    def draw(self, x: Images, generator: torch.Generator) -> Tensor:
        """ε ~ N(0, I)."""
        return torch.randn(x.shape, generator=generator)

    def __call__(self, network: Network, x: Images, t: Int[Tensor, " batch"], drawn: Tensor) -> Float[Tensor, " batch"]:
        z = diffuse(x, t, drawn, self.schedule)
        time = gather(self.schedule.time, t, z).flatten()
        return (network(z, time) - drawn).square().flatten(1).mean(1)


class Restoration:
    """|R(D(x, t), t/T) − x|, averaged over pixels: cold training (Bansal et al. 2022, eq. 3).

    Args:
        degrade: D(x, t) for a batch of different t, with its number of steps T.
        norm: 1 for the absolute error, as in the paper; 2 for the squared one, as in the coursework.
    """

    def __init__(self, degrade: Callable[[Tensor, Tensor], Tensor], norm: int = 1):
        if norm not in (1, 2):
            raise ValueError(f"norm must be 1 or 2, not {norm!r}.")
        self.degrade, self.norm = degrade, norm
        self.T = degrade.T

    def draw(self, x: Images, generator: torch.Generator) -> Tensor:
        """Nothing: D is deterministic. An empty tensor of shape (batch, 0)."""
        return torch.empty(len(x), 0)

    def __call__(self, network: Network, x: Images, t: Int[Tensor, " batch"], drawn: Tensor) -> Float[Tensor, " batch"]:
        error = network(self.degrade(x, t), (t / self.T).to(x)) - x
        return error.abs().pow(self.norm).flatten(1).mean(1)
