"""What one number hides: losses over t, the gap to unseen images, what a decoder sees, what its samples copy.

Decoders are networks, or any of `exact`; all are called as decoder(z, t/T).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ddpm_utils.forward import diffuse
from ddpm_utils.objectives import NoisePrediction
from ddpm_utils.sampling import Decoder
from ddpm_utils.schedules import NoiseSchedule
from ddpm_utils.training import generator_for

Images = Float[Tensor, "n 1 height width"]
BATCH = 128


@dataclass(frozen=True)
class Sizes:
    """How much is measured: images, samples and rounds."""

    profile: int = 1000  # images at each of `points` steps
    points: int = 24
    floor: int = 8000  # images for the mean of the exact floor over t
    per_step: int = 20  # losses at every t, at least
    gap: int = 12_000  # pairs of a seen and an unseen image
    samples: int = 500  # for FID, of each sampler
    calls: int = 200  # network calls for each of these
    consecutive: int = 60  # of the last steps, where α is off by one
    exact: int = 10_000  # training images that the exact decoder as a sampler knows
    reconstructions: int = 1000
    reconstruction_calls: int = 30
    generated: int = 1000  # samples for class histogram and neighbours


def steps_by_signal(schedule: NoiseSchedule, count: int) -> list[int]:
    """At most so many different t, evenly spread in log SNR between its values at t = 1 and T, both included."""
    noise = -np.log(schedule.snr[1:])
    wanted = np.interp(np.linspace(noise[0], noise[-1], count), noise, np.arange(1, schedule.T + 1))
    return np.unique(wanted.round().astype(int)).tolist()


@torch.inference_mode()
def losses_at(
    decoder: Decoder, schedule: NoiseSchedule, images: Images, t: Int[Tensor, " n"], noise: Images
) -> Float[Tensor, " n"]:
    """‖g(z_t, t/T) − ε‖²/d of each image at its t."""
    objective = NoisePrediction(schedule)
    parts = zip(images.split(BATCH), t.split(BATCH), noise.split(BATCH), strict=True)
    return torch.cat([objective(decoder, *part) for part in parts])


def loss_profile(
    decoder: Decoder, schedule: NoiseSchedule, images: Images, steps: Sequence[int], *, seed: int = 0
) -> Float[Tensor, "steps n"]:
    """The loss of the same images with the same noise at each of some steps; equal seeds make decoders comparable."""
    noise = torch.randn(images.shape, generator=generator_for(seed, "profile"))
    rows = [losses_at(decoder, schedule, images, torch.full((len(images),), t), noise) for t in steps]
    return torch.stack(rows)


def loss_by_step(
    decoder: Decoder, schedule: NoiseSchedule, images: Images, *, rounds: int = 1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The mean loss at every t = 1…T and its standard error, both of shape (T+1,) with 0 at t = 0.

    Args:
        rounds: how often each image is used; each t gets rounds·n/T losses, at least 2.

    Raises:
        ValueError: if that is too few.
    """
    T, n = schedule.T, len(images)
    if rounds * n < 2 * T:
        raise ValueError(f"{rounds} rounds of {n} images are too few for {T} steps: take {-(-2 * T // n)} rounds.")
    order = torch.randperm(rounds * n, generator=generator_for(seed, "order by step"))
    noise = generator_for(seed, "noise by step")
    steps, losses = [], []
    for one in range(rounds):
        t = 1 + order[one * n : (one + 1) * n] % T
        losses.append(losses_at(decoder, schedule, images, t, torch.randn(images.shape, generator=noise)))
        steps.append(t)
    t, loss = torch.cat(steps).numpy(), torch.cat(losses).double().numpy()
    count = np.bincount(t, minlength=T + 1).clip(1)
    mean = np.bincount(t, loss, minlength=T + 1) / count
    variance = np.bincount(t, (loss - mean[t]) ** 2, minlength=T + 1) / (count - 1).clip(1)
    return mean, np.sqrt(variance / count)


