"""What cold diffusion asks of D, as numbers: smooth in t, composable, invertible; how much of x is left in z_t.

Every D here is affine in the image for a given t and context, so that its invertibility is a matter of the singular
values of one matrix, `linear_map`: what lies along a direction of singular value 0 is lost, and to undo D is to divide
by the smallest one.

The second half follows errors on the way back, e_s = z_s − D(x, s), if R errs by r_t = R(z_t, t) − x:

    algorithm 1   e_s = D(x + r_t, s) − D(x, s)                          R's whole error, new at each step
    algorithm 2   e_s = e_t − [Δ(x + r_t) − Δ(x)],  Δ = D(·, t) − D(·, s)    the start's error, and R's where D changes

so that |e_0| ≤ |e_T| + Σ Lip(Δ)·|r_t| for algorithm 2. Both hold for every D and every R. Here t and s are two steps
visited one after the other, and the context is the same in all steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ddpm_utils.cold.degradations import Context, Degradation
from ddpm_utils.data.datasets import Part
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


def lipschitz(degradation: Degradation, t: int, s: int, context: Context) -> float:
    """The Lipschitz constant of D(·, t) − D(·, s) for one context: the largest singular value of the difference."""
    difference = linear_map(degradation, t, context) - linear_map(degradation, s, context)
    return torch.linalg.matrix_norm(difference, ord=2).item()


def step_sizes(degradation: Degradation, x: Images, context: Context) -> Float[Tensor, " steps"]:
    """How far z_t moves at each step: the root mean square of D(x, t) − D(x, t−1) over images and pixels, t = 1…T."""
    latents = [degradation(x, t, context) for t in range(degradation.T + 1)]
    return torch.stack(latents).diff(dim=0).square().flatten(1).mean(1).sqrt()


def composition_error(degradation: Degradation, x: Images, context: Context, s: int, t: int) -> float:
    """The largest |D(D(x, s), t) − D(x, s + t)|; 0 if degradations of one context compose, as blurs do."""
    twice = degradation(degradation(x, s, context), t, context)
    return (twice - degradation(x, s + t, context)).abs().max().item()


@torch.inference_mode()
def neighbour_accuracy(
    degradation: Degradation, known: Part, asked: Part, steps: Sequence[int], seed: int = 0
) -> list[float]:
    """How legible z_t still is: the share of images whose nearest neighbour among other z_t is of the same digit.

    Each image has a context of its own, so that noise counts as what it is to a reader who does not know it.

    Args:
        known: whose z_t are searched.
        asked: whose z_t are read.
    """
    generator = torch.Generator().manual_seed(seed)
    contexts = [degradation.draw_context(len(part), generator) for part in (known, asked)]
    shares = []
    for t in steps:
        latents = (degradation(p.images, t, c) for p, c in zip((known, asked), contexts, strict=True))
        there, here = (z.flatten(1).double() for z in latents)  # near T distances are small differences
        nearest = torch.cdist(here, there).argmin(1)
        shares.append((known.labels[nearest] == asked.labels).float().mean().item())
    return shares


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


def bound_2(
    walk: Sequence[Latent], degradation: Degradation, x: Images, context: Context, start: Images
) -> Float[Tensor, " n"]:
    """|e_T| + Σ Lip(Δ)·|r_t| of each image: no error of algorithm 2 is larger (norms over all pixels).

    Slow: one singular value decomposition for each step and image.
    """
    total, t = norms(start), degradation.T
    for latent in walk:
        slopes = [lipschitz(degradation, t, latent.t, c) for c in context.split(1)]
        total = total + torch.tensor(slopes).to(total) * norms(latent.x_hat - x)
        t = latent.t
    return total


def norms(images: Images) -> Float[Tensor, " n"]:
    """The Euclidean norm of each image."""
    return torch.linalg.vector_norm(images.flatten(1), dim=1)
