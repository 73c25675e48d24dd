"""Results of a long job by name, kept on disk as soon as each is known, so that a stopped job goes on."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float
from torch import Tensor

from ddpm_utils.data import scale
from ddpm_utils.sealed import read_json, write_json


class Ledger:
    """A JSON file of named results. What is in it is not computed again.

    Args:
        path: the file, which need not exist; its name should hold the hashes of what the results depend on.

    Raises:
        CheckpointError: if the file is damaged.
    """

    def __init__(self, path: Path):
        self.path = path
        self.results = read_json(path, "delete it to measure again") if path.exists() else {}

    def __call__(self, name: str, compute: Callable[[], Any]) -> Any:
        """The result of that name, computed and kept if it is not there; what JSON can hold."""
        if name not in self.results:
            self.results[name] = compute()
            write_json(self.path, self.results, indent=None)
        return self.results[name]


def compute_always(name: str, compute: Callable[[], Any]) -> Any:
    """In a ledger's place where nothing is to be kept."""
    return compute()


def to_text(images: Float[Tensor, "n 1 height width"]) -> str:
    """Images in [−0.5, 0.5], clamped, as the text of a PNG that holds them side by side."""
    pixels = ((images.clamp(-0.5, 0.5) + 0.5) * 255).round().byte()
    content = io.BytesIO()
    PIL.Image.fromarray(torch.cat(list(pixels), dim=-1)[0].numpy()).save(content, "png", optimize=True)
    return base64.b64encode(content.getvalue()).decode()


def to_images(text: str) -> Float[Tensor, "n 1 28 28"]:
    """What `to_text` made of square images, to the nearest of 256 grey levels."""
    pixels = torch.from_numpy(np.array(PIL.Image.open(io.BytesIO(base64.b64decode(text)))))
    return scale(torch.stack(pixels.split(len(pixels), dim=-1)))
