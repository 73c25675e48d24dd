import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from ddpm_utils.diffusion.schedules import SPACINGS, NoiseSchedule, constant, cosine, gather, linear

SCHEDULES = [constant(beta=0.001, T=2000), constant(beta=0.1, T=200), linear(), cosine()]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_step_zero_is_the_identity(schedule):
    assert schedule.beta[0] == 0
    assert schedule.alpha[0] == 1
    assert schedule.time[0] == 0
    assert schedule.time[schedule.T] == 1
    assert schedule.snr[0] == np.inf


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_alpha_is_the_running_product(schedule):
    product = 1.0
    for t in range(1, schedule.T + 1):
        product *= 1 - schedule.beta[t]
        assert schedule.alpha[t] == pytest.approx(product, rel=1e-12)
        assert schedule.snr[t] == pytest.approx(product / (1 - product), rel=1e-9)


def test_signal_left_at_the_end_of_the_published_runs():
    assert constant(beta=0.001, T=2000).alpha[-1] == pytest.approx(0.999**2000)
    assert constant(beta=0.001, T=2000).alpha[-1] == pytest.approx(0.135, abs=5e-4)
    assert constant(beta=0.1, T=200).alpha[-1] == pytest.approx(7e-10, rel=0.02)


def test_linear_is_equation_3():
    schedule = linear(beta_min=0.1, beta_max=0.5, T=4)
    np.testing.assert_allclose(schedule.beta, [0, 0.2, 0.3, 0.4, 0.5])


def test_cosine_alpha_agrees_with_its_clipped_beta():
    schedule = cosine(T=1000)
    assert schedule.beta.max() == 0.999
    np.testing.assert_allclose(schedule.alpha, np.cumprod(1 - schedule.beta), rtol=1e-14)
    # before the clip it is Nichol and Dhariwal's equation 17
    f = [math.cos(math.pi / 2 * (t / 1000 + 0.008) / 1.008) ** 2 for t in (0, 1, 500, 998)]
    np.testing.assert_allclose(schedule.alpha[[1, 500, 998]], np.array(f[1:]) / f[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("schedule", "options"),
    [
        (constant(beta=0.001, T=2000), {"beta_start": 0.001, "beta_end": 0.001}),
        # diffusers starts at beta_start, equation 3 one step of the line later
        (linear(), {"beta_start": 1e-4 + (0.02 - 1e-4) / 1000, "beta_end": 0.02}),
        (cosine(), {"beta_schedule": "squaredcos_cap_v2"}),
    ],
    ids=["constant", "linear", "cosine"],
)
def test_agrees_with_diffusers(schedule, options, diffusers_scheduler):
    np.testing.assert_allclose(schedule.beta[1:], DDPMScheduler(schedule.T, **options).betas, rtol=1e-5)
    np.testing.assert_allclose(
        schedule.alpha[1:], diffusers_scheduler(DDPMScheduler, schedule).alphas_cumprod, rtol=1e-5
    )


@pytest.mark.parametrize("name", ["beta", "alpha", "time"])
def test_arrays_are_read_only_and_double(name):
    array = getattr(linear(T=10), name)
    assert array.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        array[1] = 0.5


def test_does_not_share_the_callers_array():
    beta = np.array([0, 0.1, 0.2])
    schedule = NoiseSchedule(beta)
    beta[1] = 0.9
    assert schedule.beta[1] == 0.1


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 7, 50, [1, 2, 90], [3, 100, 200]])
def test_subset_keeps_alpha_and_the_clock(schedule, steps):
    part = schedule.subset(steps)
    visited = [0, *steps] if isinstance(steps, list) else np.rint(np.arange(steps + 1) * schedule.T / steps).astype(int)
    np.testing.assert_array_equal(part.time, schedule.time[visited])
    np.testing.assert_array_equal(part.alpha, schedule.alpha[visited])
    np.testing.assert_allclose(np.cumprod(1 - part.beta), part.alpha, rtol=1e-6)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("count", [1, 2, 20, 199, 200])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_spacing_gives_different_steps_up_to_the_last(schedule, count, spacing):
    visited = schedule.subset(count, spacing).time * schedule.T
    steps = visited.round().astype(int)
    np.testing.assert_allclose(visited, steps, atol=1e-9)
    assert len(steps) == count + 1
    assert (np.diff(steps) >= 1).all()
    assert steps[-1] == schedule.T


