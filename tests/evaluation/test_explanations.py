"""Every measurement of notebook 04 at a small size: known answers where there are, and figures of all of it."""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.exact import ExactDecoder, identity_loss
from ddpm_utils.diffusion.likelihood import VARIANCES
from ddpm_utils.diffusion.samplers import sample
from ddpm_utils.diffusion.schedules import NoiseSchedule, constant
from ddpm_utils.evaluation import recorded, sight
from ddpm_utils.evaluation.losses import Sizes
from ddpm_utils.evaluation.samples import one_step_short
from ddpm_utils.plots import explanations
from ddpm_utils.plots.explanations import LAYER_NORMS
from ddpm_utils.randomness import Noise
from ddpm_utils.system.files import to_images
from ddpm_utils.training.base import Decoder
from ddpm_utils.training.experiments import PUBLISHED, Experiment
from maintenance.records import table_1

SMALL = Sizes(
    profile=8,
    points=4,
    floor=16,
    per_step=2,
    gap=64,
    samples=20,
    calls=10,
    consecutive=10,
    exact=200,
    reconstructions=4,
    reconstruction_calls=2,
    generated=16,
)
pytestmark = pytest.mark.usefixtures("short_bootstrap")
RUNS = PUBLISHED | {"low β": {"beta": 0.01, "T": 200}}  # in steps ten times as long, for which the weights do as well


@pytest.fixture(scope="module")
def fewer(digits) -> Dataset:
    """The training images that the exact decoder knows, and enough others."""
    return replace(digits, train=digits.train[:640], validation=digits.validation[:64], test=digits.test[:100])


@pytest.fixture(scope="module")
def explained(fewer, short_bootstrap) -> dict[str, dict]:
    """Of both published runs, as JSON keeps it."""
    found = {}
    for name, values in RUNS.items():
        decoder = Experiment(**PUBLISHED[name], network="lean_unet").load_decoder("shipped")  # the faster one
        found[name] = table_1.explain(Experiment(**values, network="lean_unet"), fewer, decoder, SMALL)
    return json.loads(json.dumps(found))


def test_everything_is_measured_and_kept_by_name(digits):
    experiment = Experiment()
    decoder = Decoder(experiment.make_network(), {}, "")
    found = table_1.explain(experiment, digits, decoder, SMALL, lambda name, compute: name)
    assert list(found) == [
        "losses",
        "bits",
        "gap",
        "reconstruction",
        "samples",
        "reverse steps",
        "switches",
        "reconstruction, α off by one",
    ]
    assert all(name == value for name, value in found.items())


def test_losses_keep_their_order(explained, fewer):
    for name, values in RUNS.items():
        found = explained[name]["losses"]
        schedule = Experiment(**values).noise_schedule
        expected = identity_loss(fewer.test.images, schedule.alpha[found["steps"]])
        np.testing.assert_allclose(found["identity"], expected)
        assert np.all(np.array(found["affine"]) < found["identity"])
        assert np.all(np.array(found["network above exact"]) > -1e-3)
        means = found["mean over t"]
        assert means["exact"] < means["network"] < means["identity"]
        assert found["mean over t, α off by one"]["identity"] < means["identity"]


def test_bits_add_up(explained):
    for found in (entry["bits"] for entry in explained.values()):
        for variance in VARIANCES:
            bound = found[variance]
            assert bound["total"] == pytest.approx(bound["prior"] + bound["steps"] + bound["last"])
            assert sum(bound["terms"]) == pytest.approx(bound["steps"])
        assert found["optimal"]["steps"] <= min(found[v]["steps"] for v in VARIANCES) + 1e-9


def test_the_exact_decoder_draws_training_images(explained, digits):
    rows = explained["low β"]["reverse steps"]
    assert [row["decoder"] for row in rows[::3]] == ["exact", "affine", "network", "network, steps of β = 0.1"]
    assert [row["decoder"] for row in explained["high β"]["reverse steps"][::3]] == ["exact", "affine", "network"]
    assert [row["variance"] for row in rows[:3]] == list(VARIANCES)
    drawn = to_images(rows[0]["pictures"])
    distance = torch.cdist(drawn.flatten(1), digits.train.images[: SMALL.exact].flatten(1)).min(1).values / 28
    assert distance.median() < 0.02
    assert rows[-1]["calls"] == 19  # as many steps of β = 0.1 reach α = 0.135


def test_reconstructions_lose_the_digit_as_the_signal_goes(explained):
    for entry in explained.values():
        rows = entry["reconstruction"]
        assert rows[0]["RMSE"] < 0.1 < rows[-1]["RMSE"]
        assert rows[0]["same digit"] == 1
        assert rows[0]["t"] == 1


