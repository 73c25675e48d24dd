"""MNIST and Fashion-MNIST as tensors: found or downloaded, verified by sha256, split reproducibly.

Sources, in this order: the folder of `default_root`; torchvision's download into that folder; the 5,000 MNIST digits
that come with the project.
"""

import hashlib
import io
import socket
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torchvision
from jaxtyping import UInt8
from torch import Tensor

from ddpm_utils.places import RESOURCES, default_root, shown
from ddpm_utils.shapes import Images

EMBEDDED = RESOURCES / "data" / "mnist_5k.npz"
EMBEDDED_SHA256 = "cac50334bc358720fa2ea7e76bb2fd93914a14732b47e8f0f9d5997966bf8f96"
DOWNLOAD_TIMEOUT = 10  # seconds without an answer
Pixels = UInt8[Tensor, "n 28 28"]
Labels = UInt8[Tensor, " n"]
SHA256 = {
    "MNIST": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}
DATASETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "mnist_5k": ""}
"""What the notebooks' `dataset` parameter may be, and torchvision's name for it (none: embedded)."""


class DataError(Exception):
    """A data file that is not what it should be, or data that cannot be had."""


@dataclass(frozen=True)
class Part:
    """Images of one part of a data set: uint8 pixels 0…255 and their classes 0…9."""

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

    name: str
    source: str
    train: Part
    validation: Part
    test: Part

    @cached_property
    def sha256(self) -> str:
        """A hash of every pixel and label, which tables name."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            digest.update(part.pixels.numpy().data)
            digest.update(part.labels.numpy().data)
        return digest.hexdigest()


def scale(pixels: UInt8[Tensor, "n 28 28"]) -> Images:
    """Bytes 0…255 → floats in [−0.5, 0.5], with a channel: the range that the network sees."""
    return pixels.unsqueeze(1).float().div_(255).sub_(0.5)


def load(name: str = "mnist", root: Path | None = None) -> Dataset:
    """Load a data set by name, from the first source that has it.

    Args:
        name: "mnist" or "fashion_mnist" (48,000 / 12,000 / 10,000 images), or "mnist_5k", the embedded digits
            (3,200 / 800 / 1,000), which is also what "mnist" falls back to when nothing else can be had.
        root: torchvision's root folder; by default `default_root()`.

    Raises:
        ValueError: if the name is unknown.
        DataError: if a file's sha256 is wrong, or Fashion-MNIST cannot be had.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset must be one of {', '.join(DATASETS)}, not {name!r}.")
    if name == "mnist_5k":
        return _embedded("Data: the 5,000 MNIST digits that come with the project.")
    root = Path(root or default_root())
    folder = root / DATASETS[name] / "raw"
    if all((folder / file).exists() for file in SHA256[DATASETS[name]]):
        return _full(name, root, f"Data: {DATASETS[name]} in {shown(root)}.")
    try:
        _download(name, root)
    except (RuntimeError, OSError) as error:
        reason = f"{DATASETS[name]} is not in {shown(root)} and cannot be downloaded"
        if name != "mnist":
            raise DataError(f"{reason} ({error}).") from error
        return _embedded(f"Data: the 5,000 MNIST digits that come with the project, since {reason}.")
    return _full(name, root, f"Data: {DATASETS[name]}, downloaded to {shown(root)}.")


def _full(name: str, root: Path, source: str) -> Dataset:
    """The complete data set, its training images split 80:20 (see `_split`)."""
    for file, expected in SHA256[DATASETS[name]].items():
        path = root / DATASETS[name] / "raw" / file
        if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise DataError(f"{path} is damaged (its sha256 is not the published one): delete it and try again.")
    kind = getattr(torchvision.datasets, DATASETS[name])
    train, test = (kind(root, train=train) for train in (True, False))
    everything = Part(train.data, train.targets.to(torch.uint8))
    train_index, validation_index = _split()
    return Dataset(
        name=name,
        source=source,
        train=everything[train_index],
        validation=everything[validation_index],
        test=Part(test.data, test.targets.to(torch.uint8)),
    )


def _split() -> tuple[Tensor, Tensor]:
    """Places in the training set of 48,000 images to train on and 12,000 to validate with.

    The split is random but for MNIST's embedded digits: their 4,000 training digits are trained on here too,
    and their 1,000 test digits are validated with, so that no shipped weight has seen what an offline user tests on.
    """
    arrays = _read_embedded()
    ours = {part: torch.from_numpy(arrays[f"{part}_index"]).long() for part in ("train", "test")}
    free = torch.ones(60_000, dtype=torch.bool)
    free[torch.cat(list(ours.values()))] = False
    rest = free.nonzero().flatten()
    rest = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(0))]
    return torch.cat([ours["train"], rest[:44_000]]), torch.cat([ours["test"], rest[44_000:]])


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


def _download(name: str, root: Path) -> None:
    """torchvision's download, but no server may keep us waiting, and files arrive complete or not at all."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
            getattr(torchvision.datasets, DATASETS[name])(folder, download=True)
            target = root / DATASETS[name] / "raw"
            target.mkdir(parents=True, exist_ok=True)
            for file in SHA256[DATASETS[name]]:
                (Path(folder) / DATASETS[name] / "raw" / file).replace(target / file)
    finally:
        socket.setdefaulttimeout(before)


def to_unit(images: Images) -> Images:
    """[−0.5, 0.5] → [0, 1]; what lies outside is clamped. The fixed grey scale of tables and figures."""
    return (images + 0.5).clamp(0, 1)
