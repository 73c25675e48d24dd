"""What a network outputs, ε, x or v, and how much each step counts: three parameterisations of one decoder.

All give an estimate of ε, since z_t = √α_t·x + √(1−α_t)·ε ties the three targets together. With e = ε̂ − ε:

    x̂ − x = −√((1−α_t)/α_t)·e        v = √α_t·ε − √(1−α_t)·x,   v̂ − v = e/√α_t

so that one squared error is another one times a function of t. Networks that output other targets have other gradients
all the same, because the conversion to ε multiplies the network's output.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from ddpm_utils.diffusion.schedules import NoiseSchedule, signal_and_noise
from ddpm_utils.shapes import Images

TARGETS = ("noise", "image", "velocity")
WEIGHTINGS = ("uniform", "min_snr")
GAMMA = 20.0
"""γ of min-SNR weights. Hang et al. (2023) take 5 for images in [−1, 1]. Images in [−0.5, 0.5] have a quarter of the
power, so that α/(1−α) is four times as large where z_t shows as much of the image: 4·5 = 20."""


def to_noise(
    output: Images, z: Images, time: Float[torch.Tensor, " n"], schedule: NoiseSchedule, target: str
) -> Images:
    """Return the estimate of ε that belongs to an estimate of the target (Salimans & Ho 2022, appendix D).

    ε̂ = (z_t − √α_t·x̂)/√(1−α_t) for "image", and ε̂ = √(1−α_t)·z_t + √α_t·v̂ for "velocity".

    Args:
        output: the estimate of ε ("noise"), x ("image") or v ("velocity"), of z's shape.
        z: z_t.
        time: t/T of each image, t ≥ 1.
        target: one of `TARGETS`.

    Raises:
        ValueError: if the target is unknown.
    """
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)} (got {target!r}).")
    if target == "noise":
        return output
    signal, noise = signal_and_noise(schedule, time, z)
    return (z - signal * output) / noise if target == "image" else noise * z + signal * output


class NoiseFrom(nn.Module):
    """A decoder g(z_t, t/T) → ε̂ around a network that outputs x̂ or v̂; see `to_noise`.

    Args:
        network: f(z_t, t/T), which estimates the target.
        target: "image" or "velocity".
        schedule: whose α_t converts the output.
    """

    def __init__(self, network: nn.Module, target: str, schedule: NoiseSchedule):
        super().__init__()
        self.network, self.target, self.schedule = network, target, schedule

    def forward(self, z: Images, time: Float[torch.Tensor, " n"]) -> Images:
        """Estimate ε from z_t and t/T, t ≥ 1."""
        return to_noise(self.network(z, time), z, time, self.schedule, self.target)


def loss_weights(schedule: NoiseSchedule, weighting: str = "uniform", gamma: float = GAMMA) -> np.ndarray:
    """Return the weight of ‖ε̂ − ε‖² at each t = 0…T, float64: 1, or min(SNR, γ)/SNR (Hang et al. 2023).

    The same loss is min(SNR, γ)·‖x̂ − x‖² and min(SNR, γ)/(SNR + 1)·‖v̂ − v‖², with SNR = α_t/(1−α_t).

    Args:
        weighting: one of `WEIGHTINGS`.
        gamma: γ > 0; infinity gives uniform weights.

    Raises:
        ValueError: if the weighting is unknown.
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)} (got {weighting!r}).")
    if weighting == "uniform":
        return np.ones(schedule.T + 1)
    return np.append(1.0, np.minimum(schedule.snr[1:], gamma) / schedule.snr[1:])
