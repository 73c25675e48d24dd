"""Controls: a CNN that sees further at the same size, and degradations whose latents are rounded to 8 bits."""

from functools import cached_property

import torch
from torch import Tensor

from ddpm_utils.cold.degradations import Context, Degradation
from ddpm_utils.networks.cnn import CNN
from ddpm_utils.shapes import Images, Step
from ddpm_utils.training.restorations import RestorationExperiment

DILATIONS = (1, 2, 4, 2)
DILATED = f"{__name__}:DilatedCNN"
CNN_SETTINGS = {"batch_size": 128, "learning_rate": 1e-3, "lr_schedule": "one_cycle"}
ROUNDED = ("blur",)
"""Degradations whose restorations are trained with rounded latents, too."""


class DilatedCNN(CNN):
    """The report's CNN with dilated 7×7 convolutions: equal weights in number, and a receptive field of 57 pixels.

    With dilations 1, 2, 4 and 2 and the last 3×3 layer, the output at one corner depends on the pixel at the opposite
    one. The report's CNN has a receptive field of 27 pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        for block, dilation in zip(self.blocks, DILATIONS, strict=True):
            convolution = block[0]
            convolution.dilation, convolution.padding = (dilation, dilation), (3 * dilation, 3 * dilation)


def to_8_bits(z: Images) -> Images:
    """Round to multiples of 1/255, the grey levels of an image file; latents are not bounded."""
    return (z * 255).round() / 255


class Rounded(Degradation):
    """D(x, t), rounded to 8 bits for t > 0: what a picture file keeps of a latent.

    Args:
        degradation: D.
    """

    def __init__(self, degradation: Degradation):
        self.degradation, self.T = degradation, degradation.T

    def __call__(self, x: Images, t: Step, context: Context | None = None) -> Images:
        """See `Degradation`."""
        z = self.degradation(x, t, context)
        moved = torch.as_tensor(t, device=z.device).reshape(-1, 1, 1, 1) > 0
        return torch.where(moved, to_8_bits(z), z)

    def draw_context(self, count: int, generator: torch.Generator, held_out: bool = False) -> Tensor:
        """See `Degradation`."""
        return self.degradation.draw_context(count, generator, held_out)


class RoundedExperiment(RestorationExperiment):
    """A restoration that is trained with latents rounded to 8 bits."""

    @cached_property
    def process(self) -> Degradation:
        """D, rounded."""
        return Rounded(super().process)

    @property
    def _slug(self) -> str:
        return f"{super()._slug}-8bits"

    @property
    def _identity(self) -> dict:
        return super()._identity | {"bits": 8}
