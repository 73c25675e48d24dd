import math

import pytest
import torch

from ddpm_utils.data.datasets import to_unit
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.metrics import distribution_quality, fid, fid_interval, image_quality, kid, stretch


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def images():
    """In [−0.4, 0.3]."""
    return torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 0.7 - 0.4


# Image quality


def test_equal_images(images):
    quality = image_quality(images, images)
    assert quality["RMSE"] == 0
    assert quality["SSIM"] == pytest.approx(1)
    assert quality["PSNR"] > 70


@pytest.mark.parametrize("offset", [0.1, 0.01])
def test_constant_offset(offset, images):
    quality = image_quality(images + offset, images)
    assert quality["RMSE"] == pytest.approx(offset, rel=1e-4)
    assert quality["PSNR"] == pytest.approx(-20 * math.log10(offset), rel=1e-4)


def test_ssim_of_grey_images():
    """Without variance SSIM is (2ab + c) / (a² + b² + c) with c = 0.01²."""
    a, b = 0.3, 0.6
    restored, target = (torch.full((1, 1, 28, 28), level - 0.5) for level in (a, b))
    expected = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
    assert image_quality(restored, target)["SSIM"] == pytest.approx(expected, rel=1e-4)


def test_metrics_are_taken_per_image_then_averaged():
    target = torch.zeros(2, 1, 28, 28)
    restored = target + torch.tensor([0.1, 0.4]).reshape(2, 1, 1, 1)
    quality = image_quality(restored, target)
    assert quality["RMSE"] == pytest.approx((0.1 + 0.4) / 2)
    assert quality["PSNR"] == pytest.approx(-10 * math.log10(0.1 * 0.4), rel=1e-4)


def test_to_unit_clamps():
    assert to_unit(torch.tensor([-3, -0.5, 0, 0.5, 3]).reshape(5, 1, 1, 1).expand(5, 1, 28, 28)).amax(
        (1, 2, 3)
    ).tolist() == [0, 0, 0.5, 1, 1]


def test_values_outside_the_range_do_not_count(images):
    white, whiter = torch.full((1, 1, 28, 28), 0.5), torch.full((1, 1, 28, 28), 7.0)
    white[..., 0, 0], whiter[..., 0, 0] = -0.5, -3.0
    assert image_quality(whiter, white)["RMSE"] == 0


# The published protocol


def test_stretched_images_span_0_to_1(images):
    stretched = stretch(images)
    assert torch.equal(stretched.amin((1, 2, 3)), torch.zeros(6))
    assert torch.equal(stretched.amax((1, 2, 3)), torch.ones(6))
    assert torch.equal(stretch(torch.full((1, 1, 28, 28), 0.3)), torch.zeros(1, 1, 28, 28))


def test_published_protocol_does_not_see_brightness_and_contrast(images):
    target = images.flip(0)
    contrast = torch.tensor([0.1, 0.5, 1, 2, 5, 9]).reshape(6, 1, 1, 1)
    changed = contrast * images + contrast - 2
    before, after = (image_quality(restored, target, "published") for restored in (images, changed))
    assert after == pytest.approx(before, rel=1e-3)
    assert image_quality(changed, target)["RMSE"] > image_quality(images, target)["RMSE"]


def test_published_rmse_is_the_root_over_batches_of_512():
    """Each pair differs by 1 in k of 784 pixels; k = 2 in the first batch of 512, k = 8 in the rest."""
    target = torch.full((600, 1, 28, 28), -0.5)
    target[:, :, 0, 0] = 0.5
    restored = target.clone()
    restored[:256, :, 1, :4] = 0.5  # half of the first batch: a mean of 2
    restored[512:, :, 1, :8] = 0.5
    rmse = image_quality(restored, target, "published")["RMSE"]
    assert rmse == pytest.approx((math.sqrt(2 / 784) + math.sqrt(8 / 784)) / 2, rel=1e-5)
    assert image_quality(restored, target)["RMSE"] == pytest.approx(
        (256 * math.sqrt(4 / 784) + 88 * math.sqrt(8 / 784)) / 600, rel=1e-5
    )


def test_image_quality_refuses(images, unchecked):
    with pytest.raises(ValueError, match="protocol must be one of corrected, published, not 'best'"):
        image_quality(images, images, "best")
    with pytest.raises(ValueError, match="5 restored images cannot be compared with 6 targets"):
        image_quality(images[:5], images)


# Distributions


def test_fid_of_a_set_and_itself():
    x = normal(500, 8)
    assert fid(x, x) == pytest.approx(0, abs=1e-6)


def test_fid_of_a_shift_is_its_square():
    x = normal(500, 8)
    shift = torch.arange(8) / 10
    assert fid(x + shift, x) == pytest.approx(shift.square().sum().item(), rel=1e-4)


@pytest.mark.parametrize("sigma", [0.5, 3])
def test_fid_of_a_scaled_gaussian(sigma):
    """‖μ − σμ‖² + tr Σ·(1 − σ)² exactly, which for N(0, I) tends to d·(σ − 1)²."""
    x = normal(5000, 8)
    found = fid(sigma * x, x)
    exact = (1 - sigma) ** 2 * (x.mean(0).square().sum() + x.var(0).sum()).item()
    assert found == pytest.approx(exact, rel=1e-4)
    assert found == pytest.approx(8 * (sigma - 1) ** 2, rel=0.03)


