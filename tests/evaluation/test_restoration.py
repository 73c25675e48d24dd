"""Restorations evaluated: with a network that knows the answer, with one that does nothing, in parts."""

from itertools import product

import pytest
import torch
from torch import nn

from ddpm_utils.cold import starts
from ddpm_utils.cold.degradations import Degradation, HeatBlur
from ddpm_utils.cold.mixtures import GaussianFade, flow, noise
from ddpm_utils.cold.restoration import default_rule, degrade, restore, stations, there_and_back, visited
from ddpm_utils.cold.samplers import ALGORITHMS
from ddpm_utils.evaluation.restoration import beginnings, evaluate_restoration, ways
from ddpm_utils.training.restorations import RestorationExperiment

COUNT = 20
pytestmark = pytest.mark.usefixtures("short_bootstrap")


class Solvable(Degradation):
    """D(x, t) = x + t·context."""

    T = 3

    def __call__(self, x, t, context=None):
        return x + t * context

    def estimate_context(self, z, x_hat, t):
        return (z - x_hat) / t


class Known(nn.Module):
    """Answers with given images where there are as many z, else with z itself."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, z, time):
        return self.answers if len(z) == len(self.answers) else z


@pytest.fixture
def x(digits):
    return digits.test.images[:COUNT]


def test_visits_few_steps_and_the_last():
    assert visited(1000, 4) == [250, 500, 750, 1000]
    assert visited(3, 10) == [1, 2, 3]
    assert visited(100, 3, last=10) == [3, 7, 10]


def test_stations_are_arrivals_from_first_to_last():
    assert stations([2, 4, 6, 8], 2) == [0, 6]
    assert stations([2, 4, 6, 8], 9) == [0, 2, 4, 6]
    assert stations([5], 3) == [0]


def test_noise_can_be_estimated_or_drawn_anew_and_a_mask_is_known():
    assert [default_rule(d) for d in (noise(5), flow(5), HeatBlur(5), GaussianFade(5))] == [
        "estimated", "estimated", "known", "known",
    ]  # fmt: skip
    assert default_rule(Solvable()) == "estimated"  # a student's own, whatever its class
    assert ways(noise(5))["algorithm 1, fresh ε"] == ("1", "fresh")
    assert list(ways(HeatBlur(5))) == ["direct R", "algorithm 1", "algorithm 2"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("degradation", [HeatBlur(6), GaussianFade(6), flow(6)], ids=lambda d: type(d).__name__)
def test_a_network_that_knows_the_answer_restores_it(algorithm, degradation, x):
    z, context = degrade(degradation, x)
    keep = [0] if algorithm == "direct" else [0, 2]
    images, kept = restore(Known(x), degradation, z, context, algorithm, rule="known", steps=[2, 4, 6], keep=keep)
    torch.testing.assert_close(images, x, rtol=0, atol=1e-5)
    assert list(kept) == keep
    torch.testing.assert_close(kept[keep[-1]].z, degradation(x, keep[-1], context), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", ["known", "estimated", "fresh"])
def test_restores_in_batches_as_it_would_at_once(rule, x, monkeypatch):
    degradation = noise(6)
    z, context = degrade(degradation, x)
    network = nn.Sequential()  # R(z) = z, of one argument

    def answer(z, time):
        return network(z)

    at_once, _ = restore(answer, degradation, z, context, "1", rule=rule, sigma=0.1)
    monkeypatch.setattr("ddpm_utils.cold.restoration.BATCH", 7)
    in_batches, _ = restore(answer, degradation, z, context, "1", rule=rule, sigma=0.1)
    torch.testing.assert_close(at_once, in_batches)


def test_a_start_with_noise_has_its_deviation(digits):
    images = digits.train.images[:200]
    blur = HeatBlur(6)
    noisy, clean = (degrade(blur, images, sigma=sigma)[0] for sigma in (0.1, 0.0))
    assert (noisy - clean).std().item() == pytest.approx(0.1, rel=0.02)
    assert torch.equal(degrade(blur, images, 0, sigma=0.1)[0], images)  # σ_0 = 0


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (("3", "known"), "algorithm must be one of direct, 1, 2, not '3'"),
        (("1", "new"), "rule must be one of known, est"),
    ],
)
def test_refuses(values, sentence, x):
    blur = HeatBlur(3)
    z, context = degrade(blur, x)
    with pytest.raises(ValueError, match=sentence):
        restore(Known(x), blur, z, context, values[0], rule=values[1])


def test_there_and_back_ends_where_it_began(x):
    there, back = there_and_back(Known(x[:1]), HeatBlur(40), x[:1], 30, "2", shown=5)
    assert there.shape == (5, 1, 1, 28, 28)
    assert torch.equal(there[0], x[:1])
    torch.testing.assert_close(there[-1], HeatBlur(40)(x[:1], 30))
    torch.testing.assert_close(back[0], x[:1], rtol=0, atol=1e-5)
    only, direct = there_and_back(Known(x[:1]), HeatBlur(40), x[:1], 1, "direct")
    assert (len(only), len(direct)) == (2, 1)


def test_starts_that_fit_the_degradation(x):
    assert list(beginnings(flow(5), x)) == ["a new context"]
    blur = beginnings(HeatBlur(5), x.repeat(3, 1, 1, 1), ablate=True)
    assert list(blur)[:2] == ["uniform grey, fitted level", "uniform grey, one level"]
    assert isinstance(blur["Gaussian mixture"], starts.Fitted)
    assert blur["uniform grey, jitter 0.01"].jitter == 0.01


def test_evaluation_of_a_network_that_knows_the_answer(digits, x):
    """No error, no digit lost, and the FID equals the floor."""
    experiment = RestorationExperiment("heat", T=4)
    found = evaluate_restoration(experiment, digits, Known(x), images=COUNT, calls=2, calls_of_new=1)
    assert list(found["restored"]) == ["degraded", "direct R", "algorithm 1", "algorithm 2"]
    for way in list(found["restored"].values())[1:]:
        assert way["corrected"]["RMSE"] == pytest.approx(0, abs=1e-5)
        assert way["class kept"] >= 0.95
        assert way["FID"] == pytest.approx(way["FID floor"], abs=1e-2)
    assert found["restored"]["degraded"]["corrected"]["RMSE"] > 0.05
    ways = [(way["algorithm"], way["rule"]) for way in list(found["restored"].values())[1:]]
    assert ways == list(zip(("direct", "1", "2"), [default_rule(experiment.process)] * 3, strict=True))
    names = ("z_T of other digits", "uniform grey, fitted level", "Gaussian mixture")
    assert [(new["start"], new["algorithm"]) for new in found["new"]] == list(product(names, "12"))


def test_evaluation_adds_sigma_once(digits, x):
    """With R(z) = z the direct answer is the noisy z_T; half of the noise on a black or white pixel is clamped."""
    nothing = Known(torch.zeros(1, 1, 28, 28))
    errors = []
    for sigma in (0.0, 0.2):
        experiment = RestorationExperiment("heat", T=4, severity=0.001, sigma=sigma)
        found = evaluate_restoration(experiment, digits, nothing, images=COUNT, calls=1, calls_of_new=1)
        errors.append(found["restored"]["direct R"]["corrected"]["RMSE"])
    assert errors == [pytest.approx(0, abs=0.01), pytest.approx(0.2 / 2**0.5, rel=0.1)]


def test_evaluation_of_a_network_that_does_nothing(digits):
    """The direct answer is z_T itself; the test loss is the mean squared distance of z_t and x."""
    experiment = RestorationExperiment("flow", T=4)
    nothing = Known(torch.zeros(1, 1, 28, 28))
    found = evaluate_restoration(experiment, digits, nothing, images=COUNT, calls=2, calls_of_new=1)
    assert found["restored"]["direct R"]["corrected"] == found["restored"]["degraded"]["corrected"]
    x = digits.test.images
    expected = (1 + x.square().mean().item()) * (1 + 4 + 9 + 16) / 16 / 4  # E‖s(ε − x)‖² over s = 1/4 … 1
    assert found["test loss"] == pytest.approx(expected, rel=0.02)
    assert "algorithm 1, fresh ε" in found["restored"]


def test_evaluation_refuses_sizes(digits):
    with pytest.raises(ValueError, match=r"images must be in 20…\d+, half of the test images, not 5"):
        evaluate_restoration(RestorationExperiment("heat", T=4), digits, Known(torch.zeros(1, 1, 28, 28)), images=5)
