"""Properties of D against closed forms, and the error recursions against walks of a restoration that errs."""

import numpy as np
import pytest
import torch

from ddpm_utils.cold import mixtures, theory
from ddpm_utils.cold.degradations import DownSampling, GaussianBlur, HeatBlur, RowColumnAveraging
from ddpm_utils.cold.samplers import cold_1, cold_2
from ddpm_utils.cold.theory import composition_error, invertibility, singular_values, step_sizes

T = 10
ALL = [
    GaussianBlur(T),
    HeatBlur(T),
    DownSampling(T),
    RowColumnAveraging(T),
    mixtures.noise(T),
    mixtures.flow(T),
    mixtures.GaussianFade(T),
]


def by_class(degradation):
    return type(degradation).__name__


def context_of(degradation, count=1):
    return degradation.draw_context(count, torch.Generator().manual_seed(1))


@pytest.fixture
def x():
    return torch.rand(4, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5


def test_exact_blurs_singular_values_are_products_of_decays():
    heat = HeatBlur(T)
    expected = torch.outer(heat.decay[4], heat.decay[4]).flatten().sort(descending=True).values
    torch.testing.assert_close(singular_values(heat, 4, context_of(heat)), expected, rtol=0, atol=1e-12)


def test_a_mixtures_singular_values_are_its_signal():
    noise = mixtures.noise(T)
    found = singular_values(noise, 7, context_of(noise))
    torch.testing.assert_close(found, torch.full((784,), float(noise.signal[7]), dtype=torch.float64))
    assert invertibility(found) == (784, pytest.approx(1 / noise.signal[7]), 784)


def test_a_fades_singular_values_are_its_mask():
    fade = mixtures.GaussianFade(T)
    context = context_of(fade)
    mask = fade.mask(torch.tensor([3]), context).double().flatten().sort(descending=True).values
    torch.testing.assert_close(singular_values(fade, 3, context), mask, rtol=0, atol=1e-7)


def test_down_sampling_keeps_as_many_directions_as_boxes():
    down = DownSampling(27)
    found = invertibility(singular_values(down, 14, context_of(down)))
    assert (found.rank, found.growth) == (14 * 14, float("inf"))


def test_averaging_is_invertible_until_its_end():
    averaging = RowColumnAveraging(T)
    middle, last = (invertibility(singular_values(averaging, t, context_of(averaging))) for t in (3, T))
    assert (middle.rank, middle.growth) == (784, pytest.approx(1 / (1 - 3 / 5)))
    assert last.rank == 1


def test_visible_directions_of_the_exact_blur():
    """exp(−t·(π/28)²·(k² + l²)/2) > 1/255 is a quarter of a disc of frequencies."""
    heat = HeatBlur(100)
    k = np.arange(28)
    expected = int(((k[:, None] ** 2 + k**2) * (np.pi / 28) ** 2 * 100 / 2 < np.log(255)).sum())
    assert invertibility(singular_values(heat, 100, context_of(heat))).visible == expected == 9


def test_the_flow_moves_evenly(x):
    flow = mixtures.flow(T)
    context = context_of(flow, 4).double()
    expected = (context - x).square().mean().sqrt() / T
    torch.testing.assert_close(step_sizes(flow, x, context), expected.expand(T))


@pytest.mark.parametrize(("degradation", "exact"), [(HeatBlur(T), True), (GaussianBlur(T), True), (DownSampling(T), 0)])
def test_only_blurs_compose(degradation, exact, x):
    assert (composition_error(degradation, x, context_of(degradation, 4), 3, 4) < 1e-12) == exact


def wrong(z, time):
    return torch.tanh(1.4 * z + time.reshape(-1, 1, 1, 1).to(z)) - 0.3


@pytest.mark.parametrize("degradation", ALL, ids=by_class)
@pytest.mark.parametrize("steps", [None, [2, 3, 7, T]])
def test_recursions_say_what_walks_measure(degradation, steps, x):
    context = context_of(degradation, 4)
    start = 0.1 * torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2))
    z = degradation(x, T, context) + start
    arguments = degradation, x, context
    one, two = (list(algorithm(wrong, degradation, z, context, steps=steps)) for algorithm in (cold_1, cold_2))
    for found, said in zip(theory.measured(one, *arguments), theory.recursion_1(one, *arguments), strict=True):
        torch.testing.assert_close(found, said, rtol=0, atol=1e-6)
    found = theory.measured(two, *arguments)
    for error, said in zip(found, theory.recursion_2(two, *arguments, start), strict=True):
        torch.testing.assert_close(error, said, rtol=0, atol=1e-6)
