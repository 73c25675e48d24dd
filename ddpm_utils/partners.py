"""The images that digits morph into: real ones, that are no digits."""

import torch
from jaxtyping import Float
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import rgb_to_grayscale

from ddpm_utils import data

Images = Float[Tensor, "n 1 28 28"]
HeldOut = Float[Tensor, "m 1 28 28"]

STRIDE = 7  # pixels between two cut-outs of a photograph
HELD_OUT = 0.2  # share of each photograph, at its right edge, that training never sees


def load_partners() -> tuple[Images, HeldOut, str]:
    """Images to train on, held-out ones, both in [−0.5, 0.5], and one line that says what they are.

    Half of the training images are Fashion-MNIST's, half are cut out of photographs, so that a network knows both;
    held-out images are Fashion-MNIST's test images. Where Fashion-MNIST cannot be had all are cut-outs.
    """
    cut_outs, others = photo_patches()
    try:
        fashion = data.load("fashion_mnist")
    except data.DataError:
        line = (
            "Digits morph into cut-outs of photographs that scikit-learn ships, since Fashion-MNIST cannot be had here."
        )
        return cut_outs, others, line
    repeats = -(-len(fashion.train) // len(cut_outs))
    train = torch.cat([fashion.train.images, cut_outs.repeat(repeats, 1, 1, 1)[: len(fashion.train)]])
    return train, fashion.test.images, f"Digits morph into Fashion-MNIST's test images. {fashion.source}"


def photo_patches() -> tuple[Images, HeldOut]:
    """Grey 28 × 28 cut-outs of the two photographs that scikit-learn ships, at half size: for training and held out."""
    train, held_out = [], []
    for photograph in load_sample_images().images:
        grey = rgb_to_grayscale(torch.tensor(photograph).permute(2, 0, 1)).float()[None] / 255 - 0.5
        small = F.avg_pool2d(grey, 2)
        border = round(small.shape[-1] * (1 - HELD_OUT))
        for part, kept in ((small[..., :border], train), (small[..., border:], held_out)):
            patches = F.unfold(part, 28, stride=STRIDE)[0].T
            kept.append(patches.reshape(-1, 1, 28, 28))
    return torch.cat(train), torch.cat(held_out)
