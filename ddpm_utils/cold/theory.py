"""What cold diffusion asks of D, as numbers: smooth in t, composable, invertible; how much of x is left in z_t.

Every D here is affine in the image for a given t and context, so that its invertibility is a matter of the singular
values of one matrix, `linear_map`: what lies along a direction of singular value 0 is lost, and to undo D is to divide
by the smallest one.

The second half follows errors on the way back, e_s = z_s − D(x, s), if R errs by r_t = R(z_t, t) − x:

    algorithm 1   e_s = D(x + r_t, s) − D(x, s)                          R's whole error, new at each step
    algorithm 2   e_s = e_t − [Δ(x + r_t) − Δ(x)],  Δ = D(·, t) − D(·, s)    the start's error, and R's where D changes

Both hold for every D and every R. Here t and s are two steps visited one after the other. All steps have one context.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ddpm_utils.cold.degradations import Context, Degradation
from ddpm_utils.diffusion.samplers import Latent
from ddpm_utils.shapes import SIZE, Images

PIXELS = SIZE * SIZE
GREY_LEVEL = 1 / 255  # what an image in bytes tells apart


class Invertibility(NamedTuple):
    """What the singular values of D at one t say."""

    rank: int  # of 784, in double precision; below 784 D is not injective
    growth: float  # 1 over the smallest singular value: how much an error of z_t can grow; inf if rank < 784
    visible: int  # directions in which a full swing of the image still changes z_t by a grey level, 1/255


def linear_map(degradation: Degradation, t: int, context: Context) -> Float64[Tensor, "784 784"]:
    """A with D(x, t, context) = A·x + const for one context: unit images sent through D.

    Args:
        context: of one trajectory, shape (1, …).
    """
    units = torch.eye(PIXELS, dtype=torch.float64).reshape(-1, 1, SIZE, SIZE)
    contexts = context.expand(PIXELS, *context.shape[1:])
    return (degradation(units, t, contexts) - degradation(torch.zeros_like(units), t, contexts)).flatten(1).T


def singular_values(degradation: Degradation, t: int, context: Context) -> Float64[Tensor, "784"]:
    """Of `linear_map`, in falling order."""
    return torch.linalg.svdvals(linear_map(degradation, t, context))


def invertibility(values: Float64[Tensor, "784"]) -> Invertibility:
    """Rank, growth and visible directions from the singular values of D at one t."""
    rank = int((values > values[0] * PIXELS * torch.finfo(torch.float64).eps).sum())
    growth = 1 / values[-1].item() if rank == PIXELS else float("inf")
    return Invertibility(rank, growth, int((values > GREY_LEVEL).sum()))


def step_sizes(degradation: Degradation, x: Images, context: Context) -> Float[Tensor, " steps"]:
    """How far z_t moves at each step: the root mean square of D(x, t) − D(x, t−1) over images and pixels, t = 1…T."""
    latents = [degradation(x, t, context) for t in range(degradation.T + 1)]
    return torch.stack(latents).diff(dim=0).square().flatten(1).mean(1).sqrt()


def composition_error(degradation: Degradation, x: Images, context: Context, s: int, t: int) -> float:
    """The largest |D(D(x, s), t) − D(x, s + t)|; 0 if degradations of one context compose, as blurs do."""
    twice = degradation(degradation(x, s, context), t, context)
    return (twice - degradation(x, s + t, context)).abs().max().item()


def measured(walk: Sequence[Latent], degradation: Degradation, x: Images, context: Context) -> list[Images]:
    """e_s = z_s − D(x, s, context) along a walk."""
    return [latent.z - degradation(x, latent.t, context) for latent in walk]


def recursion_1(walk: Sequence[Latent], degradation: Degradation, x: Images, context: Context) -> list[Images]:
    """What algorithm 1's recursion says of e_s, from R's errors x̂ − x alone."""
    return [degradation(w.x_hat, w.t, context) - degradation(x, w.t, context) for w in walk]


def recursion_2(
    walk: Sequence[Latent], degradation: Degradation, x: Images, context: Context, start: Images
) -> list[Images]:
    """What algorithm 2's recursion says of e_s, from R's errors and the start's.

    Args:
        start: e_T = z_T − D(x, T, context).
    """
    errors, error, t = [], start, degradation.T
    for latent in walk:
        there, here = (degradation(latent.x_hat, s, context) - degradation(x, s, context) for s in (t, latent.t))
        error, t = error - (there - here), latent.t
        errors.append(error)
    return errors
