"""Every measurement of notebook 04 at a small size: known answers where there are, and figures of all of it."""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.exact import ExactDecoder, identity_loss
from ddpm_utils.diffusion.likelihood import VARIANCES
from ddpm_utils.diffusion.samplers import sample
from ddpm_utils.diffusion.schedules import NoiseSchedule, constant
from ddpm_utils.evaluation.losses import Sizes
from ddpm_utils.evaluation.samples import one_step_short
from ddpm_utils.plots import explanations
from ddpm_utils.randomness import Noise
from ddpm_utils.training.base import Decoder
from ddpm_utils.training.experiments import PUBLISHED, Experiment
from maintenance.records import table_1

SMALL = Sizes(
    profile=8,
    points=4,
    floor=16,
    per_step=2,
    gap=64,
    reconstructions=4,
    reconstruction_calls=2,
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
    assert list(found) == ["losses", "bits", "gap", "reconstruction"]
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


def test_reconstructions_lose_the_digit_as_the_signal_goes(explained):
    for entry in explained.values():
        rows = entry["reconstruction"]
        assert rows[0]["RMSE"] < 0.1 < rows[-1]["RMSE"]
        assert rows[0]["same digit"] == 1
        assert rows[0]["t"] == 1


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


def test_figures_are_drawn_of_everything(explained):
    def of(part: str) -> dict:
        return {name: entry[part] for name, entry in explained.items()}

    drawn = [
        explanations.losses_over_time(of("losses")),
        explanations.bits(of("bits")),
        explanations.reconstruction(of("reconstruction")),
    ]
    assert len(drawn[0].axes) == 2
    assert len(drawn[0].axes[0].lines) == 5
    alpha = np.array(explained["low β"]["losses"]["alpha"])
    for line in drawn[0].axes[0].lines:
        np.testing.assert_allclose(line.get_xdata(), np.log10(alpha / (1 - alpha)))
    for figure in drawn:
        figure.canvas.draw()
        plt.close(figure)
