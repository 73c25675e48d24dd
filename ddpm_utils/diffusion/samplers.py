"""Samplers: from z_T, or any z_t, back to an image. Each is a free function and a generator of latents.

They share one signature, `sampler(network, schedule, z, noise, …)`, and run over every step of the
schedule they are given. For fewer network calls give them `schedule.subset(50)`; to start from z_t of a longer
schedule give them a subset that ends at t. `sample` runs a sampler to its end in batches and
returns the images; `sample_trajectory` returns latents on the way, too.

    decoder g(z_t, t/T) → estimate of ε         ancestral, ddim; in `solvers`: heun, dpm_solver_2m
    restoration R(z_t, t/T) → estimate of x     the cold samplers in `cold`
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddpm_utils.data.checks import check_images
from ddpm_utils.diffusion.forward import posterior_tables
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.names import choose
from ddpm_utils.randomness import Noise
from ddpm_utils.scalars import is_integer, whole
from ddpm_utils.shapes import Images, Network

VARIANCES = ("beta", "posterior")

Sampler = Callable[..., Iterator["Latent"]]
"""(network, schedule, z, noise, **options) → its latents, from the schedule's last step down to t = 0."""


class Latent(NamedTuple):
    """One step of a trajectory."""

    t: int  # the step arrived at, T−1 … 0
    z: Float[Tensor, "batch 1 28 28"]  # z_t; at t = 0 the sample
    x_hat: Float[Tensor, "batch 1 28 28"]  # the clean image guessed on the way, from z_{t+1}


def joined(parts: Sequence[Latent]) -> Latent:
    """The latents of several batches at one t, as one."""
    return Latent(parts[0].t, torch.cat([part.z for part in parts]), torch.cat([part.x_hat for part in parts]))


def estimate(network: Network, z: Tensor, time: float) -> Tensor:
    """The network's estimate at one time, t/T, for the whole batch."""
    return network(z, torch.full((len(z),), float(time), dtype=z.dtype, device=z.device))


def fresh_noise(noise: Noise | None, z: Tensor) -> Tensor:
    """The next ε of every image, in z's type and on its device.

    Raises:
        ValueError: if there is no noise to draw from.
    """
    if noise is None:
        raise ValueError("noise must be given, such as Noise(range(len(z))), since this sampler adds noise on its way.")
    return noise().to(z)


def remove(z: Tensor, g: Tensor, amount: float, scale: float) -> Tensor:
    """(z − amount·g)/scale, in two passes over memory."""
    return torch.sub(z, g, alpha=float(amount)).div_(float(scale))


def ancestral(
    network: Network,
    schedule: NoiseSchedule,
    z: Tensor,
    noise: Noise | None = None,
    *,
    variance: str | np.ndarray = "beta",
) -> Iterator[Latent]:
    """z_{t−1} = [z_t − β_t/√(1−α_t)·g]/√(1−β_t) + σ_t·ε (algorithm 2 of the report; Ho et al. 2020).

    Args:
        network: g(z, t/T), estimates ε; z (batch, …), t/T (batch,).
        z: the latents at the schedule's last step.
        noise: gives ε of z's shape; the last step adds none.
        variance: σ_t² is "beta", β_t, or "posterior", β_t(1−α_{t−1})/(1−α_t), or given over t = 0…T (see
            `exact.optimal_variance`).

    Yields:
        `Latent` for t = T−1 … 0.

    Raises:
        ValueError: if the variance is unknown, or not of shape (T+1,).
    """
    beta, alpha = schedule.beta, schedule.alpha
    signal, deviation, kept = np.sqrt(alpha), np.sqrt(1 - alpha), np.sqrt(1 - beta)
    sigma = np.sqrt(reverse_variance(schedule, variance))
    for t in range(schedule.T, 0, -1):
        g = estimate(network, z, schedule.time[t])
        x_hat = remove(z, g, deviation[t], signal[t])
        z = remove(z, g, beta[t] / deviation[t], kept[t])
        if t > 1:
            z.add_(fresh_noise(noise, z), alpha=float(sigma[t]))
        yield Latent(t - 1, z, x_hat)


def reverse_variance(schedule: NoiseSchedule, variance: str | np.ndarray) -> np.ndarray:
    """σ_t² over t = 0…T, by name or as given; arguments and errors as for `ancestral`."""
    if isinstance(variance, np.ndarray):
        if variance.shape != schedule.beta.shape:
            raise ValueError(f"variance must have the shape {schedule.beta.shape}, not {variance.shape}.")
        return variance
    variance = choose("variance", variance, VARIANCES)
    return schedule.beta if variance == "beta" else posterior_tables(schedule)[2]


