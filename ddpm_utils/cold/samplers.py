"""Cold samplers: from z_T, or any z_t, back to an image by a restoration R(z_t, t/T) → estimate of x.

All share one signature, `sampler(restore, degradation, z, context, noise, …)`, and are generators of latents:

    direct   x̂ = R(z_t, t/T), once
    cold_1   z_s = D(x̂, s, c)                        algorithm 1 of Bansal et al. (2022)
    cold_2   z_s = z_t − D(x̂, t, c) + D(x̂, s, c)    algorithm 2 of Bansal et al. (2022)

with x̂ = R(z_t, t/T) and s the next step to visit, t − 1 if all are. The context c is known, or a rule makes it at each
step: `estimated` solves z_t = D(x̂, t, c) for it, as DDIM does; `fresh` draws a new one.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ddpm_utils.cold.degradations import Degradation
from ddpm_utils.diffusion.samplers import Latent, estimate, fresh_noise
from ddpm_utils.randomness import Noise
from ddpm_utils.shapes import Network

Rule = Callable[[Tensor, Tensor, int], Tensor]  # (z_t, x̂, t) → context


def direct(
    restore: Network,
    degradation: Degradation,
    z: Tensor,
    context: Tensor | Rule,
    noise: Noise | None = None,
    *,
    steps: Sequence[int] | None = None,
    sigma: float = 0.0,
) -> Iterator[Latent]:
    """x̂ = R(z_t, t/T) with t the last of the steps; arguments as for `cold_1`. Yields one `Latent`, t = 0."""
    t, _ = next(downward(steps, degradation.T))
    x_hat = estimate(restore, z, t / degradation.T)
    yield Latent(0, x_hat, x_hat)


def cold_1(
    restore: Network,
    degradation: Degradation,
    z: Tensor,
    context: Tensor | Rule,
    noise: Noise | None = None,
    *,
    steps: Sequence[int] | None = None,
    sigma: float = 0.0,
) -> Iterator[Latent]:
    """z_s = D(x̂, s, c) + σ·ε, with a fresh ε at each step but the last (Bansal et al. 2022, algorithm 1).

    Args:
        restore: R(z, t/T), estimates x; z (batch, …), t/T (batch,).
        degradation: D.
        z: the latents at the last of the steps.
        context: c, one for each image, or the rule that makes it.
        noise: gives ε of z's shape; not needed if σ = 0.
        steps: the t's to visit, increasing; by default 1…T.
        sigma: σ, what R was trained with (see `objectives.Restoration`).

    Yields:
        `Latent` for each step but the last, downward, and for t = 0.
    """
    for t, s in downward(steps, degradation.T):
        x_hat = estimate(restore, z, t / degradation.T)
        z = degradation(x_hat, s, chosen(context, z, x_hat, t))
        if sigma and s > 0:
            z = z + sigma * fresh_noise(noise, z)
        yield Latent(s, z, x_hat)


def cold_2(
    restore: Network,
    degradation: Degradation,
    z: Tensor,
    context: Tensor | Rule,
    noise: Noise | None = None,
    *,
    steps: Sequence[int] | None = None,
    sigma: float = 0.0,
) -> Iterator[Latent]:
    """z_s = z_t − D(x̂, t, c) + D(x̂, s, c) (Bansal et al. 2022, algorithm 2).

    The start's σ·ε stays in every z_t, so that with a σ the last latent is x̂ itself. Arguments and result otherwise as
    for `cold_1`.
    """
    for t, s in downward(steps, degradation.T):
        x_hat = estimate(restore, z, t / degradation.T)
        c = chosen(context, z, x_hat, t)
        z = x_hat if sigma and s == 0 else z - degradation(x_hat, t, c) + degradation(x_hat, s, c)
        yield Latent(s, z, x_hat)


ALGORITHMS = {"direct": direct, "1": cold_1, "2": cold_2}
"""The ways back, by the names that tables and parameters give them."""


def estimated(degradation: Degradation) -> Rule:
    """The context with which x̂ would have become z_t. With Gaussian noise: both algorithms are DDIM with η = 0."""
    return degradation.estimate_context


def fresh(draw: Callable[[], Tensor]) -> Rule:
    """A new context at each step, whatever z_t is.

    Args:
        draw: gives one for each image of the batch, such as `Noise`.
    """
    return lambda z, x_hat, t: draw().to(z)


def chosen(context: Tensor | Rule, z: Tensor, x_hat: Tensor, t: int) -> Tensor:
    """The context of one step."""
    return context if isinstance(context, torch.Tensor) else context(z, x_hat, t)


def downward(steps: Sequence[int] | None, T: int) -> Iterator[tuple[int, int]]:
    """The pairs (t, next step) from the last of the steps down to 0.

    Raises:
        ValueError: if the steps do not increase, or leave 1…T.
    """
    visited = [0, *(range(1, T + 1) if steps is None else steps)]
    if len(visited) < 2 or visited[-1] > T or any(b <= a for a, b in pairwise(visited)):
        raise ValueError(f"steps must increase and lie in 1…{T}.")
    return pairwise(reversed(visited))
