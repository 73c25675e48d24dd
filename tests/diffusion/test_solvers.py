import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, HeunDiscreteScheduler

from ddpm_utils.diffusion.samplers import ancestral, ddim, estimate, sample
from ddpm_utils.diffusion.schedules import constant, cosine, linear
from ddpm_utils.diffusion.solvers import METHODS, dpm_solver_2m, heun

SCHEDULES = [constant(beta=0.05, T=40), linear(beta_max=0.3, T=40), cosine(T=40)]
MEAN, DEVIATION = 0.3, 0.5  # of Gaussian data, whose probability flow has a closed form


def decoder(z, time):
    """Not linear, and it looks at its clock."""
    return torch.tanh(1.3 * z + time.reshape(-1, 1, 1, 1)) - 0.2


def theirs(scheduler, schedule, steps):
    """Our schedule's σ = √((1−α)/α) at the visited steps, in double precision, as diffusers lays it out."""
    scheduler.set_timesteps(steps)
    alpha = schedule.subset(steps).alpha[::-1]
    sigma = torch.from_numpy(np.sqrt((1 - alpha) / alpha))
    if len(scheduler.sigmas) > len(sigma):  # Heun has each inner one twice
        sigma = torch.cat([sigma[:1], sigma[1:-1].repeat_interleave(2), sigma[-1:]])
    torch.testing.assert_close(scheduler.sigmas[: len(sigma)].double(), sigma, rtol=1e-5, atol=1e-6)
    scheduler.sigmas = torch.cat([sigma, scheduler.sigmas[len(sigma) :].double()])
    return scheduler


@pytest.mark.parametrize("steps", [40, 20, 5, 2, 1])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_dpm_solver_follows_diffusers(schedule, steps, start, diffusers_scheduler):
    options = {"algorithm_type": "dpmsolver++", "solver_order": 2, "timestep_spacing": "trailing"}
    scheduler = theirs(diffusers_scheduler(DPMSolverMultistepScheduler, schedule, **options), schedule, steps)
    z = start
    latents = list(dpm_solver_2m(decoder, schedule.subset(steps), start))
    for latent, index in zip(latents, scheduler.timesteps.tolist(), strict=True):
        z = scheduler.step(estimate(decoder, z, (index + 1) / schedule.T), index, z).prev_sample
        torch.testing.assert_close(latent.z, z, rtol=1e-5, atol=1e-5)  # diffusers steps in single precision
    assert latent.t == 0


@pytest.mark.parametrize("steps", [40, 20, 5, 2])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_heun_follows_diffusers(schedule, steps, start, diffusers_scheduler):
    scheduler = theirs(
        diffusers_scheduler(HeunDiscreteScheduler, schedule, timestep_spacing="trailing"), schedule, steps
    )
    visited = schedule.subset(steps)
    trajectory = heun(decoder, visited, start)
    theirs_z = start / visited.alpha[-1] ** 0.5  # diffusers keeps z/√α
    indices = scheduler.timesteps.tolist()
    assert len(indices) == 2 * steps - 1
    for call, index in enumerate(indices):
        scaled = scheduler.scale_model_input(theirs_z, index)
        g = estimate(decoder, scaled, (index + 1) / schedule.T)
        theirs_z = scheduler.step(g, index, theirs_z).prev_sample
        if call % 2 or call == len(indices) - 1:
            latent = next(trajectory)
            torch.testing.assert_close(latent.z, theirs_z * visited.alpha[latent.t] ** 0.5, rtol=1e-5, atol=1e-8)
    assert latent.t == 0


def exact_decoder(schedule):
    """E[ε|z_t] for x ~ N(μ, s²): √(1−α)·(z − √α·μ)/(α·s² + 1 − α)."""

    def decode(z, time):
        alpha = schedule.alpha[round(time[0].item() * schedule.T)]
        return (1 - alpha) ** 0.5 * (z - alpha**0.5 * MEAN) / (alpha * DEVIATION**2 + 1 - alpha)

    return decode


def exact_flow(schedule, z, t):
    """z_T carried along the flow to step t: its standard score does not change."""
    mean = np.sqrt(schedule.alpha) * MEAN
    deviation = np.sqrt(schedule.alpha * DEVIATION**2 + 1 - schedule.alpha)
    return mean[t] + deviation[t] * (z - mean[-1]) / deviation[-1]


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (heun, 2), (dpm_solver_2m, 2)])
@pytest.mark.parametrize("spacing", ["log_snr", "karras"])
def test_order_of_convergence(sampler, order, spacing, start):
    """Halving the steps divides the error by 2^order, where the exact solution is known."""
    schedule = linear(beta_min=1e-6, beta_max=2e-4, T=100_000)
    lowest = 1000  # the last step, from the lowest visited one to 0, is of first order for all: look before it
    part = schedule.subset(range(lowest, schedule.T + 1))
    errors = []
    for steps in (32, 64, 128):
        visited = part.subset(steps, spacing)
        *_, before_last, _ = sampler(exact_decoder(schedule), visited, start)
        assert before_last.t == 1
        reached = round(visited.time[1] * schedule.T)
        assert reached == lowest
        errors.append((before_last.z - exact_flow(schedule, start, reached)).abs().max().item())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, order, atol=0.15)


@pytest.mark.parametrize(("sampler", "calls"), [(heun, 17), (dpm_solver_2m, 9)])
def test_counts_its_network_calls(sampler, calls, start):
    times = []

    def counted(z, time):
        times.append(time[0].item())
        return decoder(z, time)

    list(sampler(counted, constant(beta=0.1, T=9), start))
    assert len(times) == calls
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("name", "sampler", "options", "spacing"),
    [
        ("ancestral, σ² = β", ancestral, {"variance": "beta"}, "log_snr"),
        ("ancestral, posterior σ²", ancestral, {"variance": "posterior"}, "quadratic"),
        ("DDIM, η = 0", ddim, {"eta": 0.0}, "quadratic"),
        ("Heun", heun, {}, "karras"),
        ("DPM-Solver++(2M)", dpm_solver_2m, {}, "quadratic"),
    ],
)
def test_a_method_is_a_sampler_with_its_spacing(name, sampler, options, spacing):
    """By name, with the spacing that the docstring of `METHODS` tells of."""
    schedule, method = linear(beta_max=0.3, T=40), METHODS[name]
    chain = method.subset(schedule, 9)
    assert chain.time.tolist() == schedule.subset(5 if name == "Heun" else 9, spacing).time.tolist()
    drawn = sample(method.sampler, decoder, chain, count=2)
    assert torch.equal(drawn, sample(sampler, decoder, chain, count=2, **options))
