"""Training to look at: its picture, its button, and that a stopped run goes on as if it had not been stopped."""

import dataclasses
import time

import matplotlib.pyplot as plt
import pytest
import torch

from ddpm_utils.lab import panels
from ddpm_utils.lab.training import LiveTraining
from ddpm_utils.training.experiments import Experiment


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def experiment(output):
    return Experiment(beta=0.1, T=20, network="lean_unet", batch_size=8, epochs=2, learning_rate=1e-3)


@pytest.fixture(scope="module")
def digits(digits):
    """A few of them: 40 steps an epoch."""
    return dataclasses.replace(digits, train=digits.train[:320], validation=digits.validation[:100])


def parts(panel) -> tuple:
    """A training panel's buttons, and its picture."""
    buttons, picture = panel.children
    return buttons.children, picture


def wait_for(condition, seconds: float = 60):
    """Poll until it is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def test_a_whole_run(experiment, digits):
    training = LiveTraining(experiment, digits, columns=2, calls=2)
    total = len(digits.train) // experiment.batch_size * 2
    assert training().get_suptitle() == f"Not begun: step 0 of {total}"
    seen = [progress.step for progress in training]
    assert seen == list(range(1, total + 1))
    assert list(training.samples) == training.stops == [0, total // 20, total // 10, total // 4, total // 2, total]
    assert all(images.shape == (2, 1, 28, 28) for images in training.samples.values())
    figure = training()
    assert figure.get_suptitle().startswith(f"Trained: step {total} of {total}, validation loss 0.")
    assert training.batch.get_xdata() == seen
    assert training.validation.get_xdata() == [total // 2, total]
    assert list(LiveTraining(experiment, digits)) == []  # nothing is left to do


def test_the_button_trains_stops_and_goes_on(experiment, digits):
    uninterrupted = LiveTraining(experiment.with_values(run_name="uninterrupted"), digits)
    losses = [progress.losses["train"] for progress in uninterrupted]

    training = LiveTraining(experiment, digits)
    (button, _), picture = parts(panels.training(training))
    assert picture.sentence.startswith("Not begun")
    button.value = True
    assert button.description == "Stop"
    wait_for(lambda: training.run.step >= 1)
    button.value = False
    stopped = training.run.step
    assert button.description == "Train"
    assert 1 <= stopped < len(losses), "it was too fast to be stopped"
    assert picture.sentence == f"Stopped at step {stopped} of {len(losses)}; the run is kept, and goes on from here"

    later = LiveTraining(experiment, digits)  # as after a restart
    assert later.run.step == stopped
    (button, again), picture = parts(panels.training(later))
    button.value = True
    assert picture.quiet
    wait_for(lambda: not button.value)
    assert picture.error == ""
    assert not picture.quiet
    assert picture.sentence.startswith("Trained")
    assert [*training.losses.values(), *later.losses.values()] == losses
    for name, value in later.run.network.state_dict().items():
        assert torch.equal(value, uninterrupted.run.network.state_dict()[name]), name

    again.click()
    assert picture.sentence.startswith("Not begun")
    assert not experiment.run_folder.exists()


def test_another_panel_of_the_same_run_takes_over(experiment, digits):
    """As when a cell is run again while its panel trains."""
    (button, _), _ = parts(panels.training(first := LiveTraining(experiment, digits)))
    button.value = True
    wait_for(lambda: first.run.step >= 1)
    second = LiveTraining(experiment, digits)
    assert not first.running
    wait_for(lambda: not button.value)
    assert second.run.step == first.run.step >= 1


def test_an_error_while_training_is_shown(experiment, digits, monkeypatch):
    training = LiveTraining(experiment, digits)
    (button, _), picture = parts(panels.training(training))
    monkeypatch.setattr(type(experiment), "objective", property(lambda self: 1 / 0))
    button.value = True
    wait_for(lambda: not button.value)
    assert picture.error == "ZeroDivisionError: division by zero"
