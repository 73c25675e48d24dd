import numpy as np
import PIL.Image
import pytest
import torch

from ddpm_utils import data
from ddpm_utils.data.image_files import fit, read_folder, to_grey
from ddpm_utils.system.errors import DataError
from ddpm_utils.training.experiments import Experiment


def drawings(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def save(folder, images, form="{}.png"):
    for number, image in enumerate(images):
        path = folder / form.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(path)


@pytest.mark.parametrize("form", ["{}.png", "img{}.bmp", "{:03}.tif", "a b/ä {}.PNG"])
def test_pixels_and_order_are_kept(form, tmp_path):
    images = drawings(210)
    save(tmp_path, images, form)
    assert torch.equal(read_folder(tmp_path).pixels, torch.from_numpy(images))


def test_sub_folders_are_classes(tmp_path):
    images = drawings(210)
    for number, image in enumerate(images):
        folder = tmp_path / "zoo" / ("cat", "dog", "owl")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(folder / f"{number}.png")
    found = read_folder(tmp_path / "zoo")
    assert torch.equal(found.pixels, torch.from_numpy(images))
    assert found.labels.tolist() == [number % 3 for number in range(210)]
    dataset = data.load(str(tmp_path / "zoo"))
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [134, 34, 42]
    assert dataset.name.startswith("zoo-")


def test_sub_folders_may_be_parts(tmp_path):
    images = drawings(210)
    for number, image in enumerate(images):
        folder = tmp_path / ("train", "val", "test")[number // 70] / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(folder / f"{number}.png")
    dataset = data.load(str(tmp_path))
    for place, part in enumerate((dataset.train, dataset.validation, dataset.test)):
        assert torch.equal(part.pixels, torch.from_numpy(images[70 * place : 70 * (place + 1)]))
        assert part.labels.tolist() == [number % 2 for number in range(70)]


def test_mnist_exported_to_png_trains_to_identical_bits(digits, tmp_path, output):
    number = 0
    for name in ("train", "validation", "test"):
        part = getattr(digits, name)
        for image, label in zip(part.pixels.numpy()[:256], part.labels.tolist(), strict=False):
            folder = tmp_path / "png" / name / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(image).save(folder / f"{number}.png")
            number += 1
    few = data.Dataset("few", "", digits.train[:256], digits.validation[:256], digits.test[:256])
    experiment = Experiment(beta=0.3, T=4, network="lean_unet", dataset=str(tmp_path / "png"), epochs=1)
    exported = experiment.load_data()
    assert exported.sha256 == few.sha256
    weights = []
    for dataset, name in ((exported, "png"), (few, "idx")):
        run = experiment.with_values(run_name=name).open_run(dataset)
        for _ in experiment.train(run, dataset):
            pass
        weights.append(run.network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_folder_is_known_by_its_pixels(tmp_path):
    images = drawings(210)
    save(tmp_path / "a" / "photos", images)
    save(tmp_path / "b" / "photos", images, "{}.bmp")
    names = [data.label(str(tmp_path / which / "photos")) for which in "ab"]
    assert names[0] == names[1]
    PIL.Image.fromarray(255 - images[3]).save(tmp_path / "b" / "photos" / "3.bmp")
    assert data.label(str(tmp_path / "b" / "photos")) != names[0]  # read again, as it has changed
    save(tmp_path / "c" / "ein Ordner: β", images)
    assert data.label(str(tmp_path / "c" / "ein Ordner: β")).startswith("ein_Ordner___-")


def test_what_is_no_image_is_left_out(tmp_path):
    save(tmp_path, drawings(210))
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    (tmp_path / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "0.png").write_bytes(b"no image")
    assert len(read_folder(tmp_path).pixels) == 210


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_damaged_image(content, tmp_path):
    save(tmp_path, drawings(210))
    (tmp_path / "7.png").write_bytes(content)
    with pytest.raises(DataError, match=r"7\.png cannot be read as an image .*: repair it, or move it away"):
        data.load(str(tmp_path))


@pytest.mark.parametrize("count", [0, 1, 199])
def test_too_few_images(count, tmp_path):
    save(tmp_path, drawings(count))
    with pytest.raises(DataError, match=rf"holds {count} images that Pillow can read; at least 200 are needed"):
        data.load(str(tmp_path))


def test_too_many_classes(tmp_path):
    save(tmp_path, drawings(257), "{}/image.png")
    with pytest.raises(DataError, match="holds 257 sub-folders, each of which is a class; at most 256 are allowed"):
        read_folder(tmp_path)


def test_other_kinds_of_images_become_grey():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    grey = PIL.Image.fromarray(ramp)
    for image in (
        grey.convert("RGB"),
        grey.convert("P"),
        grey.convert("RGBA"),
        grey.convert("LA"),
        grey.convert("CMYK"),
    ):
        assert np.abs(np.asarray(to_grey(image)).astype(int) - ramp).max() <= 1
    sixteen = PIL.Image.fromarray(ramp.astype(np.uint16) * 257)
    assert np.array_equal(np.asarray(to_grey(sixteen)), ramp)
    transparent = PIL.Image.new("RGBA", (16, 16), (255, 255, 255, 0))
    assert np.asarray(to_grey(transparent)).max() == 0
    with pytest.raises(ValueError, match="values without a known range"):
        to_grey(PIL.Image.fromarray(ramp.astype(np.float32)))


@pytest.mark.parametrize("size", [(28, 28), (56, 28), (28, 56), (300, 200), (10, 7), (5, 5)])
def test_images_are_fitted_without_distortion(size):
    width, height = size
    image = np.full((height, width), 90, dtype=np.uint8)
    image[height // 4 : -(height // 4) or None, width // 4 : -(width // 4) or None] = 200
    fitted = np.asarray(fit(PIL.Image.fromarray(image)))
    assert fitted.shape == (28, 28)
    rows, columns = np.nonzero(fitted > 145)
    box = (np.ptp(columns) + 1) / (np.ptp(rows) + 1)
    assert box == pytest.approx(width / height, rel=0.15)
    assert abs(int(fitted[0, 0]) - 90) <= 12  # padded with the border's median


def test_a_camera_knows_what_is_up(tmp_path):
    image = PIL.Image.fromarray(drawings(1)[0])
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned to the right
    save(tmp_path, drawings(210))
    image.save(tmp_path / "0.png", exif=exif)
    assert torch.equal(read_folder(tmp_path).pixels[0], torch.from_numpy(np.rot90(drawings(1)[0], -1).copy()))