def test_real_digits_fall_into_the_traps_as_well(explained):
    rows = {row["switch"]: row for row in explained["low β"]["switches"]["ranges"]}
    assert rows["cast to bytes from [−0.5, 0.5]"]["real digits"] > 2 * rows["as they are"]["real digits"]


@pytest.mark.parametrize(("beta", "left"), [(0.1, 0.2176), (0.02, 0.0990)])
def test_one_step_short_leaves_noise(beta, left, digits):
    """[(1 − α_2 − β)/√(1−α_2)]/√(1−β) of the noise and √(1−β) of the signal, were z_2 only from x; an image, alone."""
    image, schedule = digits.train.images[:1], constant(beta=beta, T=30)
    decoder = ExactDecoder(image, schedule)
    # start at z_2, where the mean step alone remains
    noise = Noise(range(400))()
    z = schedule.alpha[2] ** 0.5 * image + (1 - schedule.alpha[2]) ** 0.5 * noise
    two = NoiseSchedule(schedule.beta[:3], time=schedule.time[:3])
    (latent,) = one_step_short(decoder, two, z, Noise(range(400)))
    error = latent.z - (1 - beta) ** 0.5 * image
    assert error.std().item() == pytest.approx(left, rel=0.01)
    samples = sample(one_step_short, decoder, schedule, count=50)
    whole = (samples - (1 - beta) ** 0.5 * image).std().item()  # with what earlier steps of σ² = β have added
    assert whole == pytest.approx(0.244, rel=0.02) if beta == 0.1 else whole > left


def test_an_alpha_off_by_one_costs_reconstructions_little_at_low_beta_and_much_at_high(explained):
    ratios = {}
    for name, entry in explained.items():
        right, off = (row["published"]["RMSE"] for row in entry["reconstruction, α off by one"])
        ratios[name] = off / right
    assert ratios["low β"] < 1.05
    assert ratios["high β"] > 1.1


def test_samples_are_counted_and_compared(explained):
    found = explained["low β"]["samples"]
    assert sum(found["classes"]) == found["count"] == len(found["distances"]) == 16
    assert sum(found["classes of training images"]) == 640
    assert to_images(found["closest"]).shape == (8, 1, 28, 28)


@pytest.fixture(scope="module")
def norm_entries(fewer, short_bootstrap) -> dict[str, dict]:
    """Of untrained networks."""
    entries = {}
    for network, option in LAYER_NORMS.items():
        experiment = Experiment(network=network)
        decoder = Decoder(experiment.make_network().requires_grad_(False).eval(), {}, "")
        entries[f"{option}, 0 epochs"] = {
            "network": network,
            "weights": {"epoch": 0},
            "sight": sight.sight(experiment, fewer, decoder, images=4),
            "starts": sight.starts(experiment, fewer, decoder, samples=20, calls=1),
        }
    return json.loads(json.dumps(entries))


def test_an_untrained_plane_norm_sees_the_clock_through_borders_only(norm_entries):
    clock = {name: entry["sight"]["clock"] for name, entry in norm_entries.items()}
    assert clock["(28, 28), 0 epochs"]["circular padding"] < 1e-5 < clock["(28, 28), 0 epochs"]["zero padding"]
    assert clock["none, 0 epochs"]["circular padding"] > 1e-4


def test_what_is_shipped_tells_the_same():
    entries = recorded.load_norms()
    assert {entry["network"] for entry in entries.values()} == set(LAYER_NORMS)
    plane = next(entry for entry in entries.values() if entry["network"] == "cnn_plane_norm")
    assert plane["sight"]["clock"]["circular padding"] < 1e-4
    assert plane["starts"]["from"]["standard"]["background"] > 2 * plane["starts"]["from"]["matched"]["background"]


def test_figures_are_drawn_of_everything(explained, norm_entries):
    def of(part: str) -> dict:
        return {name: entry[part] for name, entry in explained.items()}

    drawn = [
        explanations.losses_over_time(of("losses")),
        explanations.bits(of("bits")),
        explanations.gaps(of("gap")),
        explanations.sight(norm_entries),
        explanations.starts(norm_entries),
        explanations.reverse_steps(of("reverse steps")),
        explanations.reverse_samples(of("reverse steps")),
        explanations.reconstruction(of("reconstruction")),
        explanations.switches(of("switches")),
        explanations.off_by_one(of("switches")),
        explanations.memorisation(of("samples")),
        explanations.neighbours(of("samples")),
    ]
    assert len(drawn[0].axes) == 2
    assert len(drawn[0].axes[0].lines) == 5
    assert len(drawn[4].axes) == 6
    for figure in drawn:
        figure.canvas.draw()
        plt.close(figure)
