import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from ddpm_utils.degradations import GaussianBlur


@pytest.fixture(scope="module")
def images(digits):
    return digits.test.images[:5]


@pytest.fixture(scope="module")
def blur():
    return GaussianBlur(T=100)


def test_step_zero_is_the_identity(images, blur):
    assert torch.equal(blur(images, 0), images)


@pytest.mark.parametrize(("s", "t"), [(1, 1), (3, 7), (40, 60)])
def test_composable(s, t, images, blur):
    torch.testing.assert_close(blur(blur(images, s), t), blur(images, s + t), rtol=0, atol=1e-5)


@pytest.mark.parametrize("t", [1, 3, 20])
def test_equals_repeated_blurs_of_torchvision(t, images, blur):
    expected = images
    for _ in range(t):
        expected = gaussian_blur(expected, 11, 1.0)  # kernel, standard deviation; it reflects at the borders
    torch.testing.assert_close(blur(images, t), expected, rtol=0, atol=1e-5)


def test_equals_an_explicit_convolution(images):
    """Another kernel and variance, written out in two dimensions."""
    distance = (torch.arange(7) - 3.0) ** 2
    kernel = torch.exp(-(distance[:, None] + distance) / (2 * 2.5))
    kernel /= kernel.sum()
    expected = F.conv2d(F.pad(images, [3, 3, 3, 3], mode="reflect"), kernel[None, None])
    torch.testing.assert_close(GaussianBlur(T=1, variance=2.5, kernel=7)(images, 1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("t", [1, 100])
def test_grey_stays_grey(t, blur):
    grey = torch.full((1, 1, 28, 28), 0.3)
    torch.testing.assert_close(blur(grey, t), grey, rtol=0, atol=1e-5)


def test_blurs_toward_grey(images, blur):
    deviation = torch.stack([blur(images, t).std((1, 2, 3)) for t in (0, 1, 10, 100)])
    assert (deviation.diff(dim=0) < 0).all()


def test_one_t_per_image(images, blur):
    t = torch.tensor([0, 1, 50, 100, 7])
    together = blur(images, t)
    for i in range(5):
        torch.testing.assert_close(together[[i]], blur(images[[i]], t[i].item()), rtol=0, atol=1e-6)


def test_arguments_are_left_alone(images, blur):
    before = images.clone()
    blur(images, 3)
    assert torch.equal(images, before)


@pytest.mark.parametrize("t", [-1, 101, torch.tensor([0, 1, 2, 3, 101])])
def test_refuses_t_outside(t, images, blur):
    with pytest.raises(ValueError, match="t must lie in 0…100"):
        blur(images, t)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"T": 0}, "T must be an integer of at least 1, not 0"),
        ({"variance": 0.0}, "variance must be a positive number, not 0"),
        ({"variance": -1.0}, "variance must be a positive number, not -1"),
        ({"kernel": 10}, "kernel must be an odd integer from 1 to 55, not 10"),
        ({"kernel": 57}, "kernel must be an odd integer from 1 to 55, not 57"),
    ],
)
def test_refuses_parameters(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        GaussianBlur(**options)
