"""What public functions ask of the images that they are given: one sentence says what is wrong, and how to convert it.

They are checked once, where they come in, in one pass over their values; what is computed with them is not changed.
"""

from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-4  # of the range's ends: rounding errors of a conversion are smaller, a grey level is larger
SMALLEST = 20  # images on each side of a distance between two sets (FID, KID): fewer give arbitrary numbers
SHAPE = "(n, 1, height, width)"


def check_images(images: Any, name: str, *, overshoot: bool = False) -> None:
    """Refuse what are no images in [−0.5, 0.5]: a finite floating-point tensor of shape (n, 1, height, width), n ≥ 1.

    Args:
        name: what the sentence calls them.
        overshoot: they are outputs of a network, which may leave the range. Only what must be another range is
            refused: [0, 1] and 0…255 hold no value below 0, [−1, 1] has −1 as its smallest.

    Raises:
        ValueError: if they are something else; the sentence says how to convert them.
    """
    check_latents(images, name)
    low, high = (value.item() for value in images.detach().aminmax())
    if not -float("inf") < low <= high < float("inf"):  # one that is not a number makes both so
        bad = (~images.isfinite()).flatten(1).any(1).sum().item()
        raise ValueError(f"{name} must be finite, but {bad} of {len(images)} hold NaN or infinite values.")
    if overshoot and not (low >= 0 and high > 0.5) and not (low == -1 and high <= 1):
        return
    if low < -0.5 - TOLERANCE or high > 0.5 + TOLERANCE:
        raise ValueError(f"{name} must lie in [−0.5, 0.5], not in [{low:.4g}, {high:.4g}]: {_conversion(low, high)}.")


def _conversion(low: float, high: float) -> str:
    """How images of some other range get into [−0.5, 0.5]."""
    if low >= 0 and high <= 1:
        return "they look like [0, 1]; subtract 0.5"
    if low >= 0 and high <= 255:
        return "they look like 0…255; divide by 255, then subtract 0.5"
    if -1 <= low < -0.9 and high <= 1:
        return "they look like [−1, 1]; divide by 2"
    return "scale them linearly, or clamp(-0.5, 0.5) what overshoots"


def check_latents(images: Any, name: str) -> None:
    """Refuse what is no floating-point tensor of shape (n, 1, height, width), n ≥ 1; its values may be any.

    Raises:
        ValueError: if it is something else; the sentence says how to convert it.
    """
    check_floats(images, name)
    shape = tuple(images.shape)
    if len(shape) == 4 and shape[1] == 1 and images.numel():
        return
    remedy = ""
    if not images.numel():
        remedy = "give at least one image"
    elif len(shape) == 2:
        remedy = "add the other axes with [None, None]"
    elif len(shape) == 3:
        remedy = "add the missing axis, with unsqueeze(0) to one image and with unsqueeze(1) to several"
    elif len(shape) == 4 and shape[1] in (2, 3, 4):
        remedy = "make them grey with mean(1, keepdim=True)"
    elif len(shape) == 4 and shape[3] in (1, 3, 4):
        remedy = "put the channels second with permute(0, 3, 1, 2)" + (", then make them grey" if shape[3] > 1 else "")
    raise ValueError(f"{name} must have the shape {SHAPE}, not {shape}{remedy and ': '}{remedy}.")


def check_floats(values: Any, name: str) -> None:
    """Refuse what is no floating-point tensor; its shape may be any.

    Raises:
        ValueError: if it is something else; the sentence says how to convert it.
    """
    kind = type(values)
    if not isinstance(values, Tensor):
        remedies = {"numpy": "torch.from_numpy", "PIL": "torchvision's pil_to_tensor, then data.scale"}
        remedy = remedies.get(kind.__module__.partition(".")[0], "torch.tensor, or torch.stack a list of tensors")
        raise ValueError(f"{name} must be a torch tensor, not {kind.__name__}: convert with {remedy}.")
    if values.dtype == torch.uint8:
        raise ValueError(f"{name} must be floating-point, not torch.uint8: convert bytes 0…255 with data.scale.")
    if not values.is_floating_point():
        raise ValueError(f"{name} must be floating-point, not {values.dtype}: convert with float(), then to the range.")


def check_pixels(pixels: Any, name: str) -> None:
    """Refuse what are no bytes 0…255 of shape (n, height, width).

    Raises:
        ValueError: if they are something else; the sentence says how to convert them.
    """
    if not isinstance(pixels, Tensor):
        check_floats(pixels, name)
    if pixels.dtype != torch.uint8:
        remedy = "bytes 0…255 in another type need to(torch.uint8); floats in [0, 1] need no scale, but subtract 0.5"
        raise ValueError(f"{name} must be torch.uint8, not {pixels.dtype}: {remedy}.")
    if pixels.ndim != 3:
        remedy = ": take the channel's axis away with squeeze(1)" if pixels.ndim == 4 and pixels.shape[1] == 1 else ""
        raise ValueError(f"{name} must have the shape (n, height, width), not {tuple(pixels.shape)}{remedy}.")


def check_counts(**sets: Any) -> None:
    """Refuse sets of images that are too small for a distance between them.

    Raises:
        ValueError: if one of them has fewer than `SMALLEST`.
    """
    for name, images in sets.items():
        if len(images) < SMALLEST:
            raise ValueError(
                f"FID and KID need at least {SMALLEST} images on each side, but there are {len(images)} {name} ones."
            )
