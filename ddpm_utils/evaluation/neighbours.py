"""Distances to the nearest training images: what needs no features, and shows copies."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddpm_utils.checks import check_images
from ddpm_utils.data import Dataset
from ddpm_utils.shapes import Images

BATCH = 128
COPY = 1 / 3  # of the distance to the second nearest training image; a sample that is nearer to the nearest is a copy


def nearest(images: Images, among: Float[Tensor, "m 1 height width"]) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Root mean squared distance per pixel to the nearest of other images, and which it is."""
    check_images(images, "images", overshoot=True)
    check_images(among, "among")
    distances, indices = _closest(images, among, 1)
    return distances[:, 0], indices[:, 0]


def neighbours(images: Images, dataset: Dataset) -> dict[str, float]:
    """Compare images with the nearest training images, in ways that need no features.

    Args:
        images: shape (n, 1, 28, 28), n at least 1; they are clamped to [−0.5, 0.5].

    Returns:
        "nearest": the median of the distances to the nearest training image (root mean squared difference of pixels);
        "copies": the share of images whose distance is below a third of that to the second nearest training image
        (Yoon et al. 2023).
    """
    check_images(images, "images", overshoot=True)
    distances, _ = _closest(images.clamp(-0.5, 0.5), dataset.train.images, 2)
    copies = distances[:, 0] <= COPY * distances[:, 1]
    return {"nearest": distances[:, 0].median().item(), "copies": copies.float().mean().item()}


def _closest(images: Images, among: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The distances (n, count) to the closest of other images, smallest first, and which they are."""
    flat = among.flatten(1)
    found = [torch.cdist(part.flatten(1), flat).topk(count, largest=False) for part in images.split(BATCH)]
    distances = torch.cat([part.values for part in found]) / flat.shape[1] ** 0.5
    return distances, torch.cat([part.indices for part in found])
