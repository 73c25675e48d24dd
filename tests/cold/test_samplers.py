"""Algorithms 1 and 2 against their error recursions, closed forms, and DDIM."""

import numpy as np
import pytest
import torch

from ddpm_utils.cold import mixtures
from ddpm_utils.cold.degradations import Degradation, DownSampling, GaussianBlur, HeatBlur, RowColumnAveraging
from ddpm_utils.cold.samplers import ALGORITHMS, cold_1, cold_2, direct, downward, estimated, fresh
from ddpm_utils.diffusion.samplers import ddim
from ddpm_utils.diffusion.schedules import cosine
from ddpm_utils.randomness import Noise

T = 8


class Scale(Degradation):
    """D(x, t) = 0.8ᵗ·x."""

    T = T

    def __call__(self, x, t, context=None):
        return x * 0.8**t


class Line(Degradation):
    """D(x, t) = x + t·e, with e the context."""

    T = T

    def __call__(self, x, t, context=None):
        return x + t * context


@pytest.fixture
def x():
    return torch.rand(3, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5


@pytest.fixture
def none():
    return torch.empty(3, 0)


def wrong(z, time):
    """A restoration that is far from perfect, and not linear."""
    return torch.tanh(1.4 * z + time.reshape(-1, 1, 1, 1).to(z)) - 0.3


DEGRADATIONS = [
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


@pytest.mark.parametrize("degradation", DEGRADATIONS, ids=by_class)
@pytest.mark.parametrize("algorithm", [cold_1, cold_2])
def test_a_perfect_restoration_walks_back_along_the_way_forward(algorithm, degradation, x):
    context = degradation.draw_context(3, torch.Generator().manual_seed(1))
    latents = list(algorithm(lambda z, time: x, degradation, degradation(x, T, context), context))
    assert [latent.t for latent in latents] == list(range(T - 1, -1, -1))
    for latent in latents:
        torch.testing.assert_close(latent.z, degradation(x, latent.t, context), rtol=0, atol=1e-6)


@pytest.mark.parametrize("degradation", DEGRADATIONS, ids=by_class)
def test_error_of_algorithm_1_is_that_of_each_restoration(degradation, x):
    """e_{s−1} = D(x + r_s, s−1) − D(x, s−1), whatever came before."""
    context = degradation.draw_context(3, torch.Generator().manual_seed(1))
    for latent in cold_1(wrong, degradation, degradation(x, T, context), context):
        error = latent.z - degradation(x, latent.t, context)
        residual = latent.x_hat - x
        expected = degradation(x + residual, latent.t, context) - degradation(x, latent.t, context)
        torch.testing.assert_close(error, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("degradation", DEGRADATIONS, ids=by_class)
def test_error_of_algorithm_2_keeps_the_starts_and_adds_changes(degradation, x):
    """e_{s−1} = e_s − [Δ_s(x + r_s) − Δ_s(x)], from a start that errs itself."""
    context = degradation.draw_context(3, torch.Generator().manual_seed(1))
    error = 0.1 * torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2))

    def change(image, s):
        return degradation(image, s, context) - degradation(image, s - 1, context)

    for latent in cold_2(wrong, degradation, degradation(x, T, context) + error, context):
        s = latent.t + 1
        error = error - (change(latent.x_hat, s) - change(x, s))
        torch.testing.assert_close(latent.z - degradation(x, latent.t, context), error, rtol=0, atol=1e-6)


def test_algorithm_2_of_a_biased_restoration(x, none):
    """e_0 = Σ_s [Δ_s(x) − Δ_s(x + r)] = (1 − 0.8^T)·r, within the bound Σ Lip(Δ_s)·|r|."""
    *_, last = cold_2(lambda z, time: x + 0.3, Scale(), Scale()(x, T), none)
    torch.testing.assert_close(last.z, x + (1 - 0.8**T) * 0.3)


def test_a_start_that_errs_stays_wrong_in_algorithm_2_only(x, none):
    errors = {}
    for name in ("1", "2"):
        *_, last = ALGORITHMS[name](lambda z, time: x, Scale(), Scale()(x, T) + 0.2, none)
        errors[name] = (last.z - x).abs().max().item()
    assert errors == {"1": pytest.approx(0), "2": pytest.approx(0.2)}


@pytest.mark.parametrize("algorithm", [cold_1, cold_2])
def test_a_constant_restoration(algorithm, x, none):
    """Algorithm 1 forgets z_T; algorithm 2 returns z_T + c − D(c, T)."""
    blur = HeatBlur(T)
    constant = x.mean(0, keepdim=True).expand_as(x)
    z = blur(x, T)
    *_, last = algorithm(lambda z, time: constant, blur, z, none)
    expected = constant if algorithm is cold_1 else z + constant - blur(constant, T)
    torch.testing.assert_close(last.z, expected, rtol=0, atol=1e-6)


def test_algorithm_2_is_exact_on_a_line_for_any_restoration(x):
    e = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(3))
    *_, last = cold_2(wrong, Line(), Line()(x, T, e), e)
    torch.testing.assert_close(last.z, x)
    *_, other = cold_1(wrong, Line(), Line()(x, T, e), e)
    assert (other.z - x).abs().mean() > 0.1


