"""How errors travel on the way back, e_s = z_s − D(x, s), if R errs by r_t = R(z_t, t) − x.

    algorithm 1   e_s = D(x + r_t, s) − D(x, s)                          R's whole error, anew at each step
    algorithm 2   e_s = e_t − [Δ(x + r_t) − Δ(x)],  Δ = D(·, t) − D(·, s)    the start's error, and R's where D changes

so that |e_0| ≤ |e_T| + Σ Lip(Δ)·|r_t| for algorithm 2. Both hold for every D and every R; t and s are steps visited one
after the other, and the context is one and the same.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ddpm_utils.degradations import Context, Degradation, Images
from ddpm_utils.properties import lipschitz
from ddpm_utils.sampling import Latent


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
) -> Float[Tensor, " batch"]:
    """|e_T| + Σ Lip(Δ)·|r_t| of each image: no error of algorithm 2 is larger (norms over all pixels).

    Slow: one singular value decomposition for each step and image.
    """
    total, t = norms(start), degradation.T
    for latent in walk:
        slopes = [lipschitz(degradation, t, latent.t, c) for c in context.split(1)]
        total = total + torch.tensor(slopes).to(total) * norms(latent.x_hat - x)
        t = latent.t
    return total


def norms(images: Images) -> Float[Tensor, " batch"]:
    """The Euclidean norm of each image."""
    return torch.linalg.vector_norm(images.flatten(1), dim=1)
