from functools import partial

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.schedulers import scheduling_ddpm

from ddpm_utils.diffusion.forward import diffuse, posterior_tables
from ddpm_utils.diffusion.samplers import (
    Latent,
    MatchedStart,
    ancestral,
    ddim,
    estimate,
    sample,
    sample_trajectory,
    standard_start,
)
from ddpm_utils.diffusion.schedules import constant, cosine, linear
from ddpm_utils.diffusion.solvers import METHODS, dpm_solver_2m, fewest_calls, heun
from ddpm_utils.networks.cnn import CNN
from ddpm_utils.randomness import Noise, generator_for

SCHEDULES = [constant(beta=0.05, T=40), linear(beta_max=0.3, T=40), cosine(T=40)]


class Given(Noise):
    """Noise that is known beforehand."""

    def __init__(self, draws):
        self.draws = iter(draws)

    def __call__(self):
        return next(self.draws)


class White(Noise):
    """Noise for many small images, from one stream."""

    def __init__(self, shape):
        self.shape, self.generator = shape, torch.Generator().manual_seed(0)

    def __call__(self):
        return torch.randn(self.shape, generator=self.generator, dtype=torch.float64)


def decoder(z, time):
    """Not linear, and it looks at its clock."""
    return torch.tanh(1.3 * z + time.reshape(-1, 1, 1, 1)) - 0.2


@pytest.fixture
def draws():
    return list(torch.randn(40, 3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))


def assert_follows(trajectory, scheduler, z, T, step):
    """Each z and x̂ of our trajectory, and diffusers'."""
    for latent, index in zip(trajectory, scheduler.timesteps.tolist(), strict=True):
        g = decoder(z, torch.full((len(z),), (index + 1) / T, dtype=z.dtype))
        theirs = step(g, index, z)
        z = theirs.prev_sample
        torch.testing.assert_close(latent.z, z, rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(latent.x_hat, theirs.pred_original_sample, rtol=1e-5, atol=1e-8)
    assert latent.t == 0


@pytest.mark.parametrize("steps", [40, 10])
@pytest.mark.parametrize(("variance", "theirs"), [("beta", "fixed_large"), ("posterior", "fixed_small")])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ancestral_follows_diffusers(schedule, variance, theirs, steps, start, draws, diffusers_scheduler, monkeypatch):
    options = {"variance_type": theirs, "timestep_spacing": "trailing", "clip_sample": False}
    scheduler = diffusers_scheduler(DDPMScheduler, schedule, **options)
    scheduler.set_timesteps(steps)
    given = iter([*draws[: steps - 1], torch.zeros_like(start)])  # diffusers draws for the last of few steps as well
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, **__: next(given))
    trajectory = ancestral(decoder, schedule.subset(steps), start, Given(draws), variance=variance)
    assert_follows(trajectory, scheduler, start, schedule.T, scheduler.step)


@pytest.mark.parametrize("steps", [40, 10])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_follows_diffusers(schedule, eta, steps, start, draws, diffusers_scheduler):
    options = {"set_alpha_to_one": True, "timestep_spacing": "trailing", "clip_sample": False}
    scheduler = diffusers_scheduler(DDIMScheduler, schedule, **options)
    scheduler.set_timesteps(steps)
    trajectory = ddim(decoder, schedule.subset(steps), start, Given(draws), eta=eta)
    given = iter(draws)

    def step(g, index, z):
        return scheduler.step(g, index, z, eta=eta, variance_noise=next(given))

    assert_follows(trajectory, scheduler, start, schedule.T, step)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_with_eta_1_is_ancestral_with_the_posterior_variance(schedule, start, draws):
    one = ddim(decoder, schedule, start, Given(draws), eta=1.0)
    other = ancestral(decoder, schedule, start, Given(draws), variance="posterior")
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a.z, b.z)


def test_a_variance_may_be_given_over_time(start, draws):
    """The posterior's, as a table and by its name."""
    table = posterior_tables(SCHEDULES[1])[2]
    given, named = (ancestral(decoder, SCHEDULES[1], start, Given(draws), variance=v) for v in (table, "posterior"))
    for a, b in zip(given, named, strict=True):
        assert torch.equal(a.z, b.z)


def exact_gaussian_decoder(schedule, mean, covariance):
    """E[ε|z_t] for x ~ N(μ, Σ): √(1−α)·(αΣ + (1−α)I)⁻¹(z − √α·μ)."""
    eye = torch.eye(len(mean), dtype=torch.float64)

    def decode(z, time):
        alpha = schedule.alpha[round(time[0].item() * schedule.T)]
        precision = torch.linalg.inv(alpha * covariance + (1 - alpha) * eye)
        return (1 - alpha) ** 0.5 * ((z.flatten(1) - alpha**0.5 * mean) @ precision).reshape(z.shape)

    return decode