def test_with_gaussian_noise_both_algorithms_are_ddim(x):
    schedule = cosine(T=T)
    degradation = mixtures.noise(T)
    z = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(4))

    def decoder(z, time):  # g that says the same as `wrong`
        alpha = schedule.alpha[round(time[0].item() * T)]
        return (z - np.sqrt(alpha) * wrong(z, time)) / np.sqrt(1 - alpha)

    ways = [algorithm(wrong, degradation, z, estimated(degradation)) for algorithm in (cold_1, cold_2)]
    for one, two, three in zip(*ways, ddim(decoder, schedule, z), strict=True):
        torch.testing.assert_close(one.z, two.z)
        torch.testing.assert_close(one.z, three.z)


def test_algorithm_2_on_the_flows_line_is_eulers_method(x):
    """dz/ds = ε − x = (z − x̂)/s, in steps of 1/T from s = 1 to 0."""
    degradation = mixtures.flow(T)
    z = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(5))
    walk = list(cold_2(wrong, degradation, z, estimated(degradation)))
    for t in range(T, 0, -1):
        z = z - (z - wrong(z, torch.full((3,), t / T))) / t
        torch.testing.assert_close(walk[T - t].z, z)


def test_fresh_contexts_are_drawn_at_each_step(x):
    degradation = mixtures.noise(T)
    draws = Noise(range(3))
    walk = list(cold_1(lambda z, time: x, degradation, x, fresh(draws)))
    replayed = Noise(range(3))
    for latent in walk:
        torch.testing.assert_close(latent.z, degradation(x, latent.t, replayed().to(x)))


def test_direct_asks_once(x, none):
    (only,) = direct(lambda z, time: z * 3 + time[0], Scale(), x, none)
    torch.testing.assert_close(only.z, 3 * x + 1)
    assert only.t == 0


def test_sigma_is_added_anew_in_algorithm_1(x, none):
    steps = list(cold_1(lambda z, time: x, Scale(), x, none, Noise(range(3)), sigma=0.1))
    replayed = Noise(range(3))
    for latent in steps[:-1]:
        torch.testing.assert_close(latent.z, Scale()(x, latent.t) + 0.1 * replayed().to(x))
    torch.testing.assert_close(steps[-1].z, x)


def test_sigma_stays_in_algorithm_2_whose_last_latent_is_x_hat(x, none):
    error = torch.full_like(x, 0.1)
    *middle, last = cold_2(lambda z, time: x, Scale(), Scale()(x, T) + error, none, sigma=0.1)
    for latent in middle:
        torch.testing.assert_close(latent.z - Scale()(x, latent.t), error)
    torch.testing.assert_close(last.z, x)


def test_fewer_steps(x, none):
    visited = [latent.t for latent in cold_2(lambda z, time: x, Scale(), x, none, steps=[1, 4, 8])]
    assert visited == [4, 1, 0]


def test_algorithms_by_name(x, none):
    ways = {name: list(ALGORITHMS[name](lambda z, time: x, Scale(), x, none, steps=[1, 4])) for name in ALGORITHMS}
    assert {name: [latent.t for latent in way] for name, way in ways.items()} == {
        **{"direct": [0], "1": [1, 0], "2": [1, 0]}
    }


@pytest.mark.parametrize("steps", [[], [0, 3], [3, 2], [1, 9]])
def test_refuses_steps(steps, x, none):
    with pytest.raises(ValueError, match="steps must increase and lie in 1…8"):
        next(cold_1(wrong, Scale(), x, none, steps=steps))


def test_refuses_to_estimate_what_cannot_be(x):
    blur = GaussianBlur(T)
    with pytest.raises(ValueError, match="GaussianBlur cannot tell its context"):
        next(cold_1(wrong, blur, x, estimated(blur)))


def test_one_step_can_be_visited_alone():
    assert list(downward([5], 8)) == [(5, 0)]
    assert list(downward([2, 5], 8)) == [(5, 2), (2, 0)]
