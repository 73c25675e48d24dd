"""The encoder: q(z_t|z_{t−1}), q(z_t|x) and the posterior q(z_{t−1}|z_t, x), all Gaussian.

Every function takes images of any shape (batch, …) in the data's range [−0.5, 0.5] (latents are not
bounded), and t as one integer for the whole batch or a tensor of shape (batch,).
"""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ddpm_utils.data.checks import check_floats
from ddpm_utils.diffusion.schedules import NoiseSchedule, gather
from ddpm_utils.shapes import Step


def diffuse_step(
    z: Float[Tensor, "n ..."], t: Step, noise: Float[Tensor, "n ..."], schedule: NoiseSchedule
) -> Float[Tensor, "n ..."]:
    """One step, z_{t−1} → z_t: z_t = √(1−β_t)·z_{t−1} + √β_t·ε_t (equation 1).

    Args:
        z: z_{t−1}.
        t: the step to arrive at, 0…T; β_0 = 0 leaves z as it is.
        noise: ε_t ~ N(0, I), of z's shape.

    Raises:
        ValueError: if t is outside 0…T, or the images are no floating-point tensor.
    """
    check_floats(z, "z")
    beta = schedule.beta
    return gather(np.sqrt(1 - beta), t, z) * z + gather(np.sqrt(beta), t, z) * noise


def diffuse(
    x: Float[Tensor, "n ..."], t: Step, noise: Float[Tensor, "n ..."], schedule: NoiseSchedule
) -> Float[Tensor, "n ..."]:
    """The jump, x → z_t: z_t = √α_t·x + √(1−α_t)·ε (equation 2).

    Args:
        x: clean images.
        t: the step to arrive at, 0…T; z_0 = x.
        noise: ε ~ N(0, I), of x's shape.

    Raises:
        ValueError: if t is outside 0…T, or the images are no floating-point tensor.
    """
    check_floats(x, "x")
    alpha = schedule.alpha
    return gather(np.sqrt(alpha), t, x) * x + gather(np.sqrt(1 - alpha), t, x) * noise


def posterior(
    z: Float[Tensor, "n ..."], x: Float[Tensor, "n ..."], t: Step, schedule: NoiseSchedule
) -> tuple[Float[Tensor, "n ..."], Tensor]:
    """Mean and variance of q(z_{t−1}|z_t, x) (Prince 2023, eq. 18.15; Ho et al. 2020, eq. 7).

    mean = [(1−α_{t−1})√(1−β_t)·z_t + √α_{t−1}·β_t·x] / (1−α_t),  variance = β_t(1−α_{t−1})/(1−α_t).

    Args:
        z: z_t.
        x: the clean images that z_t came from.
        t: 0…T; step 0 is the identity, mean z_0 and variance 0.

    Returns:
        the mean, of z's shape, and the variance of every pixel, of shape (batch or 1, 1, …).

    Raises:
        ValueError: if t is outside 0…T, or the images are no floating-point tensor.
    """
    check_floats(z, "z")
    check_floats(x, "x")
    z_weight, x_weight, variance = posterior_tables(schedule)
    return gather(z_weight, t, z) * z + gather(x_weight, t, z) * x, gather(variance, t, z)


def posterior_tables(schedule: NoiseSchedule) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What z_t and x weigh in the posterior's mean, and its variance, over t = 0…T: three of shape (T+1,)."""
    beta, alpha, before = schedule.beta[1:], schedule.alpha[1:], schedule.alpha[:-1]
    z_weight = (1 - before) * np.sqrt(1 - beta) / (1 - alpha)
    x_weight = np.sqrt(before) * beta / (1 - alpha)
    variance = beta * (1 - before) / (1 - alpha)
    return np.append(1.0, z_weight), np.append(0.0, x_weight), np.append(0.0, variance)
