"""Distances to the nearest training images: what needs no features, and shows copies."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddpm_utils.data.checks import check_images
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.shapes import Images

BATCH = 128
COPY = 1 / 3  # a copy is this much nearer to its nearest training image than to the second nearest


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
        "copies": the share of images that are at least three times as near to one training image as to any other
        (Yoon et al. 2023).
    """
    check_images(images, "images", overshoot=True)
    distances, _ = _closest(images.clamp(-0.5, 0.5), dataset.train.images, 2)
    copies = distances[:, 0] <= COPY * distances[:, 1]
    return {"nearest": distances[:, 0].median().item(), "copies": copies.float().mean().item()}


def _closest(images: Images, among: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The distances (n, count) to the closest of other images, smallest first, and which they are."""
    flat = among.flatten(1)
    parts = [torch.cdist(part.flatten(1), flat).topk(count, largest=False).indices for part in images.split(BATCH)]
    indices = torch.cat(parts)
    difference = images.unsqueeze(1) - among[indices]  # small distances of cdist itself suffer from rounding
    distances, order = difference.square().flatten(2).mean(2).sqrt().sort(1)
    return distances, indices.gather(1, order)