@pytest.mark.parametrize("steps", [400, 200])
@pytest.mark.parametrize(
    "sampler", [ancestral, partial(ancestral, variance="posterior"), ddim], ids=["beta", "posterior", "ddim"]
)
def test_exact_decoder_of_gaussian_data(sampler, steps):
    schedule = linear(beta_max=0.05, T=400)
    mean = torch.tensor([0.5, -0.5, 0.0, 0.3], dtype=torch.float64)
    root = torch.tensor([[0.5, 0, 0, 0], [0.3, 0.4, 0, 0], [0, -0.2, 0.3, 0], [0.1, 0, 0.2, 0.4]], dtype=torch.float64)
    covariance = root @ root.T
    noise = White((8000, 1, 2, 2))
    decode = exact_gaussian_decoder(schedule, mean, covariance)
    *_, last = sampler(decode, schedule.subset(steps), noise(), noise)
    found = last.z.flatten(1)
    torch.testing.assert_close(found.mean(0), mean, rtol=0, atol=0.03)
    torch.testing.assert_close(found.T.cov(), covariance, rtol=0, atol=0.03)


@pytest.mark.parametrize("steps", [1, 2, 9, 200])
@pytest.mark.parametrize(
    "sampler",
    [ancestral, partial(ancestral, variance="posterior"), ddim, partial(ddim, eta=1.0), heun, dpm_solver_2m],
    ids=["beta", "posterior", "ddim", "ddim 1", "heun", "dpm solver"],
)
def test_perfect_decoder_of_one_image_returns_it(sampler, steps, start):
    """With α one step late, noise of standard deviation 0.24 would be left in it."""
    schedule = constant(beta=0.1, T=200)
    x = torch.rand(1, 1, 4, 4, dtype=torch.float64) - 0.5

    def perfect(z, time):
        alpha = schedule.alpha[round(time[0].item() * 200)]
        return (z - alpha**0.5 * x) / (1 - alpha) ** 0.5

    *_, last = sampler(perfect, schedule.subset(steps), start, White(start.shape))
    assert last.t == 0
    torch.testing.assert_close(last.z, x.expand_as(start), rtol=0, atol=1e-6)
    torch.testing.assert_close(last.x_hat, x.expand_as(start), rtol=0, atol=1e-6)


def test_the_clock_is_on_the_device_of_the_latents(start):
    """Whatever the default device is; PyTorch's device without data stands for any other."""
    with torch.device("meta"):
        assert estimate(lambda z, time: time, start, 0.25).tolist() == [0.25] * 3


# Noise, starts and batches


def test_noise_of_an_image_depends_on_its_seed_only():
    together, alone = Noise([3, 4, 5]), Noise([4])
    for _ in range(3):
        assert torch.equal(together()[1], alone()[0])
    noise = Noise(range(50))
    assert noise().mean().abs() < 4 / (50 * 784) ** 0.5
    assert noise().std().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("sampler", [ancestral, ddim])
def test_result_does_not_depend_on_the_batch_size(sampler):
    torch.manual_seed(0)
    network, schedule = CNN().eval(), constant(beta=0.1, T=3)
    three, ten = (sample(sampler, network, schedule, count=10, batch_size=size) for size in (3, 10))
    torch.testing.assert_close(three, ten, rtol=0, atol=1e-4)


def test_matched_start_has_the_moments_of_diffused_images(digits):
    schedule = constant(beta=0.01, T=100)
    alpha = schedule.alpha[-1]
    images = digits.train.images
    start = MatchedStart(images, schedule)
    flat = images.flatten(1).double()
    covariance = alpha * flat.T.cov(correction=0) + (1 - alpha) * torch.eye(784, dtype=torch.float64)
    torch.testing.assert_close(start.mean.double(), alpha**0.5 * flat.mean(0), rtol=0, atol=1e-6)
    torch.testing.assert_close(start.root.double() @ start.root.double().T, covariance, rtol=0, atol=1e-5)

    count = 2000
    drawn = start(Noise(range(count)))
    diffused = diffuse(images[:count], 100, Noise(range(count, 2 * count))(), schedule)
    direction = (flat[0] - flat.mean(0)).float()  # along it images differ more than white noise
    direction /= direction.norm()
    mean = (start.mean @ direction).item()
    variance = (direction.double() @ covariance @ direction.double()).item()
    for latents in (drawn, diffused):
        along = latents.flatten(1) @ direction
        assert along.mean().item() == pytest.approx(mean, abs=4 * (variance / count) ** 0.5)
        assert along.var().item() == pytest.approx(variance, rel=4 * (2 / count) ** 0.5)


