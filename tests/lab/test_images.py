"""What the panels show of images: the right ones, at the right place, with the right numbers."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from ddpm_utils.cold.degradations import HeatBlur
from ddpm_utils.diffusion.samplers import ddim, sample_trajectory, standard_start
from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.lab.canvas import Blit
from ddpm_utils.lab.images import (
    CausesPicture,
    Choice,
    EstimatesPicture,
    NoisyDigits,
    RoundTripPicture,
    TrajectoryPicture,
)
from ddpm_utils.lab.precomputed import estimates, round_trips, trajectories
from ddpm_utils.randomness import Noise
from maintenance.records.decomposition import CELLS
from tests.made_up_records import UNSAMPLED, decomposition, fid


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def x(digits):
    return digits.test.images[:3]


@pytest.fixture
def noise(x):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(1))


def place(rows, row: int, column: int) -> np.ndarray:
    """The image that stands at a place of a picture, NaN where there is none."""
    part = np.asarray(rows.picture.get_array())[row * 29 : row * 29 + 28, column * 29 : column * 29 + 28]
    return np.where(part[..., 3] == 255, part[..., 0] / 255 - 0.5, np.nan)


def assert_shown(rows, row: int, column: int, image, atol: float = 0.0) -> None:
    """At this place stands this image, cut to the grey scale and rounded to grey levels."""
    np.testing.assert_allclose(place(rows, row, column), image.clamp(-0.5, 0.5).numpy(), atol=0.002 + atol)


def knows(x):
    """A decoder that is told the answer: the noise in z_t of these images, for a schedule with one α per time."""

    def network(z, time):
        alpha = 0.9 ** (time[0].item() * 10)
        return (z - alpha**0.5 * x) / (1 - alpha) ** 0.5

    return network


@pytest.mark.parametrize(("beta", "T", "t"), [(0.01, 200, 20), (0.3, 2000, 2000), (1e-4, 1, 0)])
def test_noisy_digits(x, noise, beta, T, t):
    picture = NoisyDigits(x, noise)
    title = picture(beta, T, t).get_suptitle()
    alpha = (1 - beta) ** t
    assert float(re.search(r"α_t = ([^,]+),", title)[1]) == pytest.approx(alpha, rel=5e-3)
    ratio = title.split("ratio ")[1]
    assert (np.inf if ratio == "∞" else float(ratio)) == pytest.approx(alpha / (1 - alpha) if t else np.inf, rel=5e-3)
    z = alpha**0.5 * x + (1 - alpha) ** 0.5 * noise
    assert_shown(picture.rows, 0, 2, z[2, 0], atol=1e-5)
    heights, _, _ = picture.histogram.get_data()
    assert heights.sum() * 0.1 == pytest.approx(1)
    assert picture.here.get_data() == ([t / T], [pytest.approx(alpha)])


def test_estimates_of_a_decoder_that_knows(x, noise):
    found = estimates(knows(x), constant(beta=0.1, T=10), x, noise, [1, 5, 10])
    picture = EstimatesPicture(found, 10)
    assert picture(5).get_suptitle() == "t = 5 of 10, α_t = 0.59: mean squared error of ε 0.000"
    assert_shown(picture.rows, 5, 1, x[1, 0], atol=1e-4)  # x̂ is x
    assert_shown(picture.rows, 2, 1, noise[1, 0] / 4, atol=1e-6)
    assert_shown(picture.rows, 3, 1, noise[1, 0] / 4, atol=1e-4)
    assert_shown(picture.rows, 4, 1, 0 * noise[1, 0], atol=1e-4)


def test_estimates_show_the_error_enlarged(x, noise):
    found = estimates(lambda z, time: noise + 0.05 * x, constant(beta=0.1, T=10), x, noise, [5])
    picture = EstimatesPicture(found, 10)
    picture(5)
    assert_shown(picture.rows, 4, 1, 0.2 * x[1, 0], atol=1e-5)


def test_trajectories_are_the_samplers_own(x):
    schedule = constant(beta=0.1, T=10)
    network = knows(x)
    found = trajectories(network, schedule, {"N(0, I)": standard_start}, calls=[3, 5], seeds=1, count=3)
    assert len(found) == 2 * 7  # five samplers, DDIM with three η's
    way = found[Choice("DDIM", 5, 0.0, "N(0, I)", 0)]
    assert way.steps[0] == 10
    assert way.steps[-1] == 0
    chain = schedule.subset(5, "quadratic")
    seeds = range(1_000_000, 1_000_003)
    latents = sample_trajectory(ddim, network, chain, count=3, seed=1_000_000, keep=[3, 0])
    torch.testing.assert_close(way.z[0].float(), Noise(seeds)(), rtol=0, atol=2e-3)  # half precision
    torch.testing.assert_close(way.z[2].float(), latents[3].z, rtol=0, atol=2e-3)
    torch.testing.assert_close(way.z[-1].float(), latents[0].z, rtol=0, atol=2e-3)
    for guess in way.x_hat:  # from the z beside it, at each step
        torch.testing.assert_close(guess.float(), x, rtol=0, atol=2e-3)

    picture = TrajectoryPicture(found, 10)
    title = picture("DDIM", 5, 0.0, "N(0, I)", 0, t=10).get_suptitle()
    assert title == "t = 10 of 10, nearest visited step 10, α = 0.349: DDIM, η = 0, 5 calls, from N(0, I), seed 0"
    assert_shown(picture.rows, 0, 0, Noise(seeds)()[0, 0], atol=2e-3)
    picture("DDIM", 5, 0.0, "N(0, I)", 0, t=0)
    assert_shown(picture.rows, 0, 0, x[0, 0], atol=2e-3)
    assert "η" not in picture("Heun", 5, 1.0, "N(0, I)", 0, t=3).get_suptitle()  # it has none


@pytest.fixture
def causes():
    """The picture of made-up cells."""
    return CausesPicture(decomposition())


def factors(name: str) -> dict[str, str]:
    """What the menus say of a cell."""
    return CELLS[name]._asdict()


def marked(picture: CausesPicture) -> list[int]:
    """The cells that the band covers in part."""
    if picture.band.get_alpha() == 0:
        return []
    low, high = picture.band.get_y(), picture.band.get_y() + picture.band.get_height()
    return [place for place in range(len(CELLS)) if low < place + 0.45 and high > place - 0.45]


@pytest.mark.parametrize("name", [name for name in CELLS if name != UNSAMPLED])
def test_causes_show_the_cell_that_is_chosen(causes, digits, name):
    first = 8 * list(CELLS).index(name)
    for variance in ("posterior", "beta"):
        title = causes(variance=variance, **factors(name)).get_suptitle()
        seeds = range(2 if name.startswith("U-Net") else 3)
        mean = sum(fid(name, variance, seed) for seed in seeds) / len(seeds)
        words = ", ".join(CELLS[name])
        assert title == f"{words}, σ² {variance}: FID {mean:.3g}, mean of {len(seeds)} networks"
        for number in range(8):
            assert_shown(causes.rows, number // 4, number % 4, digits.test.images[first + number, 0])
        assert marked(causes) == [list(CELLS).index(name)]
        low, high = causes.band.get_y(), causes.band.get_y() + causes.band.get_height()
        assert low < list(CELLS).index(name) - 0.17 < list(CELLS).index(name) + 0.17 < high  # both variances' dots
        assert (causes.band.get_x(), causes.band.get_width()) == (0, 1)  # across the whole axis


def test_causes_of_a_combination_that_is_no_cell(causes):
    """After a measured one, of which nothing may be left; and the measured one comes back."""
    measured = factors("CNN, low β, fine")
    causes(variance="beta", **measured)
    title = causes(variance="beta", **measured | {"index": "off by one"}).get_suptitle()
    assert title == "cnn, low β, 200 fine steps, off by one, matched, σ² beta: not measured"
    assert not causes.rows.pixels.any()
    assert marked(causes) == []
    assert ": FID " in causes(variance="beta", **measured).get_suptitle()
    assert causes.rows.pixels.any()
    assert marked(causes) == [list(CELLS).index("CNN, low β, fine")]


def test_causes_of_a_cell_without_samples(causes):
    title = causes(variance="posterior", **factors(UNSAMPLED)).get_suptitle()
    assert title.endswith(", σ² posterior: not measured")
    assert not causes.rows.pixels.any()
    assert marked(causes) == [list(CELLS).index(UNSAMPLED)]


def test_causes_stay_right_when_only_what_moves_is_drawn(causes):
    """As a panel draws it: the band of the cell that was chosen before is gone."""
    blit, one, other = Blit(), factors("CNN, low β, fine"), factors("CNN, low β, coarse")
    first = blit(causes(variance="beta", **one))
    assert blit(causes(variance="beta", **other)) != first
    blit(causes(variance="beta", **one | {"index": "off by one"}))
    assert blit(causes(variance="beta", **one)) == first


def test_round_trips_come_home_with_a_network_that_knows(x):
    found = round_trips({"heat": (HeatBlur(20), lambda z, time: x, 0.0)}, x, calls=4)
    picture = RoundTripPicture(found)
    for algorithm, way in {"direct": "directly", "2": "by algorithm 2"}.items():
        title = picture("heat", 0.5, algorithm, 1).get_suptitle()
        assert title == f"Digit 1, heat to t = 10 of 20, and back {way}: RMSE 0.000"
        assert_shown(picture.rows, 0, 0, x[1, 0])
        assert_shown(picture.rows, 1, 0, x[1, 0], atol=1e-5)
    assert np.isnan(place(picture.rows, 1, 6)).all()  # a short way leaves places empty
