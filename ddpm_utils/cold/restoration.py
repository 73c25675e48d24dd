"""Images images degraded, and walked back in batches by `cold`'s samplers: for notebooks, panels and measurements."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddpm_utils.cold.degradations import Degradation
from ddpm_utils.cold.samplers import ALGORITHMS, Rule, estimated, fresh
from ddpm_utils.data.checks import check_images
from ddpm_utils.diffusion.samplers import Latent, joined
from ddpm_utils.names import choose
from ddpm_utils.randomness import Noise, generator_for
from ddpm_utils.shapes import Images, Network

RULES = ("known", "estimated", "fresh")
"""The samplers' context: the one that degraded the image, what z_t and x̂ say of it, or a new one at each step."""
BATCH = 250


def default_rule(degradation: Degradation) -> str:
    """The rule "estimated" for a D that can be solved for its context; else "known", as is a hole that one repairs."""
    solvable = type(degradation).estimate_context is not Degradation.estimate_context
    return "estimated" if solvable else "known"


def visited(T: int, most: int, last: int | None = None) -> list[int]:
    """At most so many of the steps 1…last (T if None), evenly spread, with the last among them."""
    last = T if last is None else last
    return sorted({max(1, round(last * k / most)) for k in range(1, most + 1)})


def stations(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of the t's that a walk over these steps arrives at, evenly spread, 0 among them."""
    arrivals = [0, *steps[:-1]]
    spread = np.linspace(0, len(arrivals) - 1, min(most, len(arrivals)))
    return [arrivals[round(place)] for place in spread]


def degrade(
    degradation: Degradation, images: Images, t: int | None = None, *, sigma: float = 0.0, seed: int = 0
) -> tuple[Images, Tensor]:
    """z_t = D(x, t, context) + σε of each image (z_T if t is None), with a held-out context each; and the contexts."""
    check_images(images, "images")
    context = degradation.draw_context(len(images), generator_for(seed, "context"), held_out=True)
    z = degradation(images, degradation.T if t is None else t, context)
    noise = torch.randn(z.shape, generator=generator_for(seed, "sigma")) if sigma and t != 0 else 0.0
    return z + sigma * noise, context


@torch.inference_mode()
def restore(
    network: Network,
    degradation: Degradation,
    z: Images,
    context: Tensor,
    algorithm: str,
    *,
    rule: str | None = None,
    steps: Sequence[int] | None = None,
    sigma: float = 0.0,
    keep: Sequence[int] = (),
) -> tuple[Images, dict[int, Latent]]:
    """Walk back from z in batches.

    Args:
        network: R(z, t/T).
        z: latents at the last of the steps.
        context: of each; what the algorithm makes of it depends on the rule.
        algorithm: one of `samplers.ALGORITHMS`.
        rule: one of `RULES`; by default `default_rule`.
        steps: the t's to visit; by default all.
        sigma: σ that the network was trained with.
        keep: the t's whose latents to return as well.

    Returns:
        the images, and the latents by t.

    Raises:
        ValueError: if the algorithm or the rule is unknown.
    """
    rule = choose("rule", rule or default_rule(degradation), RULES)
    algorithm = choose("algorithm", algorithm, ALGORITHMS)
    images: list[Tensor] = []
    kept: dict[int, list[Latent]] = {t: [] for t in keep}
    for first in range(0, len(z), BATCH):
        part = slice(first, first + BATCH)
        noise = Noise(range(first, first + len(z[part])))
        contexts: dict[str, Tensor | Rule] = {"known": context[part], "estimated": estimated(degradation)}
        walk = ALGORITHMS[algorithm](
            network, degradation, z[part], (contexts | {"fresh": fresh(noise)})[rule], noise, steps=steps, sigma=sigma
        )
        for latent in walk:
            if latent.t in kept:
                kept[latent.t].append(latent)
        images.append(latent.z)
    return torch.cat(images), {t: joined(found) for t, found in kept.items()}


def there_and_back(
    network: Network,
    degradation: Degradation,
    images: Images,
    t: int,
    algorithm: str,
    *,
    sigma: float = 0.0,
    calls: int = 24,
    shown: int = 7,
    seed: int = 0,
) -> tuple[Float[Tensor, "stages n 1 28 28"], Float[Tensor, "latents n 1 28 28"]]:
    """The images' way to z_t, and the way back to an estimate of them: what a panel shows.

    Args:
        t: how far to go, in 1…T.
        algorithm, sigma: see `restore`.
        calls: at most so many steps on the way back.
        shown: so many latents of each way, at most.

    Returns:
        z_0 = x … z_t, and the latents of the way back, the estimate first.
    """
    z, context = degrade(degradation, images, t, sigma=sigma, seed=seed)
    stages = [degradation(images, s, context) for s in stations([*range(1, t + 1), t + 1], shown)]
    steps = visited(degradation.T, calls, t)
    keep = [0] if algorithm == "direct" else stations(steps, shown)
    _, latents = restore(network, degradation, z, context, algorithm, steps=steps, sigma=sigma, keep=keep)
    return torch.stack([*stages[:-1], z]), torch.stack([latents[s].z for s in keep])