def countdown(network, schedule, z, noise, *, factor=0.5):
    """Halves its latents three times."""
    for t in (2, 1, 0):
        z = z * factor
        yield Latent(t, z, z + 1)


def test_a_trajectory_from_given_latents_and_what_it_keeps():
    z, schedule = torch.arange(10.0).reshape(10, 1, 1, 1), constant(beta=0.1, T=3)
    calls = []
    options = {"keep": (2, 0), "batch_size": 4, "on_step": lambda: calls.append(1)}
    kept = sample_trajectory(countdown, decoder, schedule, z=z, **options)
    images = sample(countdown, decoder, schedule, z=z, batch_size=3)
    assert torch.equal(images, z / 8)
    assert torch.equal(sample(countdown, decoder, schedule, z=z, factor=2.0), z * 8)
    assert kept.keys() == {2, 0}
    assert kept[2].t == 2
    assert torch.equal(kept[2].z, z / 2)
    assert torch.equal(kept[2].x_hat, z / 2 + 1)
    assert torch.equal(kept[0].z, images)
    assert len(calls) == 3 * 3  # steps × batches


def test_sample_starts_from_standard_noise():
    images = sample(countdown, decoder, constant(beta=0.1, T=3), count=5, seed=7, batch_size=2)
    assert torch.equal(images, standard_start(Noise(range(7, 12))) / 8)


def test_latents_are_left_alone(start, draws):
    before = start.clone()
    for sampler in (ancestral, ddim):
        list(sampler(decoder, SCHEDULES[0], start, Given(draws)))
    assert torch.equal(start, before)


# Refusals


def test_refuses_an_unknown_variance(start):
    with pytest.raises(ValueError, match="variance must be one of beta, posterior, not 'learned'"):
        next(ancestral(decoder, SCHEDULES[0], start, variance="learned"))


def test_refuses_a_variance_of_another_length(start):
    with pytest.raises(ValueError, match=r"variance must have the shape \(41,\), not \(40,\)"):
        next(ancestral(decoder, SCHEDULES[0], start, variance=np.ones(40)))


@pytest.mark.parametrize("eta", [-0.1, 1.5, float("nan")])
def test_refuses_eta_outside_0_1(eta, start):
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\], not"):
        next(ddim(decoder, SCHEDULES[0], start, eta=eta))


def test_what_cannot_be_drawn_or_kept_is_refused(start):
    schedule = SCHEDULES[0]
    with pytest.raises(ValueError, match="noise must be given"):
        list(ancestral(decoder, schedule, start))
    with pytest.raises(ValueError, match=rf"keep must hold steps in 0…{schedule.T - 1}, not \[{schedule.T}\]"):
        sample_trajectory(ddim, decoder, schedule, z=start, keep=[schedule.T])


def test_counts_and_seeds_may_be_whole_numbers_of_any_type(unchecked):
    schedule, decoder = linear(beta_max=0.3, T=4), lambda z, time: z
    expected = sample(ancestral, decoder, schedule, count=3, seed=5, batch_size=2)
    for number in (float, np.int64, np.float32, torch.tensor):
        options = {"count": number(3), "seed": number(5), "batch_size": number(2)}
        torch.testing.assert_close(sample(ancestral, decoder, schedule, **options), expected, rtol=0, atol=0)
        assert sample_trajectory(ancestral, decoder, schedule, keep=[number(2)]).keys() == {2}
        assert METHODS["Heun"].steps(number(5)) == 3
        assert fewest_calls(schedule, number(2), METHODS.values()) == fewest_calls(schedule, 2, METHODS.values())
    torch.testing.assert_close(torch.rand(2, generator=generator_for(5.0)), torch.rand(2, generator=generator_for(5)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"count": 2.5}, r"count must be an integer from 1 on, not 2\.5\."),
        ({"count": 0}, r"count must be an integer from 1 on, not 0\."),
        ({"count": True}, r"count must be an integer from 1 on, not True\."),
        ({"count": "8"}, r"count must be an integer from 1 on, not '8'\."),
        ({"seed": -1}, r"seed must be an integer from 0 on, not -1\."),
        ({"batch_size": None}, r"batch_size must be an integer from 1 on, not None\."),
        ({"variance": "Posteriors"}, r"variance must be one of beta, posterior, not 'Posteriors'\. Did you mean 'post"),
    ],
)
def test_refuses_counts_and_names(options, sentence, unchecked):
    with pytest.raises(ValueError, match=sentence):
        sample(ancestral, lambda z, time: z, linear(beta_max=0.3, T=4), **options)
