"""Data sets as uint8 pixels of 28 × 28: found or downloaded, verified by sha256 where it is known, split reproducibly.

A data set is one of `DATASETS`, or a folder of images. The former are looked for in the folder of `default_root`; then
torchvision downloads them there, unless `DDPM_DATA` names that folder; where that fails, MNIST is replaced by the 5,000
digits that come with the project.
"""

import hashlib
import io
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm_utils import names
from ddpm_utils.data import sources
from ddpm_utils.data.checks import check_floats, check_pixels
from ddpm_utils.data.image_files import Labels, Pixels, read_folder
from ddpm_utils.data.sources import DATASETS
from ddpm_utils.shapes import Images
from ddpm_utils.system.errors import DataError
from ddpm_utils.system.places import RESOURCES, default_root, shown

EMBEDDED = RESOURCES / "data" / "mnist_5k.npz"
EMBEDDED_SHA256 = "cac50334bc358720fa2ea7e76bb2fd93914a14732b47e8f0f9d5997966bf8f96"
MNIST = ("mnist", "mnist_5k")


@dataclass(frozen=True)
class Part:
    """Images of one part of a data set: uint8 pixels 0…255 and their classes, uint8 from 0 on."""

    pixels: Pixels
    labels: Labels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index) -> "Part":
        return Part(self.pixels[index], self.labels[index])

    @property
    def images(self) -> Images:
        """The images in [−0.5, 0.5], float32."""
        return scale(self.pixels)


@dataclass(frozen=True)
class Dataset:
    """A data set in three parts, and one line that says where it comes from."""

    name: str  # of `DATASETS`; of a folder, its own name and the first digits of its hash (see `label`)
    source: str
    train: Part
    validation: Part
    test: Part

    @property
    def is_mnist(self) -> bool:
        """Whether this is MNIST or a part of it (see `is_mnist`)."""
        return is_mnist(self.name)

    @cached_property
    def sha256(self) -> str:
        """A hash of every pixel and label, which tables name."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            digest.update(part.pixels.numpy().data)
            digest.update(part.labels.numpy().data)
        return digest.hexdigest()


def resolve(name: str) -> str:
    """Return the canonical name of a data set: one of `DATASETS`, or the absolute path of a folder of images.

    Raises:
        ValueError: if it is neither.
    """
    if known := names.canonical(name, DATASETS):
        return known
    folder = Path(name).expanduser()
    if not name or not folder.is_dir():
        allowed = f"one of {', '.join(DATASETS)}, or a folder of images"
        raise ValueError(f"dataset must be {allowed}, not {name!r}.{names.suggestion(name, DATASETS)}")
    return str(folder.resolve())


def label(name: str) -> str:
    """Return what a data set is called in tables and in the names of folders; a folder's images are read for it."""
    return name if name in DATASETS else load(name).name


def is_mnist(name: str) -> bool:
    """Whether a data set is MNIST or a part of it: what is shipped and recorded, and the classifier, are for it."""
    return name in MNIST


def load(name: str = "mnist", root: Path | None = None) -> Dataset:
    """Load a data set, from the first source that has it.

    Args:
        name: one of `DATASETS`: "mnist" and "fashion_mnist" hold 48,000 / 12,000 / 10,000 images to train, validate and
            test with; "mnist_5k" holds the embedded digits (3,200 / 800 / 1,000), which also replace "mnist" when it
            cannot be had. Or a folder of images (see `image_files.read_folder`).
        root: torchvision's root folder; by default `default_root()`.

    Raises:
        ValueError: if there is no such data set.
        DataError: if a file is damaged, or the data set cannot be had.
    """
    name = resolve(name)
    if name == "mnist_5k":
        return _embedded("Data: the 5,000 MNIST digits that come with the project.")
    source = DATASETS.get(name)
    if source is None:
        return _of_folder(Path(name))
    is_given = root is not None or bool(os.environ.get("DDPM_DATA"))
    root = Path(root or default_root()).expanduser()
    if found := sources.find(source, root):
        return _full(name, source, found, f"Data: {source.name} in {shown(root)}.")
    if is_given:
        raise DataError(_not_there(source, root))
    try:
        sources.download(source, root)
    except (RuntimeError, OSError) as error:
        reason = f"{source.name} is not in {shown(root)} and cannot be downloaded"
        if name != "mnist":
            raise DataError(f"{reason} ({error}).") from error
        return _embedded(f"Data: the 5,000 MNIST digits that come with the project, since {reason}.")
    found = sources.find(source, root)
    return _full(name, source, found or {}, f"Data: {source.name}, downloaded to {shown(root)}.")