@pytest.mark.parametrize(
    ("spacing", "position"),
    [
        ("even", lambda part: part.time),
        ("quadratic", lambda part: part.time**0.5),
        ("log_snr", lambda part: np.log(part.snr)),
        ("karras", lambda part: (1 / part.snr) ** (1 / 14)),
    ],
)
def test_spacings_are_even_in_what_they_name(spacing, position):
    part = linear(beta_min=1e-6, beta_max=2e-4, T=100_000).subset(9, spacing)
    gaps = np.diff(position(part)[2:])  # the first steps are too close to 1 for integers to be even
    np.testing.assert_allclose(gaps, gaps.mean(), rtol=0.01)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_subset_of_every_step_is_the_schedule_itself(schedule, spacing):
    same = schedule.subset(schedule.T, spacing)
    np.testing.assert_allclose(same.beta, schedule.beta, rtol=1e-9)
    np.testing.assert_allclose(same.alpha, schedule.alpha, rtol=1e-9)
    np.testing.assert_array_equal(same.time, schedule.time)


def test_gather_broadcasts_over_images():
    table = np.array([0.0, 0.1, 0.2])
    images = torch.zeros(2, 1, 4, 4)
    assert gather(table, 2, images).shape == (1, 1, 1, 1)
    assert gather(table, 2, images).item() == pytest.approx(0.2)
    per_image = gather(table, torch.tensor([2, 0]), images)
    assert per_image.shape == (2, 1, 1, 1)
    assert per_image.dtype == torch.float32
    assert per_image.flatten().tolist() == pytest.approx([0.2, 0])


def test_gather_reads_its_table_on_the_cpu_whatever_the_default_device_is():
    """PyTorch's device without data stands for any other."""
    images = torch.zeros(2, 1)
    with torch.device("meta"):
        assert gather(np.array([0.0, 0.25]), 1, images).item() == 0.25


