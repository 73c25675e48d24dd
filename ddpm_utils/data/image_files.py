"""Folders of pictures in any format as uint8 pixels of 28 × 28."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from jaxtyping import UInt8
from torch import Tensor

from ddpm_utils.shapes import SIZE
from ddpm_utils.system.errors import DataError

FEWEST = 200  # images in a folder: 128 of them, one batch, are trained on
PARTS = {"train": "train", "training": "train", "validation": "validation", "val": "validation", "test": "test"}
"""Folders that name a part of a data set."""
Pixels = UInt8[Tensor, "n 28 28"]
Labels = UInt8[Tensor, " n"]


class Pictures(NamedTuple):
    """The images of a folder, fitted into 28 × 28, in their order."""

    pixels: Pixels
    labels: Labels
    parts: tuple[str, ...]  # of each image: "train", "validation" or "test"; "" if the folder does not say


def read_folder(folder: Path) -> Pictures:
    """Read all images of a folder and its sub-folders, in any format that Pillow reads.

    Sub-folders called train, validation (or val) and test are the parts of a data set; below them, or directly in the
    folder, a sub-folder is a class. Images are in the order of their file names, and img2 comes before img10.

    Raises:
        DataError: if there are fewer than 200 images or more than 256 classes, or an image cannot be read.
    """
    PIL.Image.init()
    paths = [path for path in folder.rglob("*") if _is_image(path, folder)]
    paths.sort(key=lambda path: _order(path, folder))
    if len(paths) < FEWEST:
        raise DataError(f"{folder} holds {len(paths)} images that Pillow can read; at least {FEWEST} are needed.")
    stats = [path.stat() for path in paths]
    return _read(tuple(paths), folder, tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))


def _is_image(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
    return path.suffix.lower() in PIL.Image.EXTENSION and not hidden and path.is_file()


def _order(path: Path, folder: Path) -> list:
    """File name first, so that images that were numbered before they were sorted into classes keep their order."""
    text = f"{path.name}/{path.relative_to(folder).parent}"
    return [(int(run), "") if run.isdigit() else (-1, run) for run in re.split(r"(\d+)", text)]


@lru_cache(maxsize=2)
def _read(paths: tuple[Path, ...], folder: Path, _stamps: tuple) -> Pictures:
    """Decode images; the stamps make sure that a changed file is read again."""
    parts, classes = zip(*(_place(path.relative_to(folder).parts[:-1]) for path in paths), strict=True)
    names = sorted(set(classes))
    if len(names) > 256:
        raise DataError(f"{folder} holds {len(names)} sub-folders, each of which is a class; at most 256 are allowed.")
    pixels = torch.from_numpy(np.stack(list(_decoded(paths))))
    return Pictures(pixels, torch.tensor([names.index(name) for name in classes], dtype=torch.uint8), parts)


def _place(folders: tuple[str, ...]) -> tuple[str, str]:
    """The part and the class that an image's sub-folders name."""
    part = PARTS.get(folders[0].lower(), "") if folders else ""
    return part, "/".join(folders[1:] if part else folders)


def _decoded(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    for path in paths:
        try:
            with PIL.Image.open(path) as image:
                yield np.asarray(fit(to_grey(PIL.ImageOps.exif_transpose(image))))
        except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
            raise DataError(f"{path} cannot be read as an image ({error}): repair it, or move it away.") from error


def to_grey(image: PIL.Image.Image) -> PIL.Image.Image:
    """Make an image grey, 8 bits. What is transparent becomes black; 16 bits are scaled to 8.

    Raises:
        ValueError: if its values have no known range (32-bit integers or floats).
    """
    if image.mode.startswith("I;16"):
        return PIL.Image.fromarray((np.asarray(image).astype(np.uint16) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its mode is {image.mode}, values without a known range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "black"), image).convert("L")
    return image.convert("L")


def fit(image: PIL.Image.Image) -> PIL.Image.Image:
    """Fit a grey image into 28 × 28 without distortion: Lanczos, then padded with the median of its border."""
    if image.size == (SIZE, SIZE):
        return image
    small = PIL.ImageOps.contain(image, (SIZE, SIZE), PIL.Image.Resampling.LANCZOS)
    rows = np.asarray(small)
    border = np.concatenate([rows[0], rows[-1], rows[1:-1, 0], rows[1:-1, -1]])
    return PIL.ImageOps.pad(small, (SIZE, SIZE), PIL.Image.Resampling.LANCZOS, color=int(np.median(border)))
