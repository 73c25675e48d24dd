"""Images changed in known ways, to see what a metric detects and what it misses."""

import torch
from torch import Tensor

from ddpm_utils.data.datasets import Part
from ddpm_utils.randomness import generator_for


def distortions(part: Part, *, seed: int = 0) -> dict[str, Tensor]:
    """Images changed in ways that metrics judge differently; each of shape (n, 1, 28, 28) in [−0.5, 0.5]."""
    import torchvision.transforms.v2.functional as transforms  # here, since this import takes seconds

    x = part.images
    noise = torch.randn(x.shape, generator=generator_for(seed, "distortion"))
    partner = torch.arange(len(part))
    for digit in part.labels.unique():
        members = (part.labels == digit).nonzero().flatten()
        partner[members] = members.roll(1)
    return {
        "original": x,
        "shifted 2 pixels": transforms.affine(x, 0, [2, 0], 1, [0], fill=-0.5),
        "half contrast": x / 2 - 0.25,
        "noise, σ = 0.2": (x + 0.2 * noise).clamp(-0.5, 0.5),
        "blurred": transforms.gaussian_blur(x, [11, 11], [2.0, 2.0]),
        "another, same class": x[partner],
    }
