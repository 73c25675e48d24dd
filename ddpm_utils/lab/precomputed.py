"""What the panels show, computed beforehand, so that a slider only has to look it up."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ddpm_utils.cold.degradations import Degradation
from ddpm_utils.cold.restoration import there_and_back
from ddpm_utils.cold.samplers import ALGORITHMS
from ddpm_utils.data.checks import check_images
from ddpm_utils.diffusion.forward import diffuse
from ddpm_utils.diffusion.samplers import ddim, sample_trajectory
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.diffusion.solvers import Method
from ddpm_utils.evaluation import metrics
from ddpm_utils.lab.images import DDIM, SAMPLERS, Choice, Estimate, RoundTrip, Trajectory
from ddpm_utils.randomness import START_SEED, Noise
from ddpm_utils.shapes import Images, Network

ETAS = (0.0, 0.5, 1.0)
FRACTIONS = (0.1, 0.25, 0.5, 0.75, 1.0)  # of T, how far an image is degraded


@torch.inference_mode()
def estimates(
    network: Network, schedule: NoiseSchedule, x: Images, noise: Images, steps: Sequence[int]
) -> dict[int, Estimate]:
    """The network's estimate g of the noise in z_t (equation 2), and x̂ = (z_t − √(1−α_t)·g)/√α_t, at each t ≥ 1."""
    check_images(x, "x")
    found = {}
    for t in steps:
        alpha = schedule.alpha[t]
        z = diffuse(x, t, noise, schedule)
        g = network(z, torch.full((len(z),), schedule.time[t], dtype=z.dtype))
        x_hat = (z - (1 - alpha) ** 0.5 * g) / alpha**0.5
        found[t] = Estimate(x, z, noise, g, x_hat, alpha, (g - noise).square().mean().item())
    return found


def trajectories(
    network: Network,
    schedule: NoiseSchedule,
    starts: Mapping[str, Callable[[Noise], Tensor]],
    *,
    calls: Sequence[int],
    seeds: int,
    count: int,
) -> dict[Choice, Trajectory]:
    """Every sampler (DDIM at each of ETAS) from every start, with each number of calls and each seed.

    A sampler that cannot walk the schedule in so few calls, as Heun on harsh ones, is left out.

    Args:
        calls: network calls per sample, at most T.
        seeds: so many sets of samples.
        count: samples in a set.
    """
    ways = {(name, 0.0): method for name, method in SAMPLERS.items()}
    ways |= {("DDIM", eta): Method(partial(ddim, eta=eta), DDIM.spacing) for eta in ETAS}
    ways = {way: method for way, method in ways.items() if all(method.can_walk(schedule, n) for n in calls)}
    every: dict[str, Any] = {"count": seeds * count, "seed": START_SEED}
    each = range(START_SEED, START_SEED + seeds * count)
    found = {}
    for ((name, eta), method), number, (start_name, start) in product(ways.items(), calls, starts.items()):
        visited = method.subset(schedule, number)
        latents = sample_trajectory(method.sampler, network, visited, keep=range(visited.T), start=start, **every)
        way = [latents[t] for t in reversed(range(visited.T))]
        z = torch.stack([start(Noise(each)), *(latent.z for latent in way)]).half()
        x_hat = torch.stack([*(latent.x_hat for latent in way), way[-1].z]).half()
        steps = (visited.time[::-1] * schedule.T).tolist()
        for seed in range(seeds):
            part = slice(seed * count, (seed + 1) * count)
            choice = Choice(name, number, eta, start_name, seed)
            found[choice] = Trajectory(steps, visited.alpha[::-1].tolist(), z[:, part], x_hat[:, part])
    return found


def round_trips(
    restorations: Mapping[str, tuple[Degradation, Network, float]], x: Images, *, calls: int = 16, seed: int = 0
) -> dict[tuple[str, float, str], RoundTrip]:
    """Each degradation to each of FRACTIONS of its T, and back by each way.

    Args:
        restorations: name → D, R and the σ that R was trained with.
        calls: network calls on the way back, at most.
    """
    found = {}
    for (name, (process, network, sigma)), fraction in product(restorations.items(), FRACTIONS):
        t = max(1, round(fraction * process.T))
        for algorithm in ALGORITHMS:
            there, back = there_and_back(network, process, x, t, algorithm, sigma=sigma, calls=calls, seed=seed)
            rmse = metrics.quality_of_each(back[0], x)["RMSE"].numpy()
            found[name, fraction, algorithm] = RoundTrip(t, process.T, there, back, rmse)
    return found