@pytest.mark.parametrize("t", [-1, 3, torch.tensor([0, 3]), torch.tensor([-1, 0])])
def test_gather_refuses_t_outside_the_table(t):
    with pytest.raises(ValueError, match="t must lie in 0…2"):
        gather(np.zeros(3), t, torch.zeros(2, 1))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: constant(beta=0.0, T=10), "beta must lie strictly between 0 and 1, not 0"),
        (lambda: constant(beta=1, T=10), "beta must lie strictly between 0 and 1, not 1"),
        (lambda: constant(beta=-0.1, T=10), "beta must lie strictly between 0 and 1, not -0.1"),
        (lambda: constant(beta=math.nan, T=10), "beta must lie strictly between 0 and 1, not nan"),
        (lambda: constant(beta=0.1, T=0), "T must be in 1…1000000, not 0"),
        (lambda: constant(beta=0.1, T=2.5), "T must be an integer, not 2.5"),
        (lambda: constant(beta=0.1, T=True), "T must be an integer, not True"),
        (lambda: constant(beta=0.1, T=2000), r"alpha at T = 2000 is 3e-92, below 1e-60"),
        (lambda: linear(beta_min=0.3, beta_max=0.2), "beta_min = 0.3 must not be larger than beta_max = 0.2"),
        (lambda: linear(beta_min=0.0), "beta_min must lie strictly"),
        (lambda: linear(beta_max=1.5), "beta_max must lie strictly"),
        (lambda: linear(T=-1), "T must be in 1…1000000, not -1"),
        (lambda: cosine(T=0), "T must be in 1…1000000, not 0"),
        (lambda: NoiseSchedule(np.array([0.1, 0.1])), r"beta\[0\] = 0"),
        (lambda: NoiseSchedule(np.array([0.0])), "T ≥ 1"),
        (lambda: NoiseSchedule(np.array([0, 0.1, 1.0])), "every beta must lie strictly between 0 and 1"),
        (lambda: NoiseSchedule(np.array([0, 0.1, np.nan])), "every beta must lie strictly between 0 and 1"),
        (lambda: NoiseSchedule(np.array([0, 0.1]), np.zeros(3)), "time must have the shape of beta"),
        (lambda: linear(T=10).subset(0), r"the number of steps must be in 1…10, not 0"),
        (lambda: linear(T=10).subset(11), r"the number of steps must be in 1…10, not 11"),
        (lambda: linear(T=10).subset([0, 5]), r"steps must increase and lie in 1…10"),
        (lambda: linear(T=10).subset([5, 5]), r"steps must increase and lie in 1…10"),
        (lambda: linear(T=10).subset([5, 11]), r"steps must increase and lie in 1…10"),
        (lambda: linear(T=10).subset(5, "odd"), "spacing must be one of even, quadratic, log_snr, karras, not 'odd'"),
        (lambda: linear(T=10).subset([1, 5.5]), r"steps must be an integer, or a list of integers, not \[1, 5\.5\]"),
        (lambda: linear(T=10).subset(5.5), r"steps must be an integer, or a list of integers, not 5\.5"),
        (lambda: linear(T=10).subset("5"), r"steps must be an integer, or a list of integers, not '5'"),
        (lambda: linear(T=10).subset(True), r"steps must be an integer, or a list of integers, not True"),
        (lambda: linear(T=10).subset(5, "log-snrs"), r"not 'log-snrs'\. Did you mean 'log_snr'\?"),
        (lambda: linear(T="10"), "T must be an integer, not '10'"),
        (lambda: constant(beta=[0.1], T=3), r'beta must be a number, not \[0\.1\]\. For .* take schedule="custom"'),
        (lambda: linear(T=10).subset([]), r"steps must increase and lie in 1…10"),
        (lambda: constant(beta=0.1, T=400).subset(1), "take more steps: between two of these no signal is left"),
        (lambda: NoiseSchedule(np.array([0, 0.1]), alpha=np.array([1, 0.8])), "alpha must be the cumulative product"),
        (
            lambda: NoiseSchedule(np.array([0, 1 - 2e-9]), alpha=np.array([1, 1e-9])),  # half of what it should be
            "alpha must be the cumulative product",
        ),
        (
            lambda: linear(beta_min=0.5, beta_max=0.9, T=200),
            r"beta_min = 0\.5, beta_max = 0\.9, T = 200: alpha at",
        ),
    ],
)
def test_refuses(make, sentence, unchecked):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize("kind", [float, np.int64, np.float32, np.array, torch.tensor])
def test_whole_numbers_of_any_type_are_integers(kind, unchecked):
    expected = linear(beta_max=0.25, T=20)
    schedule = linear(beta_max=kind(0.25) if kind is not np.int64 else 0.25, T=kind(20))
    np.testing.assert_array_equal(schedule.beta, expected.beta)
    assert cosine(T=kind(20)).T == constant(beta=0.1, T=kind(20)).T == 20
    for spacing in ("even", "Log-SNR", "log snr"):
        np.testing.assert_array_equal(
            schedule.subset(kind(5), spacing).time,
            expected.subset(5, "even" if spacing == "even" else "log_snr").time,
        )
    assert schedule.has_subset(kind(5))
    np.testing.assert_array_equal(schedule.subset([kind(5), 10]).time, [0, 0.25, 0.5])
    images = torch.zeros(2, 1)
    assert gather(schedule.beta, kind(5), images).item() == gather(expected.beta, 5, images).item()
    assert gather(schedule.beta, torch.tensor([5.0, 20.0]), images).shape == (2, 1)
    with pytest.raises(ValueError, match=r"t must hold integers, not \[0\.5, 2\.0\]"):
        gather(schedule.beta, torch.tensor([0.5, 2.0]), images)


@pytest.mark.parametrize("steps", [[[1, 2], [3, 4]], [1.5], ["1"], 7 * torch.ones(2, 2)])
def test_steps_must_be_a_list_of_integers(steps, unchecked):
    with pytest.raises(ValueError, match="steps must be an integer, or a list of integers"):
        constant(beta=0.1, T=10).subset(steps)


@pytest.mark.parametrize("steps", [0, -1, 11])
def test_a_subset_of_no_or_of_more_steps_does_not_exist(steps):
    assert constant(beta=0.1, T=10).has_subset(steps) is False


@pytest.mark.parametrize("ask", ["subset", "has_subset"])
def test_an_unknown_spacing_is_named(ask, unchecked):
    with pytest.raises(ValueError, match=r"^spacing must be one of even, "):
        getattr(constant(beta=0.1, T=10), ask)(5, "odd")
