import bz2
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from ddpm_utils import data
from ddpm_utils.data import datasets, sources
from ddpm_utils.system.errors import DataError

MNIST = sources.DATASETS["mnist"]
FOLDERS = {"MNIST/raw": "", "MNIST": "MNIST", "raw": "MNIST/raw", "": "MNIST/raw"}


def idx(array: np.ndarray) -> bytes:
    kind = {1: 8, 4: 12}[array.itemsize]
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.tobytes()


def drawings(count: int, size: int = 28) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, size, size), dtype=np.uint8)


def of_classes(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint8) % 10


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder that DDPM_DATA names."""
    monkeypatch.setenv("DDPM_DATA", str(tmp_path))
    return tmp_path


def write_idx(folder, files, arrays, ending=""):
    folder.mkdir(parents=True)
    for file, array in zip(files, arrays, strict=True):
        content = idx(array)
        (folder / f"{file}{ending}").write_bytes(gzip.compress(content) if ending == ".gz" else content)


def four(train: int = 20, test: int = 10) -> list[np.ndarray]:
    return [drawings(train), of_classes(train), drawings(test), of_classes(test)]


@pytest.mark.parametrize("folder", ["KMNIST/raw", "KMNIST", "raw", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_kmnist_in_any_folder(folder, ending, root, monkeypatch):
    if folder in ("raw", "."):  # then the folder's own name has to say what it holds
        root = root / "KMNIST"
        monkeypatch.setenv("DDPM_DATA", str(root))
    arrays = four()
    write_idx(root / folder if folder != "." else root, sources.IDX, arrays, ending)
    found = data.load("KMNIST")
    assert found.name == "kmnist"
    assert [len(part) for part in (found.train, found.validation, found.test)] == [16, 4, 10]
    assert torch.equal(found.test.pixels, torch.from_numpy(arrays[2]))
    assert torch.equal(found.test.labels, torch.from_numpy(arrays[3]))
    everything = torch.cat([found.train.pixels, found.validation.pixels])
    assert sorted(image.tobytes() for image in everything.numpy()) == sorted(image.tobytes() for image in arrays[0])


def test_files_with_a_dot(root):
    write_idx(root / "KMNIST", [name.replace("-idx", ".idx") for name in sources.IDX], four())
    assert len(data.load("kmnist").test) == 10


def test_a_folder_beside_the_one_that_is_named(root, monkeypatch):
    write_idx(root / "KMNIST" / "raw", sources.IDX, four())
    for too_deep in ("MNIST/raw", "FashionMNIST"):
        monkeypatch.setenv("DDPM_DATA", str(root / too_deep))
        assert len(data.load("kmnist").test) == 10


def test_emnist_stands_upright(root):
    arrays = four()
    write_idx(root / "EMNIST" / "raw", sources.DATASETS["emnist"].files, arrays)
    assert torch.equal(data.load("emnist").test.pixels, torch.from_numpy(arrays[2]).transpose(1, 2))


def test_qmnist_has_mnists_test_images(root):
    arrays = [drawings(20), None, drawings(10_050), None]
    for place in (1, 3):
        labels = np.zeros((len(arrays[place - 1]), 8), dtype=">i4")
        labels[:, 0] = of_classes(len(labels))
        arrays[place] = labels
    write_idx(root / "QMNIST" / "raw", sources.DATASETS["qmnist"].files, arrays, ".gz")
    found = data.load("qmnist")
    assert len(found.test) == 10_000
    assert torch.equal(found.test.labels, torch.from_numpy(of_classes(10_000)))


def test_usps_is_fitted(root):
    (root / "USPS").mkdir()
    for file, count in {"usps.bz2": 20, "usps.t.bz2": 10}.items():
        lines = []
        for image, label in zip(drawings(count, 16), of_classes(count), strict=True):
            values = image.reshape(-1) / 127.5 - 1
            lines.append(f"{label + 1} " + " ".join(f"{k + 1}:{value:.4f}" for k, value in enumerate(values)))
        (root / "USPS" / file).write_bytes(bz2.compress("\n".join(lines).encode()))
    found = data.load("usps")
    assert found.test.pixels.shape == (10, 28, 28)
    assert torch.equal(found.test.labels, torch.from_numpy(of_classes(10)))
    assert found.test.pixels.float().mean() == pytest.approx(drawings(10, 16).mean(), abs=2)


@pytest.mark.parametrize("complete", [True, False])
def test_a_download_arrives_whole_or_not_at_all(complete, root, monkeypatch):
    def download(folder, train, download):
        if train:
            write_idx(
                Path(folder) / "KMNIST" / "raw", sources.IDX[: 4 if complete else 3], four()[: 4 if complete else 3]
            )

    monkeypatch.delenv("DDPM_DATA")
    monkeypatch.setattr(datasets, "default_root", lambda: root)
    monkeypatch.setattr(torchvision.datasets, "KMNIST", download)
    if complete:
        assert len(data.load("kmnist").test) == 10
        assert {path.name for path in (root / "KMNIST" / "raw").iterdir()} == set(sources.IDX)
    else:
        with pytest.raises(DataError, match=r"KMNIST is not in .*its files were not among what was downloaded"):
            data.load("kmnist")
        assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda content: content[:-1], "is no complete IDX file"),
        (lambda content: b"\0\0\x0d" + content[3:], "is no complete IDX file"),
        (lambda content: b"", "is no complete IDX file"),
        (lambda content: b"<html>404</html>", "is no complete IDX file"),
        (lambda content: idx(drawings(20, 16)), r"not \(n, 28, 28\) and \(n,\)"),
        (lambda content: idx(drawings(19)), r"not \(n, 28, 28\) and \(n,\)"),
    ],
    ids=["cut short", "floats", "empty", "a web page", "another size", "one image less"],
)
def test_damaged_files(damage, sentence, root):
    write_idx(root / "KMNIST" / "raw", sources.IDX, four())
    path = root / "KMNIST" / "raw" / sources.IDX[0]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=sentence):
        data.load("kmnist")


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(idx(drawings(20)))[:-9], b""])
def test_damaged_compressed_files(content, root):
    write_idx(root / "KMNIST", sources.IDX, four(), ".gz")
    (root / "KMNIST" / f"{sources.IDX[0]}.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read|is no complete IDX file"):
        data.load("kmnist")


@pytest.mark.parametrize("folder", FOLDERS)
def test_mnist_in_any_folder(folder, mnist, mnist_root, tmp_path, monkeypatch):
    place = tmp_path / "somewhere" / folder
    place.mkdir(parents=True)
    for file in MNIST.files:
        (place / file).symlink_to(mnist_root.resolve() / "MNIST" / "raw" / file)
    monkeypatch.setenv("DDPM_DATA", str(tmp_path / "somewhere"))
    assert data.load("mnist").sha256 == mnist.sha256


def test_compressed_mnist(mnist, mnist_root, tmp_path, monkeypatch):
    for file in MNIST.files:
        content = (mnist_root / "MNIST" / "raw" / file).read_bytes()
        (tmp_path / f"{file.replace('-idx', '.idx')}.gz").write_bytes(gzip.compress(content, 1))
    monkeypatch.setenv("DDPM_DATA", str(tmp_path))
    assert data.load("mnist").sha256 == mnist.sha256
    with pytest.raises(DataError, match="FashionMNIST is not in"):  # files of the same names
        data.load("fashion_mnist")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist", "emnist", "usps"])
@pytest.mark.parametrize("folder", ["missing", "missing/MNIST/raw", ".", "a file"])
def test_a_folder_that_is_named_must_hold_the_data(name, folder, root, monkeypatch):
    (root / "a file").touch()
    before = sorted(root.rglob("*"))
    monkeypatch.setenv("DDPM_DATA", str(root / folder))
    with pytest.raises(DataError, match=r"is not in .*Correct DDPM_DATA, or unset it"):
        data.load(name)
    assert sorted(root.rglob("*")) == before


def test_a_tilde_is_the_home_folder(root, monkeypatch):
    write_idx(root / "images" / "KMNIST", sources.IDX, four())
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.setenv("USERPROFILE", str(root))
    monkeypatch.setenv("DDPM_DATA", "~/images")
    assert len(data.load("kmnist").test) == 10
