"""The best decoders of their kind, in closed form: what a network's loss and samples can be held against.

The simplest decoder is the identity, ε̂ = z_t. Each of these estimates ε from z_t as a trained decoder does, and can
take its place in losses and samplers:

    AffineDecoder  the best affine function of z_t: the posterior mean, were the images Gaussian
    ExactDecoder   the posterior mean over a finite set of images: on them, no decoder has a lower loss

Losses are per pixel: ‖ε − ε̂‖²/d, with d = 784 pixels.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddpm_utils.data.checks import check_images
from ddpm_utils.diffusion.forward import posterior_tables
from ddpm_utils.diffusion.schedules import NoiseSchedule, gather
from ddpm_utils.shapes import Images


def identity_loss(images: Images, alpha: np.ndarray) -> np.ndarray:
    """E‖ε − z_t‖²/d = α·E[x²] + (1 − √(1−α))², of α's shape, float64."""
    return alpha * images.double().square().mean().item() + (1 - np.sqrt(1 - alpha)) ** 2


class AffineDecoder:
    """The affine function of z_t with the lowest loss (Wiener's filter): ε̂ = √(1−α)·(αΣ + (1−α)I)⁻¹(z_t − √α·μ).

    Args:
        images: to take their mean μ and covariance Σ from, in [−0.5, 0.5].
        schedule: the whole schedule, whose clock t/T the decoder is asked by.
    """

    def __init__(self, images: Images, schedule: NoiseSchedule):
        check_images(images, "images", overshoot=True)  # points of any Gaussian, too
        flat = images.flatten(1).double()
        eigenvalues, vectors = torch.linalg.eigh(torch.cov(flat.T, correction=0))
        self.schedule = schedule
        self.eigenvalues = eigenvalues.clamp(min=0)
        self.mean, self.vectors, self.scales = flat.mean(0).float(), vectors.float(), self.eigenvalues.float()

    def __call__(self, z: Images, time: Float[Tensor, " n"]) -> Images:
        """Estimate ε from z_t, t/T."""
        signal, noise = signal_and_noise(self.schedule, time, z.flatten(1))
        rotated = (z.flatten(1) - signal * self.mean) @ self.vectors
        shrunk = rotated * noise / (signal**2 * self.scales + noise**2)
        return (shrunk @ self.vectors.T).reshape(z.shape)

    def loss(self, alpha: np.ndarray) -> np.ndarray:
        """Its loss on the images, (1/d)·Σ_i αλ_i/(αλ_i + 1 − α), λ_i Σ's eigenvalues; α < 1, shape (k,), float64."""
        signal = alpha[:, None] * self.eigenvalues.numpy()
        return (signal / (signal + 1 - alpha[:, None])).mean(1)


class ExactDecoder:
    """The lowest loss on a finite set of images: ε̂ = (z_t − √α·E[x|z_t])/√(1−α) with
    E[x|z_t] = Σ_i w_i x_i, w = softmax_i(−‖z_t − √α·x_i‖²/2(1−α)) (Karras et al. 2022, appendix B.3).

    A decoder that reached it would have memorised the images: its samples are they and nothing else.

    Args:
        images: x_i, each with the same chance, in [−0.5, 0.5].
        schedule: the whole schedule, whose clock t/T the decoder is asked by.
    """

    def __init__(self, images: Images, schedule: NoiseSchedule):
        check_images(images, "images", overshoot=True)  # points of any Gaussian, too
        self.schedule = schedule
        flat = images.flatten(1)
        self.mean = flat.double().mean(0).float()  # taken off: smaller numbers, smaller rounding errors
        self.points = flat - self.mean
        self.halved_squares = self.points.square().sum(1) / 2

    def __call__(self, z: Images, time: Float[Tensor, " n"]) -> Images:
        """Estimate ε from z_t, t/T."""
        signal, noise = signal_and_noise(self.schedule, time, z)
        return (z - signal * self.posterior_mean(z, time)) / noise

    def posterior_mean(self, z: Images, time: Float[Tensor, " n"]) -> Images:
        """E[x|z_t]."""
        return (self.weights(z, time) @ self.points + self.mean).reshape(z.shape)

    def weights(self, z: Images, time: Float[Tensor, " n"]) -> Float[Tensor, "n points"]:
        """The chance of each image to be what z_t came from."""
        flat = z.flatten(1)
        signal, noise = signal_and_noise(self.schedule, time, flat)
        projected = (flat - signal * self.mean) * (signal / noise**2)
        return torch.addmm(self.halved_squares * -((signal / noise) ** 2), projected, self.points.T).softmax(1)


def signal_and_noise(
    schedule: NoiseSchedule, time: Float[Tensor, " batch"], like: Float[Tensor, "batch ..."]
) -> tuple[Tensor, Tensor]:
    """√α_t and √(1−α_t) from the clock t/T, to broadcast over `like`."""
    t = (time.double() * schedule.T).round().long()
    return gather(np.sqrt(schedule.alpha), t, like), gather(np.sqrt(1 - schedule.alpha), t, like)


def optimal_variance(loss: np.ndarray, schedule: NoiseSchedule) -> np.ndarray:
    """The reverse variance that fits a decoder best, given its loss at each step (Bao et al. 2022).

    σ*² = β_t(1−α_{t−1})/(1−α_t) + (√α_{t−1}·β_t/(1−α_t))²·E‖x − x̂‖²/d, and E‖x − x̂‖²/d = loss·(1−α_t)/α_t. For
    the exact decoder the latter is E tr Cov[x|z_t]/d.

    Args:
        loss: shape (T+1,), the decoder's mean squared error of ε at t; entry 0 is not used.

    Returns:
        σ*² over t = 0…T, with 0 at t = 0.
    """
    _, x_weight, posterior = posterior_tables(schedule)
    return posterior + x_weight**2 * loss * (1 - schedule.alpha) / schedule.alpha
