"""Targets ε, x and v, and min-SNR weights (Salimans & Ho 2022; Hang et al. 2023), against closed forms."""

import numpy as np
import pytest
import torch
from torch import nn

import ddpm_utils as ddpm
from ddpm_utils.networks.cnn import CNN
from ddpm_utils.networks.parameterisation import GAMMA, TARGETS, NoiseFrom, loss_weights, to_noise
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.objectives import NoisePrediction

SCHEDULE = ddpm.cosine(T=50)


def batch(count: int = 8) -> tuple[torch.Tensor, ...]:
    """Images, noise and steps 1 … T in double precision; z_t and its clock."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((count, 1, 28, 28), generator=generator, dtype=torch.float64) - 0.5
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    t = torch.linspace(1, SCHEDULE.T - 1, count).round().long()
    return x, noise, t, ddpm.diffuse(x, t, noise, SCHEDULE), t.double() / SCHEDULE.T


def targets(x: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> dict[str, torch.Tensor]:
    alpha = torch.tensor(SCHEDULE.alpha)[t].reshape(-1, 1, 1, 1)
    return {"noise": noise, "image": x, "velocity": alpha.sqrt() * noise - (1 - alpha).sqrt() * x}


@pytest.mark.parametrize("target", TARGETS)
def test_the_true_target_gives_the_true_noise(target):
    x, noise, t, z, time = batch()
    assert torch.allclose(to_noise(targets(x, noise, t)[target], z, time, SCHEDULE, target), noise, atol=1e-12)


@pytest.mark.parametrize(("target", "factor"), [("image", lambda a: (1 - a) / a), ("velocity", lambda a: 1 / a)])
def test_losses_and_gradients_are_multiples_of_one_another(target, factor):
    """L_x = L_ε(1−α)/α and L_v = L_ε/α for one network, whose output is converted; so are their gradients."""
    x, noise, t, z, time = batch()
    alpha = torch.tensor(SCHEDULE.alpha)[t].reshape(-1, 1, 1, 1)
    torch.manual_seed(0)
    network = nn.Conv2d(1, 1, 5, padding=2).double()
    output = network(z)
    weight = torch.rand(len(x), dtype=torch.float64)

    def gradient(error: torch.Tensor) -> tuple[torch.Tensor, ...]:
        loss = (weight * error.square().flatten(1).mean(1)).sum()
        return loss, *torch.autograd.grad(loss, network.parameters(), retain_graph=True)

    of_noise = (to_noise(output, z, time, SCHEDULE, target) - noise) * factor(alpha).sqrt()
    for one, other in zip(gradient(output - targets(x, noise, t)[target]), gradient(of_noise), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)


def test_networks_with_other_outputs_have_other_gradients():
    """The point of the comparison: the same network, asked for x or for v, learns in another direction."""
    _, noise, _, z, time = batch()
    gradients = {}
    for target in TARGETS:
        torch.manual_seed(0)
        network = nn.Conv2d(1, 1, 5, padding=2).double()
        loss = (to_noise(network(z), z, time, SCHEDULE, target) - noise).square().mean()
        gradients[target] = torch.autograd.grad(loss, network.weight)[0].flatten()
    cosine = torch.cosine_similarity(gradients["noise"], gradients["image"], dim=0)
    assert abs(cosine) < 0.99


def test_min_snr_weights_agree_for_all_targets():
    snr = SCHEDULE.snr[1:]
    of_noise, of_image, of_velocity = (
        loss_weights(SCHEDULE, "min_snr")[1:],
        np.minimum(snr, GAMMA),
        np.minimum(snr, GAMMA) / (snr + 1),
    )
    alpha = SCHEDULE.alpha[1:]
    assert np.allclose(of_noise, of_image * (1 - alpha) / alpha)  # ‖x̂ − x‖² = ‖ε̂ − ε‖²·(1−α)/α
    assert np.allclose(of_noise, of_velocity / alpha)
    assert of_noise[0] == pytest.approx(GAMMA / snr[0])
    assert of_noise[-1] == 1
    assert (loss_weights(SCHEDULE, "min_snr", np.inf) == loss_weights(SCHEDULE)).all()


def test_gamma_is_that_of_the_paper_for_images_of_a_quarter_of_the_power():
    """Where γ = 5 begins to count for images in [−1, 1], γ = 20 begins to count for the same images in [−0.5, 0.5]."""
    x = 2 * (torch.rand(1000, dtype=torch.float64) - 0.5)
    power_ratio = x.square().mean() / (x / 2).square().mean()
    assert power_ratio * 5 == GAMMA


def test_weights_multiply_the_loss_of_each_image():
    x, noise, t, *_ = batch()
    network = CNN().double()
    plain, weighted = (NoisePrediction(SCHEDULE, name)(network, x, t, noise) for name in ("uniform", "min_snr"))
    assert torch.allclose(weighted / plain, torch.tensor(loss_weights(SCHEDULE, "min_snr"))[t])


def test_an_experiment_trains_and_loads_each_target(output):
    """A decoder of any target estimates ε, so that samplers and losses need not know it."""
    data = ddpm.load("mnist_5k")
    for target in TARGETS:
        experiment = Experiment(
            "cosine", T=50, network="lean_unet", target=target, weighting="min-snr", epochs=1, batch_size=64
        )
        assert experiment.slug == f"cosine-T50-lean_unet{'' if target == 'noise' else f'-{target}'}-min_snr"
        network = experiment.first_network().eval()
        *_, z, time = batch()
        found = network(z.float(), time.float())
        if target != "noise":
            assert isinstance(network, NoiseFrom)
            raw = network.network(z.float(), time.float())
            assert torch.equal(found, to_noise(raw, z.float(), time.float(), SCHEDULE, target))
        run = experiment.open_run(data)
        fixed = torch.randn((64, 1, 28, 28), generator=torch.Generator().manual_seed(0))

        def loss(run=run, objective=experiment.objective, fixed=fixed) -> float:
            with torch.no_grad():
                return objective(run.network, data.test.images[:64], 5 + torch.arange(64) % 40, fixed).mean().item()

        before, steps = loss(), experiment.train(run, data)
        for _ in range(12):
            next(steps)
        steps.close()
        assert loss() < before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z, time: to_noise(z, z, time, SCHEDULE, "score"), "target must be one of noise, image, velocity"),
        (lambda z, time: loss_weights(SCHEDULE, "snr"), "weighting must be one of uniform, min_snr"),
        (lambda z, time: Experiment(target="x"), "target must be one of noise, image, velocity, not 'x'"),
    ],
)
def test_unknown_names_are_refused(call, message):
    *_, z, time = batch()
    with pytest.raises(ValueError, match=message):
        call(z, time)
