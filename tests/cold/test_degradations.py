import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from ddpm_utils.cold import mixtures
from ddpm_utils.cold.degradations import (
    LARGEST_T,
    DownSampling,
    GaussianBlur,
    HeatBlur,
    RowColumnAveraging,
    Separable,
    check,
)
from ddpm_utils.cold.mixtures import photo_patches
from ddpm_utils.diffusion.forward import diffuse
from ddpm_utils.diffusion.schedules import cosine


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
    torch.testing.assert_close(GaussianBlur(T=1, severity=2.5, kernel=7)(images, 1), expected, rtol=0, atol=1e-5)


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
        ({"T": 0}, "T must be an integer from 1 to 10000, not 0"),
        ({"T": 10_001}, "T must be an integer from 1 to 10000, not 10001"),
        ({"T": 2.5}, "T must be an integer from 1 to 10000, not 2.5"),
        ({"T": True}, "T must be an integer from 1 to 10000, not True"),
        ({"severity": 0.0}, r"severity must be a number from 1e-06 to 1e\+06, not 0"),
        ({"severity": -1.0}, r"severity must be a number from 1e-06 to 1e\+06, not -1"),
        ({"severity": math.inf}, r"severity must be a number from 1e-06 to 1e\+06, not inf"),
        ({"severity": "1"}, r"severity must be a number from 1e-06 to 1e\+06, not '1'"),
        ({"kernel": 3.5}, "kernel must be an odd integer from 1 to 55, not 3.5"),
        ({"kernel": 10}, "kernel must be an odd integer from 1 to 55, not 10"),
        ({"kernel": 57}, "kernel must be an odd integer from 1 to 55, not 57"),
    ],
)
def test_refuses_parameters(options, sentence, unchecked):
    with pytest.raises(ValueError, match=sentence):
        GaussianBlur(**options)


# All degradations

ALL = {
    "blur": GaussianBlur(20),
    "heat": HeatBlur(20),
    "downsampling": DownSampling(),
    "averaging": RowColumnAveraging(),
    "noise": mixtures.noise(50),
    "flow": mixtures.flow(20),
    "morph": mixtures.morph(photo_patches, 20),
    "fade": mixtures.GaussianFade(),
}


@pytest.fixture(params=ALL)
def degradation(request):
    return ALL[request.param]


@pytest.fixture
def context(degradation, images):
    return degradation.draw_context(len(images), torch.Generator().manual_seed(0))


def test_all_begin_with_the_image_itself(degradation, context, images):
    assert torch.equal(degradation(images, 0, context), images)


