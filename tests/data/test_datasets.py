import re
import shutil

import pytest
import torch
import torchvision

from ddpm_utils import data
from ddpm_utils.data import datasets, sources
from ddpm_utils.system.errors import DataError


def pixels(*parts: data.Part) -> list[bytes]:
    return [image.tobytes() for part in parts for image in part.pixels.numpy()]


def no_network(source, root):
    raise RuntimeError("no route to host")


def test_embedded_digits_are_stratified(digits):
    assert [len(part) for part in (digits.train, digits.validation, digits.test)] == [3200, 800, 1000]
    everything = torch.cat([digits.train.labels, digits.validation.labels])
    assert everything.bincount().tolist() == [400] * 10
    assert digits.test.labels.bincount().tolist() == [100] * 10
    assert len(set(pixels(digits.train, digits.validation, digits.test))) == 5000
    assert datasets.EMBEDDED.stat().st_size < 1_000_000


def test_images_are_in_the_networks_range(digits):
    images = digits.test.images
    assert images.shape == (1000, 1, 28, 28)
    assert images.dtype == torch.float32
    assert (images.min().item(), images.max().item()) == (-0.5, 0.5)
    bytes_again = ((images + 0.5) * 255).round().to(torch.uint8).squeeze(1)
    assert torch.equal(bytes_again, digits.test.pixels)


def test_part_of_a_part(digits):
    part = digits.test[10:13]
    assert len(part) == 3
    assert torch.equal(part.pixels[0], digits.test.pixels[10])
    assert torch.equal(part.labels, digits.test.labels[10:13])


def test_hash_sees_every_pixel_and_label(digits):
    changed = data.Dataset("mnist_5k", "", digits.train, digits.validation, digits.test[::1])
    assert changed.sha256 == digits.sha256
    labels = digits.test.labels.clone()
    labels[-1] += 1
    changed = data.Dataset("mnist_5k", "", digits.train, digits.validation, data.Part(digits.test.pixels, labels))
    assert changed.sha256 != digits.sha256


@pytest.mark.parametrize("position", [0, 1000, -1])
def test_damaged_embedded_file(position, tmp_path, monkeypatch):
    content = bytearray(datasets.EMBEDDED.read_bytes())
    content[position] ^= 1
    damaged = tmp_path / "mnist_5k.npz"
    damaged.write_bytes(content)
    monkeypatch.setattr(datasets, "EMBEDDED", damaged)
    with pytest.raises(DataError, match=r"mnist_5k\.npz is damaged"):
        data.load("mnist_5k")


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """No data below the default folder, and no network."""
    monkeypatch.delenv("DDPM_DATA", raising=False)
    monkeypatch.setattr(datasets, "default_root", lambda: tmp_path)
    monkeypatch.setattr(sources, "download", no_network)
    return tmp_path


def test_falls_back_to_the_embedded_digits(digits, nothing_here):
    dataset = data.load("mnist")
    assert dataset.sha256 == digits.sha256
    assert dataset.name == "mnist_5k"
    assert "5,000 MNIST digits" in dataset.source
    assert f"MNIST is not in {nothing_here} and cannot be downloaded" in dataset.source
    assert "\n" not in dataset.source


def test_root_is_named_by_the_environment(mnist_root, monkeypatch):
    monkeypatch.setenv("DDPM_DATA", str(mnist_root))
    assert str(mnist_root) in data.load("mnist").source


@pytest.mark.parametrize(("name", "title"), [("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST"), ("usps", "USPS")])
def test_other_data_sets_have_no_stand_in(name, title, nothing_here):
    with pytest.raises(DataError, match=rf"{title} is not in .* cannot be downloaded \(no route to host\)"):
        data.load(name)


def test_a_download_cannot_hang(tmp_path, monkeypatch):
    import socket

    seen = []

    def dataset(root, train, download):
        seen.append(socket.getdefaulttimeout())
        raise RuntimeError

    monkeypatch.setattr(torchvision.datasets, "MNIST", dataset)
    before = socket.getdefaulttimeout()
    with pytest.raises(RuntimeError):
        sources.download(sources.DATASETS["mnist"], tmp_path)
    assert seen == [sources.DOWNLOAD_TIMEOUT]
    assert socket.getdefaulttimeout() == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar", ""),
        ("fashon", " Did you mean 'fashion_mnist'?"),
        ("mnst", " Did you mean 'mnist'?"),
        ("", ""),
        ("~/x", ""),
    ],
)
def test_unknown_name(name, words):
    names = "mnist, mnist_5k, fashion_mnist, kmnist, emnist, qmnist, usps, or a folder of images"
    with pytest.raises(ValueError, match=re.escape(f"dataset must be one of {names}, not {name!r}.{words}") + "$"):
        data.load(name)


@pytest.mark.parametrize("name", ["MNIST-5k", "mnist 5K", "Mnist_5k"])
def test_other_spellings(name, digits):
    assert data.load(name).sha256 == digits.sha256
    assert data.resolve(name) == "mnist_5k"


def test_full_mnist_split(mnist, digits):
    assert [len(part) for part in (mnist.train, mnist.validation, mnist.test)] == [48_000, 12_000, 10_000]
    train, validation, test = (set(pixels(part)) for part in (mnist.train, mnist.validation, mnist.test))
    assert train.isdisjoint(validation)
    assert train.isdisjoint(test)
    assert validation.isdisjoint(test)
    # no shipped weight has seen what an offline user tests on
    assert validation.issuperset(pixels(digits.test))
    assert train.issuperset(pixels(digits.train, digits.validation))


def test_embedded_labels_are_mnists(mnist, digits):
    labels = dict(
        zip(pixels(mnist.train, mnist.validation), (*mnist.train.labels, *mnist.validation.labels), strict=True)
    )
    for part in (digits.train, digits.validation, digits.test):
        assert [labels[image] for image in pixels(part)] == part.labels.tolist()


def test_full_mnist_split_is_reproducible(mnist, mnist_root):
    torch.manual_seed(1)
    assert data.load("mnist", mnist_root).sha256 == mnist.sha256


@pytest.mark.parametrize("name", sources.DATASETS["mnist"].files)
def test_one_flipped_byte(name, mnist_root, tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for other in sources.DATASETS["mnist"].files:
        (folder / other).symlink_to(mnist_root.resolve() / "MNIST" / "raw" / other)
    damaged = folder / name
    damaged.unlink()
    shutil.copyfile(mnist_root / "MNIST" / "raw" / name, damaged)
    with damaged.open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)[0]
        file.seek(5000)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(DataError, match=f"{name} is damaged"):
        data.load("mnist", tmp_path)
