"""torchvision's data sets of small grey images: where their files are, what they hold, and how to download them."""

import gzip
import hashlib
import socket
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from ddpm_utils.data.image_files import fit
from ddpm_utils.shapes import SIZE
from ddpm_utils.system.errors import DataError

DOWNLOAD_TIMEOUT = 10  # seconds without an answer
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
EMNIST, QMNIST = ("images-idx3-ubyte", "labels-idx1-ubyte"), ("images-idx3-ubyte", "labels-idx2-int")


class Source(NamedTuple):
    """torchvision's name of a data set, and its files: images and labels to train on, then those to test with."""

    name: str
    files: tuple[str, ...] = IDX
    sha256: tuple[str, ...] = ()  # of the files, where it is known
    options: tuple[tuple[str, str], ...] = ()  # of torchvision's class


DATASETS: dict[str, Source | None] = {
    "mnist": Source(
        "MNIST",
        sha256=(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "mnist_5k": None,
    "fashion_mnist": Source(
        "FashionMNIST",
        sha256=(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    "kmnist": Source("KMNIST"),
    "emnist": Source(
        "EMNIST",
        tuple(f"emnist-balanced-{part}-{kind}" for part in ("train", "test") for kind in EMNIST),
        options=(("split", "balanced"),),
    ),
    "qmnist": Source(
        "QMNIST",
        tuple(f"qmnist-{part}-{kind}" for part in ("train", "test") for kind in QMNIST),
    ),
    "usps": Source("USPS", ("usps.bz2", "usps.t.bz2")),
}
"""What the `dataset` parameter may be, beside a folder of images. "mnist_5k" is embedded; "emnist" is "balanced"."""


def find(source: Source, root: Path) -> dict[str, Path] | None:
    """Find the files of a data set in torchvision's folders, or where the root is a folder that is too deep.

    A file may be compressed (.gz), or have a dot before "idx".

    Args:
        root: the folder to begin with.

    Returns:
        the path of each file, or None if one of them is missing.
    """
    for folder in places_of(source, root):
        found = {file: path for file in source.files if (path := _named(folder, file))}
        if len(found) == len(source.files) and _is_of(source, found, folder):
            return found
    return None


def places_of(source: Source, root: Path) -> list[Path]:
    """Return the folders in which `find` looks; a root such as …/MNIST or …/MNIST/raw is too deep."""
    inner = root.parent if root.name == "raw" else root
    is_deep = inner.name in {known.name for known in DATASETS.values() if known}
    tops = [root, inner.parent] if is_deep else [root]
    return [top / source.name / raw for top in tops for raw in ("raw", "")] + [root / "raw", root]


def _named(folder: Path, file: str) -> Path | None:
    """The path of a file under one of its usual names."""
    paths = [folder / f"{name}{ending}" for name in (file, file.replace("-idx", ".idx")) for ending in ("", ".gz")]
    return next((path for path in paths if path.is_file()), None)


def _is_of(source: Source, found: dict[str, Path], folder: Path) -> bool:
    """Whether files are of this data set: their folder or their own names say so, or the sha256 of one of them does."""
    if source.files != IDX or source.name.lower() in [part.lower() for part in folder.parts[-2:]]:
        return True
    known = zip(found.values(), source.sha256, strict=False)
    return any(hashlib.sha256(_content(path)).hexdigest() == sha256 for path, sha256 in known)


def read(source: Source, found: dict[str, Path]) -> list[Tensor]:
    """Read a data set: pixels (n, 28, 28) and labels (n,) to train on, then those to test with; all uint8.

    Raises:
        DataError: if a file is damaged.
    """
    if source.name == "USPS":
        parts = [_read_usps(next(iter(found.values())).parent, train) for train in (True, False)]
        fitted = [np.stack([np.asarray(fit(PIL.Image.fromarray(image))) for image in part.data]) for part in parts]
        labels = [np.array(part.targets) for part in parts]
        arrays = [fitted[0], labels[0], fitted[1], labels[1]]
    else:
        known = dict(zip(source.files, source.sha256, strict=False))
        arrays = [read_idx(found[file], known.get(file)) for file in source.files]
    if source.name == "EMNIST":
        arrays[0], arrays[2] = (images.transpose(0, 2, 1) for images in (arrays[0], arrays[2]))  # or they lie
    if source.name == "QMNIST":
        arrays[1], arrays[3] = arrays[1][:, 0], arrays[3][:, 0]
        arrays[2:] = [array[:10_000] for array in arrays[2:]]  # those that match MNIST's
    _check(source, found, arrays)
    return [torch.from_numpy(np.array(array, dtype=np.uint8)) for array in arrays]


def _read_usps(folder: Path, train: bool) -> Any:
    import torchvision.datasets  # here and below: it takes two seconds

    try:
        return torchvision.datasets.USPS(folder, train=train)
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise DataError(f"{folder} does not hold USPS: its files cannot be read ({error}).") from error


def _check(source: Source, found: dict[str, Path], arrays: list[np.ndarray]) -> None:
    for images, labels in (arrays[:2], arrays[2:]):
        if images.shape[1:] != (SIZE, SIZE) or labels.shape != images.shape[:1] or not len(labels):
            folder = next(iter(found.values())).parent
            shapes = f"images of shape {images.shape} and labels of shape {labels.shape}"
            raise DataError(f"{folder} does not hold {source.name}: {shapes}, not (n, {SIZE}, {SIZE}) and (n,).")


def read_idx(path: Path, sha256: str | None = None) -> np.ndarray:
    """Read an IDX file of bytes or 32-bit integers (LeCun, Cortes and Burges 1998), compressed or not.

    Args:
        sha256: of its uncompressed content, where it is known.

    Raises:
        DataError: if the file is damaged, or no such file.
    """
    content = _content(path)
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path} is damaged (its sha256 is not the published one): delete it and try again.")
    kinds: dict[int, np.dtype] = {8: np.dtype(np.uint8), 12: np.dtype(">i4")}
    start = 4 + 4 * content[3] if len(content) >= 4 else 4
    if len(content) >= start and content[:2] == b"\0\0" and content[2] in kinds:
        shape, kind = struct.unpack_from(f">{content[3]}I", content, 4), kinds[content[2]]
        if len(content) == start + kind.itemsize * int(np.prod(shape, dtype=float)):
            return np.frombuffer(content, kind, offset=start).reshape(shape)
    raise DataError(f"{path} is no complete IDX file: delete it and try again.")


def _content(path: Path) -> bytes:
    """A file's bytes, uncompressed.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): delete it and try again.") from error


def download(source: Source, root: Path) -> None:
    """Download a data set with torchvision; no server may keep us waiting, and files arrive complete or not at all.

    Raises:
        RuntimeError, OSError: if it cannot be had.
    """
    import torchvision.datasets

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
            for train in (True, False):
                getattr(torchvision.datasets, source.name)(folder, train=train, download=True, **dict(source.options))
            target = root / source.name / "raw"
            found = find(source, Path(folder))
            if found is None:
                raise RuntimeError("its files were not among what was downloaded")
            target.mkdir(parents=True, exist_ok=True)
            for file, path in found.items():
                path.replace(target / file)
    finally:
        socket.setdefaulttimeout(before)