def test_all_take_one_t_per_image(degradation, context, images):
    t = torch.tensor([0, 1, 2, degradation.T // 2, degradation.T])
    together = degradation(images, t, context)
    assert together.shape == images.shape
    for i in range(5):
        alone = degradation(images[[i]], t[i].item(), context[[i]])
        torch.testing.assert_close(together[[i]], alone, rtol=0, atol=1e-6)


def test_all_refuse_t_outside(degradation, context, images):
    for t in (-1, degradation.T + 1):
        with pytest.raises(ValueError, match=f"t must lie in 0…{degradation.T}, not"):
            degradation(images, t, context)


def test_all_are_affine_in_the_image(degradation, context, images):
    """D(½(x + y)) = ½(D(x) + D(y)), for one context."""
    other = images.flip(0)
    middle = degradation((images + other) / 2, degradation.T // 2, context)
    ends = [degradation(part, degradation.T // 2, context) for part in (images, other)]
    torch.testing.assert_close(middle, sum(ends) / 2, rtol=0, atol=1e-6)


def test_all_draw_contexts_from_the_generator_alone(degradation):
    first, again = (degradation.draw_context(4, torch.Generator().manual_seed(3)) for _ in range(2))
    assert len(first) == 4
    assert torch.equal(first, again)


# Each by itself


def test_exact_blurs_compose_and_keep_the_mean(images):
    heat = HeatBlur(20, severity=0.7)
    torch.testing.assert_close(heat(heat(images, 3), 9), heat(images, 12), rtol=0, atol=1e-6)
    torch.testing.assert_close(heat(images, 20).mean((1, 2, 3)), images.mean((1, 2, 3)), rtol=0, atol=1e-6)


def test_exact_blurs_singular_values_are_exponentials():
    heat = HeatBlur(10, severity=2.0)
    k = torch.arange(28, dtype=torch.float64)
    expected = torch.exp(-2.0 * 10 * (math.pi * k / 28) ** 2 / 2)
    torch.testing.assert_close(torch.linalg.svdvals(heat.columns[10]), expected, rtol=0, atol=1e-12)


def test_exact_blur_is_a_gaussian_away_from_the_borders():
    """A point in the middle becomes a sampled Gaussian of variance v·t."""
    point = torch.zeros(1, 1, 28, 28)
    point[0, 0, 14, 14] = 1
    seen = HeatBlur(10, severity=0.5)(point, 10)[0, 0, 14]
    distance = torch.arange(28) - 14.0
    gaussian = torch.exp(-distance.square() / (2 * 5)) / (2 * math.pi * 5)
    torch.testing.assert_close(seen, gaussian, rtol=0, atol=1e-5)


def test_down_sampling_averages_boxes(images):
    down = DownSampling(T=27)
    quarter = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2)
    torch.testing.assert_close(down(images, 14), quarter, rtol=0, atol=1e-6)  # 28 − 14 boxes of 2 pixels
    torch.testing.assert_close(down(images, 27), images.mean((2, 3), keepdim=True).expand_as(images))
    torch.testing.assert_close(down(down(images, 14), 14), down(images, 14), rtol=0, atol=1e-6)


def test_down_sampling_to_a_milder_end(images):
    down = DownSampling(T=5, severity=0.5)
    assert torch.linalg.matrix_rank(down.columns[5]) == 14
    torch.testing.assert_close(down(images, 3).mean((1, 2, 3)), images.mean((1, 2, 3)), rtol=0, atol=1e-6)


def test_averaging_fades_rows_then_columns(images):
    averaging = RowColumnAveraging(T=50)
    rows = images.mean(3, keepdim=True).expand_as(images)
    torch.testing.assert_close(averaging(images, 25), rows, rtol=0, atol=1e-6)
    torch.testing.assert_close(averaging(images, 10), 0.6 * images + 0.4 * rows, rtol=0, atol=1e-6)
    torch.testing.assert_close(averaging(images, 50), images.mean((2, 3), keepdim=True).expand_as(images))


def test_averaging_is_invertible_until_its_end():
    averaging = RowColumnAveraging(T=50)
    assert torch.linalg.svdvals(averaging.rows[24]).min().item() == pytest.approx(1 - 24 / 25)
    assert torch.linalg.matrix_rank(averaging.rows[25]) == 1


def test_double_images_are_mapped_in_double_precision(images):
    x = images.double()
    heat, averaging = HeatBlur(20), RowColumnAveraging(T=50)
    torch.testing.assert_close(heat(heat(x, 3), 9), heat(x, 12), rtol=0, atol=1e-13)
    rows = x.mean(3, keepdim=True).expand_as(x)
    torch.testing.assert_close(averaging(x, 7), (1 - 7 / 25) * x + 7 / 25 * rows, rtol=0, atol=1e-13)


def test_noise_is_the_forward_process(images):
    noise = mixtures.noise(50)
    epsilon = noise.draw_context(5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise(images, 20, epsilon), diffuse(images, 20, epsilon, cosine(T=50)))


def test_a_mild_noise_is_the_beginning_of_a_longer_schedule(images):
    epsilon = torch.randn(images.shape)
    mild = mixtures.noise(25, severity=0.5)
    torch.testing.assert_close(mild(images, 25, epsilon), diffuse(images, 25, epsilon, cosine(T=50)))


def test_flow_is_a_straight_line(images):
    epsilon = torch.randn(images.shape)
    torch.testing.assert_close(mixtures.flow(20)(images, 5, epsilon), 0.75 * images + 0.25 * epsilon)


def test_mixtures_solve_for_their_context(images):
    for mixture in (ALL["noise"], ALL["flow"], ALL["morph"]):
        context = mixture.draw_context(5, torch.Generator().manual_seed(0))
        z = mixture(images, 7, context)
        torch.testing.assert_close(mixture.estimate_context(z, images, 7), context, rtol=0, atol=1e-5)


def test_morph_ends_in_a_partner_that_training_has_not_seen(images):
    train, held_out = photo_patches()
    partner = ALL["morph"].draw_context(5, torch.Generator().manual_seed(0), True)
    assert torch.cdist(partner.flatten(1), held_out.flatten(1)).min(1).values.max() < 1e-2  # rounding
    assert torch.cdist(partner.flatten(1), train.flatten(1)).min() > 0.1
    torch.testing.assert_close(ALL["morph"](images, 20, partner), partner, rtol=0, atol=0.02)


def test_fade_is_a_product_of_gaussian_holes(images):
    fade = mixtures.GaussianFade(T=50)
    centre = torch.tensor([[3.0, 20.0]]).expand(5, 2)
    rows, columns = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    squared = (rows - 3) ** 2 + (columns - 20) ** 2
    mask = torch.ones(28, 28)
    for width in torch.linspace(1, 28, 50)[:7]:
        mask = mask * (1 - torch.exp(-squared / (2 * width**2)))
    torch.testing.assert_close(fade(images, 7, centre), mask * (images + 0.5) - 0.5, rtol=0, atol=1e-5)
    assert fade(images, 50, centre).max() < -0.49


@pytest.mark.parametrize("kind", [DownSampling, RowColumnAveraging, mixtures.noise, mixtures.flow])
@pytest.mark.parametrize("severity", [0, 1.1, float("nan"), True])
def test_refuses_severities(kind, severity, unchecked):
    with pytest.raises(ValueError, match="severity must be a number from 1e-06 to 1, not"):
        kind(severity=severity)


@pytest.mark.parametrize("kind", [HeatBlur, DownSampling, RowColumnAveraging, mixtures.noise, mixtures.GaussianFade])
def test_refuses_t_that_is_no_number_of_steps(kind):
    check(LARGEST_T, 1.0)
    with pytest.raises(ValueError, match="T must be an integer from 1 to 10000, not 0"):
        kind(T=0)


def test_refuses_operators_that_do_not_begin_with_the_identity():
    with pytest.raises(ValueError, match="operators at t = 0 must be the identity"):
        Separable(torch.zeros(3, 28, 28, dtype=torch.float64))
    identities = torch.eye(28, dtype=torch.float64).expand(3, 28, 28)
    for columns, rows in [(identities, 2 * identities), (2 * identities, identities)]:
        with pytest.raises(ValueError, match="operators at t = 0 must be the identity"):
            Separable(columns, rows)


@pytest.mark.parametrize("kind", [GaussianBlur, HeatBlur, DownSampling, RowColumnAveraging, mixtures.flow])
def test_whole_numbers_of_any_type_are_integers(kind, unchecked):
    images = torch.linspace(-0.5, 0.5, 784).reshape(1, 1, 28, 28)
    expected = kind(T=20, severity=0.5)
    for number in (float, np.int64, np.float32, torch.tensor):
        same = kind(T=number(20), severity=torch.tensor(0.5))
        assert (type(same.T), same.T) == (int, 20)
        torch.testing.assert_close(same(images, number(5), images), expected(images, 5, images), rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"t must hold integers, not 5\.5"):
        expected(images, 5.5, images)


def test_the_blurs_have_a_hundred_steps_by_default():
    assert GaussianBlur().T == HeatBlur().T == 100
