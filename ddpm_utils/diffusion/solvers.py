"""Second-order solvers of the probability flow: good samples from few network calls.

Without noise, sampling solves an ordinary differential equation. In the noise per unit of signal, s = √((1−α)/α),
and in z̄ = z/√α, which is x plus noise of standard deviation s, it reads

    dz̄/ds = g(z, t/T)                                (Song et al. 2021, DDIM, eq. 14; Karras et al. 2022)

DDIM with η = 0 is Euler's method for it: halving its steps halves the error. The solvers here quarter it. They have
the samplers' signature (see `samplers`), the noise being unused, and like DDIM they cannot mend a wrong start.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm_utils.diffusion.samplers import Latent, Sampler, ancestral, ddim, estimate, remove
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.randomness import Noise
from ddpm_utils.scalars import whole
from ddpm_utils.shapes import Network


def heun(network: Network, schedule: NoiseSchedule, z: Tensor, noise: Noise | None = None) -> Iterator[Latent]:
    """An Euler step, then the same step with the mean slope of both its ends (Karras et al. 2022, algorithm 1).

    Two network calls a step, one in the last (where s = 0): 2T − 1 in all.

    Args:
        network: g(z, t/T), estimates ε.
        z: the latents at the schedule's last step.
        noise: not used.

    Yields:
        `Latent` for t = T−1 … 0; x_hat is of the step's first call.
    """
    signal, deviation = np.sqrt(schedule.alpha), np.sqrt(1 - schedule.alpha)
    s = deviation / signal
    for t in range(schedule.T, 0, -1):
        g = estimate(network, z, schedule.time[t])
        x_hat = remove(z, g, deviation[t], signal[t])
        kept, step = float(signal[t - 1] / signal[t]), float(signal[t - 1] * (s[t - 1] - s[t]))
        if t > 1:
            euler = (kept * z).add_(g, alpha=step)
            g = (g + estimate(network, euler, schedule.time[t - 1])) / 2
        z = (kept * z).add_(g, alpha=step)
        yield Latent(t - 1, z, x_hat)


def dpm_solver_2m(network: Network, schedule: NoiseSchedule, z: Tensor, noise: Noise | None = None) -> Iterator[Latent]:
    """DPM-Solver++(2M): x̂ extrapolated linearly in λ from the last two calls (Lu et al. 2022, algorithm 2).

    With λ = log(√α/√(1−α)) and h = λ_{t−1} − λ_t,

        z_{t−1} = √((1−α_{t−1})/(1−α_t))·z_t + √α_{t−1}·(1 − e^{−h})·[x̂_t + h/(2·h_before)·(x̂_t − x̂_before)].

    The first and the last step have no slope, and are DDIM's. One network call a step.

    Arguments and result as for `heun`.
    """
    signal, deviation = np.sqrt(schedule.alpha), np.sqrt(1 - schedule.alpha)
    with np.errstate(divide="ignore"):
        log_ratio = np.log(signal / deviation)  # λ; infinite at t = 0
    before, h_before = None, 0.0
    for t in range(schedule.T, 0, -1):
        g = estimate(network, z, schedule.time[t])
        x_hat = remove(z, g, deviation[t], signal[t])
        h = log_ratio[t - 1] - log_ratio[t]
        ahead = x_hat if before is None or t == 1 else torch.lerp(before, x_hat, float(1 + h / (2 * h_before)))
        z = (float(deviation[t - 1] / deviation[t]) * z).sub_(ahead, alpha=float(signal[t - 1] * np.expm1(-h)))
        before, h_before = x_hat, h
        yield Latent(t - 1, z, x_hat)


class Method(NamedTuple):
    """A sampler, how its steps are spread (see `NoiseSchedule.subset`), and what a step costs."""

    sampler: Sampler
    spacing: str = "even"
    calls_per_step: int = 1  # network calls in each step but the last, which takes one

    def steps(self, calls: int) -> int:
        """How many steps so many network calls allow."""
        return (whole(calls) + self.calls_per_step - 1) // self.calls_per_step

    def subset(self, schedule: NoiseSchedule, calls: int) -> NoiseSchedule:
        """The steps that are visited in so many network calls.

        Raises:
            ValueError: if the schedule has fewer steps than that takes, or no signal is left between two of them.
        """
        return schedule.subset(self.steps(calls), self.spacing)

    def can_walk(self, schedule: NoiseSchedule, calls: int) -> bool:
        """Whether so many calls are enough: of a harsh schedule no signal is left between steps that are far apart."""
        return schedule.has_subset(self.steps(calls), self.spacing)

    def counts(self, calls: Sequence[int]) -> list[int]:
        """The numbers of calls nearest below those given that the method makes use of, each once: odd ones for Heun."""
        return sorted({1 + self.calls_per_step * (self.steps(number) - 1) for number in calls})


METHODS = {
    "ancestral, σ² = β": Method(ancestral, "log_snr"),
    "ancestral, posterior σ²": Method(partial(ancestral, variance="posterior"), "quadratic"),
    "DDIM, η = 0": Method(ddim, "quadratic"),
    "Heun": Method(heun, "karras", calls_per_step=2),
    "DPM-Solver++(2M)": Method(dpm_solver_2m, "quadratic"),
}
"""The samplers by name, each with its best spacing: by mean rank at 5, 10 and 20 calls of the shipped low-β CNN, on
validation digits. (Ancestral sampling with σ² = β does better with even steps below 10 calls.)"""


def fewest_calls(schedule: NoiseSchedule, least: int, methods: Iterable[Method]) -> int:
    """The smallest number of network calls, at least so many, in which all methods can walk a schedule; T at most."""
    methods, least = list(methods), whole(least)
    numbers = range(min(least, schedule.T), schedule.T)
    return next((calls for calls in numbers if all(m.can_walk(schedule, calls) for m in methods)), schedule.T)