def _not_there(source: sources.Source, root: Path) -> str:
    """The sentences on a folder that was named, and does not hold a data set."""
    looked = ", ".join(map(str, sources.places_of(source, root)))
    files = f"{source.files[0]} and {len(source.files) - 1} other files"
    return (
        f"{source.name} is not in {root}{'' if root.is_dir() else ', which is no folder'}: {files}, as they are or "
        f"with .gz, were looked for in {looked}. Correct DDPM_DATA, or unset it to download {source.name}."
    )


def _full(name: str, about: sources.Source, found: dict[str, Path], source: str) -> Dataset:
    """A data set of torchvision's, its training images split 80:20 (see `_split`)."""
    pixels, labels, test_pixels, test_labels = sources.read(about, found)
    everything = Part(pixels, labels)
    train, validation = _split(len(everything))
    return Dataset(name, source, everything[train], everything[validation], Part(test_pixels, test_labels))


def _split(count: int) -> tuple[Tensor, Tensor]:
    """Places in a training set to train on (80 %) and to validate with.

    The split is random but for MNIST's embedded digits: their 4,000 training digits are trained on here too,
    and their 1,000 test digits are validated with, so that no shipped weight has seen what an offline user tests on.
    """
    if count != 60_000:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        return order[: count * 4 // 5], order[count * 4 // 5 :]
    arrays = _read_embedded()
    ours = {part: torch.from_numpy(arrays[f"{part}_index"]).long() for part in ("train", "test")}
    free = torch.ones(count, dtype=torch.bool)
    free[torch.cat(list(ours.values()))] = False
    rest = free.nonzero().flatten()
    rest = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(0))]
    return torch.cat([ours["train"], rest[:44_000]]), torch.cat([ours["test"], rest[44_000:]])


def _of_folder(folder: Path) -> Dataset:
    """The images of a folder, in its own parts if it has them, otherwise 64 : 16 : 20 at random."""
    found = read_folder(folder)
    everything = Part(found.pixels, found.labels)
    places = {part: torch.tensor([i for i, its in enumerate(found.parts) if its == part]) for part in set(found.parts)}
    if "" in places or not {"train", "test"} <= places.keys():
        order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0))
        fifth = len(order) // 5
        places = {"test": order[:fifth], "train": order[fifth:]}
    if "validation" not in places:
        train, validation = _split(len(places["train"]))
        places |= {"train": places["train"][train], "validation": places["train"][validation]}
    parts = [everything[places[part].long()] for part in ("train", "validation", "test")]
    counts = ", ".join(f"{len(part):,}" for part in parts)
    source = f"Data: {len(everything):,} images in {shown(folder)} ({counts} to train, validate and test with)."
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", folder.name).lstrip("_.-")[:40] or "images"
    digest = Dataset("", "", *parts).sha256[:8]
    return Dataset(f"{name}-{digest}", source, *parts)


def _embedded(source: str) -> Dataset:
    arrays = {name: torch.from_numpy(array) for name, array in _read_embedded().items()}
    train = Part(arrays["train_pixels"], arrays["train_labels"])
    test = Part(arrays["test_pixels"], arrays["test_labels"])
    return Dataset("mnist_5k", source, train[:3200], train[3200:], test)


def _read_embedded() -> dict[str, np.ndarray]:
    content = EMBEDDED.read_bytes()
    if hashlib.sha256(content).hexdigest() != EMBEDDED_SHA256:
        remedy = "restore it with git checkout, or install ddpm-utils again"
        raise DataError(f"{EMBEDDED} is damaged (its sha256 is wrong): {remedy}.")
    with np.load(io.BytesIO(content)) as arrays:
        return dict(arrays)


def scale(pixels: Pixels) -> Images:
    """Bytes 0…255 → floats in [−0.5, 0.5], with a channel: the range that the network sees.

    Raises:
        ValueError: if they are no bytes of shape (n, height, width), such as floats in [0, 1].
    """
    check_pixels(pixels, "pixels")
    return pixels.unsqueeze(1).float().div_(255).sub_(0.5)


def to_unit(images: Images) -> Images:
    """[−0.5, 0.5] → [0, 1]; what lies outside is clamped. The fixed grey scale of tables and figures."""
    check_floats(images, "images")
    return (images + 0.5).clamp(0, 1)
