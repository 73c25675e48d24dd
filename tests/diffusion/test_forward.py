import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers import scheduling_ddpm

from ddpm_utils.diffusion.forward import diffuse, diffuse_step, posterior, posterior_tables
from ddpm_utils.diffusion.schedules import constant, cosine, linear

SCHEDULES = [constant(beta=0.1, T=50), linear(beta_max=0.2, T=50), cosine(T=50)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_steps_and_jump_agree_in_distribution(schedule):
    """Equation 1, iterated, has the mean and variance of equation 2: √α_t·x and 1 − α_t."""
    generator = torch.Generator().manual_seed(0)
    count = 20_000
    x = torch.tensor([-0.5, 0.1, 0.5]).expand(count, 3)
    z = x
    for t in range(1, 31):
        z = diffuse_step(z, t, torch.randn(x.shape, generator=generator), schedule)
    jumped = diffuse(x, 30, torch.randn(x.shape, generator=generator), schedule)
    alpha = schedule.alpha[30]
    for latents in (z, jumped):
        mean_error = (latents.mean(0) - alpha**0.5 * x[0]) / ((1 - alpha) / count) ** 0.5
        variance_error = (latents.var(0) / (1 - alpha) - 1) / (2 / count) ** 0.5
        assert mean_error.abs().max() < 4  # in standard errors
        assert variance_error.abs().max() < 4


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_jump_agrees_with_diffusers(schedule, diffusers_scheduler):
    x, noise = torch.randn(2, 4, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([1, 2, 20, 50])
    expected = diffusers_scheduler(DDPMScheduler, schedule).add_noise(x, noise, t - 1)
    torch.testing.assert_close(diffuse(x, t, noise, schedule), expected)
    torch.testing.assert_close(diffuse_step(x, 1, noise, schedule), diffuse(x, 1, noise, schedule))


@pytest.mark.parametrize("t", [1, 2, 7, 50])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_posterior_is_bayes_rule(schedule, t):
    """q(z_{t−1}|z_t, x) ∝ q(z_t|z_{t−1})·q(z_{t−1}|x), normalised on a grid."""
    x, z = 0.3, 0.7
    mean, variance = posterior(
        torch.tensor([z], dtype=torch.float64), torch.tensor([x], dtype=torch.float64), t, schedule
    )
    if t == 1:  # z_0 is known: it is x
        assert mean.item() == pytest.approx(x, abs=1e-12)
        assert variance.item() == 0
        return
    beta, before = schedule.beta[t], schedule.alpha[t - 1]
    grid = np.linspace(-8, 8, 100_001)
    log_density = -((z - np.sqrt(1 - beta) * grid) ** 2) / (2 * beta)
    log_density -= (grid - np.sqrt(before) * x) ** 2 / (2 * (1 - before))
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    grid_mean = weight @ grid
    assert mean.item() == pytest.approx(grid_mean, abs=1e-8)
    assert variance.item() == pytest.approx(weight @ (grid - grid_mean) ** 2, rel=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_posterior_agrees_with_diffusers(schedule, diffusers_scheduler, monkeypatch):
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda shape, **_: torch.zeros(shape))
    theirs = diffusers_scheduler(DDPMScheduler, schedule, prediction_type="sample", clip_sample=False)
    x, z = torch.randn(2, 5, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in range(1, schedule.T + 1):
        mean, variance = posterior(z, x, t, schedule)
        torch.testing.assert_close(mean, theirs.step(x, t - 1, z).prev_sample, rtol=1e-5, atol=1e-12)
        if t > 1:  # diffusers clamps the 0 of t = 1
            assert variance.item() == pytest.approx(theirs._get_variance(t - 1).item(), rel=1e-5)


def test_step_zero_is_the_identity():
    schedule = SCHEDULES[0]
    x, noise = torch.randn(2, 3, 1, 4, 4)
    assert torch.equal(diffuse(x, 0, noise, schedule), x)
    assert torch.equal(diffuse_step(x, 0, noise, schedule), x)
    mean, variance = posterior(x, noise, 0, schedule)
    assert torch.equal(mean, x)
    assert variance.item() == 0
    assert [table[0] for table in posterior_tables(schedule)] == [1, 0, 0]


@pytest.mark.parametrize("function", [diffuse, diffuse_step, posterior])
def test_one_t_per_image(function):
    schedule = SCHEDULES[1]
    x, other = torch.randn(2, 3, 1, 4, 4)
    t = torch.tensor([50, 0, 7])

    def mean_of(result):
        return result[0] if isinstance(result, tuple) else result

    together = mean_of(function(x, other, t, schedule) if function is posterior else function(x, t, other, schedule))
    for i in range(3):
        arguments = (x[[i]], other[[i]], t[i].item()) if function is posterior else (x[[i]], t[i].item(), other[[i]])
        assert torch.equal(together[[i]], mean_of(function(*arguments, schedule)))


def test_arguments_are_left_alone():
    x, noise = torch.randn(2, 3, 1, 4, 4)
    t = torch.tensor([1, 2, 3])
    copies = [value.clone() for value in (x, noise, t)]
    diffuse(x, t, noise, SCHEDULES[0])
    diffuse_step(x, t, noise, SCHEDULES[0])
    posterior(x, noise, t, SCHEDULES[0])
    assert all(torch.equal(value, copy) for value, copy in zip((x, noise, t), copies, strict=True))


@pytest.mark.parametrize("t", [-1, 51, torch.tensor([1, 51])])
def test_refuses_t_outside_the_schedule(t):
    x = torch.zeros(2, 1, 4, 4)
    for call in (diffuse, diffuse_step):
        with pytest.raises(ValueError, match="t must lie in 0…50"):
            call(x, t, x, SCHEDULES[0])
    with pytest.raises(ValueError, match="t must lie in 0…50"):
        posterior(x, x, t, SCHEDULES[0])


@pytest.mark.parametrize(
    ("function", "wrong", "name"),
    [(diffuse, 0, "x"), (diffuse_step, 0, "z"), (posterior, 0, "z"), (posterior, 1, "x")],
)
def test_images_of_integers_are_refused_by_their_name(function, wrong, name, unchecked):
    arguments = [torch.zeros(2, 3), torch.zeros(2, 3)]
    arguments[wrong] = torch.zeros(2, 3, dtype=torch.long)
    arguments.insert(2 if function is posterior else 1, 1)
    with pytest.raises(ValueError, match=f"^{name} must be "):
        function(*arguments, constant(beta=0.1, T=10))