def generalisation_gap(
    decoder: Decoder, schedule: NoiseSchedule, seen: Images, unseen: Images, *, seed: int = 0
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The loss of unseen images minus that of seen ones, pair by pair at the same t with the same noise.

    Args:
        seen, unseen: equally many.

    Returns:
        t, evenly spread over 1…T, and the differences.
    """
    t = 1 + torch.arange(len(seen)) * schedule.T // len(seen)
    t = t[torch.randperm(len(seen), generator=generator_for(seed, "gap t"))]
    noise = torch.randn(seen.shape, generator=generator_for(seed, "gap noise"))
    return t, losses_at(decoder, schedule, unseen, t, noise) - losses_at(decoder, schedule, seen, t, noise)


def with_circular_padding(network: nn.Module) -> nn.Module:
    """A copy whose convolutions see no border: the image's opposite edges touch.

    Args:
        network: with plain `nn.Conv2d` layers.
    """
    copied = copy.deepcopy(network)
    for module in copied.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
    return copied


@torch.inference_mode()
def clock_response(decoder: Decoder, z: Images, *, low: float = 0.05, high: float = 0.95) -> float:
    """How much the output changes when only the clock does: ‖g(z, high) − g(z, low)‖/‖g(z, low)‖, over all of z."""
    early, late = (decoder(z, torch.full((len(z),), time)) for time in (low, high))
    return ((late - early).norm() / early.norm()).item()


@torch.inference_mode()
def shift_response(decoder: Decoder, z: Images, time: float, shift: float = 0.1) -> float:
    """d mean(ε̂)/dc for z + c: 0 if the decoder cannot see that an image has become brighter as a whole."""
    at = torch.full((len(z),), time)
    return ((decoder(z + shift, at) - decoder(z, at)).mean() / shift).item()


@torch.inference_mode()
def mean_error(decoder: Decoder, schedule: NoiseSchedule, images: Images, t: int, *, seed: int = 0) -> float:
    """The variance of mean(ε) over the pixels that the decoder's estimate leaves: 0 seen perfectly, 1 not at all.

    mean(ε̂) is compared as it is, so that a constant bias counts; a value above 1 is worse than no estimate.
    """
    noise = torch.randn(images.shape, generator=generator_for(seed, "mean"))
    z = diffuse(images, t, noise, schedule)
    time = float(schedule.time[t])
    estimated = torch.cat([decoder(part, torch.full((len(part),), time)).mean((1, 2, 3)) for part in z.split(BATCH)])
    truth = noise.mean((1, 2, 3))
    return ((estimated - truth).square().mean() / truth.square().mean()).item()


def start_mismatch(images: Images, schedule: NoiseSchedule) -> dict[str, float]:
    """How z_T differs from N(0, I): its mean and standard deviation per pixel, over all pixels and at the border.

    The background is the frame of 2 pixels, black in nearly all of MNIST.
    """
    alpha = schedule.alpha[-1]
    mean = np.sqrt(alpha) * images.mean(0)
    deviation = (alpha * images.var(0, correction=0) + 1 - alpha).sqrt()
    frame = background(mean[None])
    return {
        "mean": mean.mean().item(),
        "background mean": frame.mean().item(),
        "deviation": deviation.mean().item(),
        "background deviation": background(deviation[None]).mean().item(),
        "standard deviation of the image's mean": (
            (alpha * images.mean((1, 2, 3)).var(correction=0) + (1 - alpha) / images[0].numel()).sqrt().item()
        ),
    }


def background(images: Images) -> Float[Tensor, "n pixels"]:
    """The pixels of the frame, 2 wide, that is black in nearly all of MNIST."""
    inside = torch.zeros(images.shape[-2:], dtype=torch.bool)
    inside[2:-2, 2:-2] = True
    return images[:, 0, ~inside]


def nearest(images: Images, among: Float[Tensor, "m 1 height width"]) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Root mean squared distance per pixel to the nearest of other images, and which it is."""
    flat = among.flatten(1)
    found = [torch.cdist(part.flatten(1), flat).min(1) for part in images.split(BATCH)]
    distances = torch.cat([part.values for part in found]) / flat.shape[1] ** 0.5
    return distances, torch.cat([part.indices for part in found])


@torch.inference_mode()
def classes(classifier: nn.Module, images: Images) -> Int[Tensor, " n"]:
    """The digit that the classifier names for each image, clamped to [−0.5, 0.5]."""
    return torch.cat([classifier(part.clamp(-0.5, 0.5)).argmax(1) for part in images.split(BATCH)])