def ddim(
    network: Network, schedule: NoiseSchedule, z: Tensor, noise: Noise | None = None, *, eta: float = 0.0
) -> Iterator[Latent]:
    """z_{t−1} = √α_{t−1}·x̂ + √(1−α_{t−1}−σ_t²)·g + σ_t·ε (DDIM; Song et al. 2021, eq. 12).

    Args:
        network: g(z, t/T), estimates ε.
        z: the latents at the schedule's last step.
        noise: gives ε of z's shape; not needed if η = 0.
        eta: σ_t = η·√posterior variance; 0 is deterministic, 1 is ancestral with the posterior variance.

    Yields:
        `Latent` for t = T−1 … 0.

    Raises:
        ValueError: if η is outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], not {eta!r}.")
    alpha = schedule.alpha
    signal, deviation = np.sqrt(alpha), np.sqrt(1 - alpha)
    sigma = eta * np.sqrt(posterior_tables(schedule)[2])
    for t in range(schedule.T, 0, -1):
        g = estimate(network, z, schedule.time[t])
        x_hat = remove(z, g, deviation[t], signal[t])
        z = (float(signal[t - 1]) * x_hat).add_(g, alpha=float(np.sqrt(1 - alpha[t - 1] - sigma[t] ** 2)))
        if sigma[t] > 0:
            z.add_(fresh_noise(noise, z), alpha=float(sigma[t]))
        yield Latent(t - 1, z, x_hat)


def standard_start(noise: Noise) -> Float[Tensor, "batch 1 28 28"]:
    """z_T ~ N(0, I), the start that algorithm 2 assumes."""
    return noise()


class MatchedStart:
    """z_T ~ N(√α_T·μ, α_T·Σ + (1−α_T)·I), the Gaussian with z_T's true mean and covariance.

    Worth it where α_T is not near 0: at β = 0.001, T = 2000 z_T keeps 0.135 of the signal's variance.

    Args:
        images: to take μ and Σ from, in [−0.5, 0.5]; training images.
    """

    def __init__(self, images: Float[Tensor, "n 1 28 28"], schedule: NoiseSchedule):
        check_images(images, "images")
        alpha = schedule.alpha[-1]
        flat = images.flatten(1).double()
        eigenvalues, vectors = torch.linalg.eigh(torch.cov(flat.T, correction=0))
        scale = (alpha * eigenvalues.clamp(min=0) + 1 - alpha).sqrt()
        self.mean = (np.sqrt(alpha) * flat.mean(0)).float()
        self.root = (vectors * scale @ vectors.T).float()  # symmetric square root of z_T's covariance

    def __call__(self, noise: Noise) -> Float[Tensor, "batch 1 28 28"]:
        """One z_T for each of the noise's images."""
        white = noise()
        return (self.mean + white.flatten(1) @ self.root).reshape(white.shape)


@torch.inference_mode()
def sample_trajectory(
    sampler: Sampler,
    decoder: Network,
    schedule: NoiseSchedule,
    *,
    keep: Sequence[int],
    count: int = 1,
    seed: int = 0,
    z: Tensor | None = None,
    start: Callable[[Noise], Tensor] = standard_start,
    batch_size: int = 128,
    on_step: Callable[[], None] | None = None,
    **options,
) -> dict[int, Latent]:
    """Run a sampler to its end in batches, and return its latents at some steps.

    Args:
        sampler: such as `ancestral`, `ddim`, `heun` or `dpm_solver_2m`.
        decoder: g(z, t/T), estimates ε.
        schedule: whose steps are visited, all of them: for fewer network calls give a `subset`.
        keep: the t's whose latents to return, in 0…T−1; at t = 0 the latent is the sample.
        count: how many images to draw. Image i has a random stream of its own, seeded with seed + i, so that it does
            not depend on the batch.
        seed: of the first image.
        z: latents at the schedule's last step to start from instead, shape (n, 1, height, width); count is then n.
        start: draws z_T, see `standard_start` and `MatchedStart`.
        on_step: called after each step of each batch, for a progress bar.
        options: of the sampler, such as eta=1.0.

    Returns:
        t → latents on the CPU, of all images.

    Raises:
        ValueError: if a t to keep is not in 0…T−1, or count, seed or batch_size is no integer or too small.
    """
    keep, count, seed, batch_size = list(map(whole, keep)), whole(count), whole(seed), whole(batch_size)
    for name, value, least in (("count", count, 1), ("seed", seed, 0), ("batch_size", batch_size, 1)):
        if not is_integer(value) or value < least:
            raise ValueError(f"{name} must be an integer from {least} on, not {value!r}.")
    if not all(is_integer(t) and 0 <= t < schedule.T for t in keep):
        raise ValueError(f"keep must hold steps in 0…{schedule.T - 1}, not {list(keep)!r}.")
    seeds = range(seed, seed + (count if z is None else len(z)))
    kept: dict[int, list[Latent]] = {t: [] for t in keep}
    for first in range(0, len(seeds), batch_size):
        part = slice(first, first + batch_size)
        noise = Noise(seeds[part])
        begin = start(noise) if z is None else z[part]
        for latent in sampler(decoder, schedule, begin, noise, **options):
            if latent.t in kept:
                kept[latent.t].append(Latent(latent.t, latent.z.cpu(), latent.x_hat.cpu()))
            if on_step:
                on_step()
    return {t: joined(parts) for t, parts in kept.items()}


def sample(sampler: Sampler, decoder: Network, schedule: NoiseSchedule, **options) -> Images:
    """Draw images: run a sampler to its end in batches, so that memory stays flat.

    Args:
        sampler, decoder, schedule, options: as for `sample_trajectory`, without keep; count=8 draws eight images.

    Returns:
        the images at t = 0, on the CPU; nominally in [−0.5, 0.5], not clamped.
    """
    return sample_trajectory(sampler, decoder, schedule, keep=[0], **options)[0].z
