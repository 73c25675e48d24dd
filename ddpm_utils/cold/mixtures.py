"""Degradations that mix x with something else: noise, another image, a spreading mask; and all of them by name.

See `degradations` for what they share.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ddpm_utils import data
from ddpm_utils.cold.degradations import (
    Context,
    Degradation,
    DownSampling,
    GaussianBlur,
    HeatBlur,
    RowColumnAveraging,
    check,
    required,
    steps,
)
from ddpm_utils.diffusion import schedules
from ddpm_utils.diffusion.schedules import gather
from ddpm_utils.shapes import SIZE, Images, Step
from ddpm_utils.system.errors import DataError

Draw = Callable[[int, torch.Generator, bool], Tensor]
STRIDE = 7  # pixels between two cut-outs of a photograph
HELD_OUT = 0.2  # share of each photograph, at its right edge, that training never sees


class Mixture(Degradation):
    """D(x, t, c) = a_t·x + b_t·c: the image fades out while the context c, of an image's shape, fades in.

    Args:
        signal, weight: a_t and b_t over t = 0…T; a_0 = 1, b_0 = 0 and b_t > 0 for t > 0.
        draw: (count, generator, held_out) → contexts, see `Degradation.draw_context`.
    """

    def __init__(self, signal: np.ndarray, weight: np.ndarray, draw: Draw):
        self.signal, self.weight, self.draw = signal, weight, draw
        self.T = len(signal) - 1

    def __call__(self, x: Images, t: Step, context: Context | None = None) -> Images:
        """See `Degradation`."""
        return gather(self.signal, t, x) * x + gather(self.weight, t, x) * required(context, self)

    def draw_context(self, count: int, generator: torch.Generator, held_out: bool = False) -> Images:
        """See `Degradation`."""
        return self.draw(count, generator, held_out)

    def estimate_context(self, z: Images, x_hat: Images, t: int) -> Images:
        """(z_t − a_t·x̂)/b_t: for Gaussian noise this is DDIM's ε̂."""
        return (z - float(self.signal[t]) * x_hat) / float(self.weight[t])


def draw_noise(count: int, generator: torch.Generator, held_out: bool = False) -> Images:
    """ε ~ N(0, I)."""
    return torch.randn((count, 1, SIZE, SIZE), generator=generator)


def noise(T: int = 1000, severity: float = 1.0) -> Mixture:
    """z_t = √α_t·x + √(1−α_t)·ε on the cosine schedule: hot diffusion's D (Ho et al. 2020).

    Args:
        T: the number of steps.
        severity: in (0, 1]: the share of the cosine schedule that the T steps go through.

    Raises:
        ValueError: if one of them is out of range.
    """
    signal, deviation = _cosine(T, severity)
    return Mixture(signal, deviation, draw_noise)


def flow(T: int = 100, severity: float = 1.0) -> Mixture:
    """z = (1−s)·x + s·ε with s = severity·t/T: the straight line of flow matching (Lipman et al. 2023).

    With the estimated ε, algorithm 2 is Euler's method on the learnt flow.

    Raises:
        ValueError: if T or the severity, in (0, 1], is out of range.
    """
    T, severity = check(T, severity, most=1)
    s = severity * np.arange(T + 1) / T
    return Mixture(1 - s, s, draw_noise)


def morph(partners: Callable[[], tuple[Tensor, Tensor]], T: int = 100, severity: float = 1.0) -> Mixture:
    """z_t = √α_t·x + √(1−α_t)·c on the cosine schedule, with another image c in the place of noise.

    Args:
        partners: loads what to draw c from, in training and held out, (n, 1, 28, 28) each (see
            `load_partners`), when a context is first drawn.
        T: the number of steps.
        severity: in (0, 1]: the share of the cosine schedule that the T steps go through.

    Raises:
        ValueError: if T or severity is out of range.
    """
    loaded = cache(partners)

    def draw(count: int, generator: torch.Generator, held_out: bool = False) -> Images:
        images = loaded()[held_out]
        return images[torch.randint(len(images), (count,), generator=generator)]

    signal, weight = _cosine(T, severity)
    return Mixture(signal, weight, draw)


def _cosine(T: int, severity: float) -> tuple[np.ndarray, np.ndarray]:
    """√α_t and √(1−α_t) of the first T steps of a cosine schedule of T/severity steps."""
    T, severity = check(T, severity, most=1)
    if T / severity > schedules.LARGEST_T:
        raise ValueError(
            f"severity must be at least T/{schedules.LARGEST_T} = {T / schedules.LARGEST_T:g}, not {severity!r}."
        )
    alpha = schedules.cosine(T=round(T / severity)).alpha[: T + 1]
    return np.sqrt(alpha), np.sqrt(1 - alpha)