def test_kid():
    real, same, shifted = normal(400, 8), normal(400, 8, seed=1), normal(400, 8, seed=2) + 0.5
    mean, deviation = kid(same, real, subsets=10)
    assert abs(mean) < 2 * deviation
    shifted_mean, shifted_deviation = kid(shifted, real, subsets=10)
    assert shifted_mean > 5 * shifted_deviation


def test_kid_is_the_unbiased_distance_of_cubic_kernels():
    """Its mean is that of all images, its deviation that of random halves, by sums over pairs written out."""
    real, fake = normal(60, 4), normal(60, 4, seed=1) + 0.2

    def distance(x, y):
        between, of_x, of_y = ((a @ b.T / 4 + 1) ** 3 for a, b in ((x, y), (x, x), (y, y)))
        apart = ~torch.eye(len(x), dtype=torch.bool)
        return (of_x[apart].mean() + of_y[apart].mean() - 2 * between.mean()).item()

    mean, deviation = kid(fake, real, subsets=1000)
    assert mean == pytest.approx(distance(real, fake), abs=4 * deviation / 1000**0.5)
    generator = torch.Generator().manual_seed(0)
    halves = [[part[torch.randperm(60, generator=generator)[:30]] for part in (real, fake)] for _ in range(1000)]
    assert deviation == pytest.approx(torch.tensor([distance(*half) for half in halves]).std().item(), rel=0.1)


def test_kid_draws_from_its_seed_only():
    real, fake = normal(40, 4), normal(40, 4, seed=1)
    state = torch.get_rng_state()
    first = kid(fake, real)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    assert kid(fake, real) == first
    assert kid(fake, real, seed=1) != first


def test_interval_lies_around_the_distance():
    """For a clear shift the FID lies in its interval, which narrows with the number of images."""
    shift = torch.tensor([2.0, 0, 0, 0])
    widths = []
    for count in (200, 3200):
        fake, real = normal(count, 4) + shift, normal(count, 4, seed=1)
        low, high = fid_interval(fake, real, resamples=50)
        assert 0 <= low < high
        assert low < 4 < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2  # 1/√16 is expected


def test_the_interval_of_small_distances():
    """FIDs are squared distances: a tenth of the features, a hundredth of them. They are floored at 0."""
    fake, real = normal(200, 4) + 2, normal(200, 4, seed=1)
    low, high = fid_interval(fake, real, resamples=20)
    assert fid_interval(fake / 10, real / 10, resamples=20) == pytest.approx((low / 100, high / 100), rel=1e-4)
    assert fid_interval(real, real, resamples=20)[0] == 0


def test_distribution_quality():
    real, fake = normal(600, 4), normal(200, 4, seed=1) + 1
    quality = distribution_quality(fake, real)
    assert quality["samples"] == 200
    assert quality["FID"] == fid(fake, real[:200])
    assert quality["FID floor"] == fid(real[200:400], real[:200])
    assert quality["FID floor"] < 0.2
    assert quality["FID"] == pytest.approx(4, rel=0.2)
    assert (quality["KID"], quality["KID deviation"]) == kid(fake, real[:200])
    low, high = quality["FID interval"]
    assert low < quality["FID"] < high


def test_refuses_more_samples_than_images():
    with pytest.raises(ValueError, match="51 FID samples need at least 102 real images, but there are 100"):
        distribution_quality(normal(51, 4), normal(100, 4))


@pytest.mark.parametrize("distance", [fid, kid])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_refuses_features_that_are_not_finite(distance, value):
    good, bad = normal(20, 3), normal(20, 3, seed=1)
    bad[[2, 5], 1] = value
    with pytest.raises(ValueError, match="2 of 20 fake images have features that are not finite: a chain diverges"):
        distance(bad, good)
    with pytest.raises(ValueError, match="2 of 20 real images"):
        distance(good, bad)


def test_features_are_of_clamped_images():
    images = torch.tensor([-9, 0.25, 9]).reshape(3, 1, 1, 1).expand(3, 1, 28, 28)
    batches = []

    def corner(batch):
        batches.append(len(batch))
        return batch[:, 0, 0, :2]

    assert metrics.features(corner, images, batch_size=2)[:, 0].tolist() == [-0.5, 0.25, 0.5]
    assert batches == [2, 1]


def test_bytes_wrap_round_below_black():
    """As NumPy's cast of a negative integer to uint8: −127 becomes 129, and 127 stays."""
    images = torch.tensor([-0.5, -1.1 / 255, 0.0, 0.5]).reshape(4, 1, 1, 1).expand(4, 1, 28, 28)
    seen = ((metrics.wrapped(images) + 0.5) * 255).round().int()[:, 0, 0, 0].tolist()
    assert seen == [129, 255, 0, 127]


def test_quality_of_each_averages_to_image_quality():
    real, fake = torch.rand(2, 5, 1, 28, 28, generator=torch.Generator().manual_seed(0)) - 0.5
    means = {name: values.mean().item() for name, values in metrics.quality_of_each(fake, real).items()}
    assert means == pytest.approx(image_quality(fake, real))