class GaussianFade(Degradation):
    """A dark hole that spreads from one pixel: D = m_t·(x + 0.5) − 0.5 (after the inpainting of Bansal et al. 2022).

    The mask m_t = ∏_{s≤t} (1 − exp(−r²/2v_s)) depends on the distance r to the hole's centre, which is the context;
    its width √v_s grows evenly from 1 pixel to 28·severity.

    Args:
        T: the number of steps.
        severity: the last width over the image's; 1 leaves (nearly) nothing.

    Raises:
        ValueError: if one of them is out of range.
    """

    def __init__(self, T: int = 50, severity: float = 1.0):
        T, severity = check(T, severity)
        self.T = T
        width = torch.linspace(1, SIZE * severity, T, dtype=torch.float64)
        squared = torch.arange(2 * (SIZE - 1) ** 2 + 1)  # r², for a centre on a pixel an integer
        factors = -torch.expm1(-squared / (2 * width[:, None] ** 2))
        self.masks = torch.cat([torch.ones(1, len(squared)).double(), factors.cumprod(0)]).float()  # (T+1, r²)

    def __call__(self, x: Images, t: Step, context: Context | None = None) -> Images:
        """See `Degradation`; context: the centre's row and column, of shape (batch, 2), whole numbers in 0…27."""
        return self.mask(steps(t, self.T, x), required(context, self).to(x.device)).to(x) * (x + 0.5) - 0.5

    def mask(self, t: Tensor, centre: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch 1 28 28"]:
        """m_t, in [0, 1]."""
        pixels = torch.arange(SIZE, device=centre.device)
        rows, columns = ((pixels - place[:, None]).square() for place in centre.unbind(1))
        squared = (rows[:, :, None] + columns[:, None, :]).long()
        return self.masks.to(centre.device)[t.reshape(-1, 1, 1), squared].unsqueeze(1)

    def draw_context(self, count: int, generator: torch.Generator, held_out: bool = False) -> Context:
        """The centre, uniform over the pixels."""
        return torch.randint(SIZE, (count, 2), generator=generator).float()


def load_partners() -> tuple[Images, Float[Tensor, "m 1 28 28"], str]:
    """Images to train on, held-out ones, both in [−0.5, 0.5], and one line that says what they are.

    Half of the training images are Fashion-MNIST's, half are cut out of photographs, so that a network knows both;
    held-out images are Fashion-MNIST's test images. Where Fashion-MNIST cannot be had all are cut-outs.
    """
    cut_outs, others = photo_patches()
    try:
        fashion = data.load("fashion_mnist")
    except DataError:
        line = (
            "Digits morph into cut-outs of photographs that scikit-learn ships, since Fashion-MNIST cannot be had here."
        )
        return cut_outs, others, line
    repeats = -(-len(fashion.train) // len(cut_outs))
    train = torch.cat([fashion.train.images, cut_outs.repeat(repeats, 1, 1, 1)[: len(fashion.train)]])
    return train, fashion.test.images, f"Digits morph into Fashion-MNIST's test images. {fashion.source}"


def photo_patches() -> tuple[Images, Float[Tensor, "m 1 28 28"]]:
    """Grey 28 × 28 cut-outs of the two photographs that scikit-learn ships, at half size: for training and held out."""
    from sklearn.datasets import load_sample_images  # here, since these imports take seconds
    from torchvision.transforms.v2.functional import rgb_to_grayscale

    train: list[Tensor] = []
    held_out: list[Tensor] = []
    for photograph in load_sample_images().images:
        grey = rgb_to_grayscale(torch.tensor(photograph).permute(2, 0, 1)).float()[None] / 255 - 0.5
        small = F.avg_pool2d(grey, 2)
        border = round(small.shape[-1] * (1 - HELD_OUT))
        for part, kept in ((small[..., :border], train), (small[..., border:], held_out)):
            patches = F.unfold(part, 28, stride=STRIDE)[0].T
            kept.append(patches.reshape(-1, 1, 28, 28))
    return torch.cat(train), torch.cat(held_out)


DEGRADATIONS: dict[str, tuple[Callable[..., Degradation], int]] = {
    "noise": (noise, 1000),
    "flow": (flow, 100),
    "morph": (lambda T, severity: morph(lambda: load_partners()[:2], T, severity), 100),
    "blur": (GaussianBlur, 100),
    "heat": (HeatBlur, 100),
    "downsampling": (DownSampling, 27),
    "averaging": (RowColumnAveraging, 50),
    "fade": (GaussianFade, 50),
}
"""The degradations by name, what the notebook's `degradation` parameter may be, and the T of each by default."""
