"""Training to look at: its picture, its button, and that a stopped run goes on as if it had not been stopped."""

import dataclasses
from contextlib import closing

import matplotlib.pyplot as plt
import pytest
import torch

from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.lab import panels
from ddpm_utils.lab.training import WORKING, LiveTraining, loss_floor
from ddpm_utils.training.experiments import Experiment
from tests.patience import PATIENCE, wait_until


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def experiment(output):
    return Experiment(beta=0.1, T=20, network="lean_unet", batch_size=8, epochs=2, learning_rate=1e-3)


@pytest.fixture(scope="module")
def digits(digits):
    """A few of them: 20 steps an epoch."""
    return dataclasses.replace(digits, train=digits.train[:160], validation=digits.validation[:20])


def parts(panel) -> tuple:
    """A training panel's buttons, and its picture."""
    buttons, picture = panel.children
    return buttons.children, picture


STEP = 5


class Pausing(LiveTraining):
    """Waits after its fifth step until it is told to stop: neither machine nor test can be too slow to stop it."""

    def __iter__(self):
        with closing(super().__iter__()) as steps:
            for progress in steps:
                if progress.step == STEP:
                    WORKING[self.experiment.run_folder].stopping.wait(PATIENCE)
                yield progress


@pytest.mark.parametrize(("beta", "T", "expected"), [(0.001, 2000, 0.02), (0.1, 200, 0.001), (0.01, 10, 0.05)])
def test_the_loss_axis_fits_the_experiment(digits, beta, T, expected):
    assert loss_floor(constant(beta=beta, T=T), digits.validation.images) == pytest.approx(expected)


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
    assert training.batch.axes.get_ylim()[0] == loss_floor(experiment.noise_schedule, digits.validation.images)
    assert training.validation.get_xdata() == [total // 2, total]
    assert list(LiveTraining(experiment, digits)) == []  # nothing is left to do


def test_the_button_trains_stops_and_goes_on(experiment, digits):
    uninterrupted = LiveTraining(experiment.with_values(run_name="uninterrupted"), digits)
    losses = [progress.losses["train"] for progress in uninterrupted]

    training = Pausing(experiment, digits)
    (button, _), picture = parts(panels.training(training))
    assert picture.sentence.startswith("Not begun")
    button.value = True
    assert button.description == "Stop"
    wait_until(lambda: training.run.step >= STEP, "the fifth step")
    button.value = False
    stopped = training.run.step
    assert button.description == "Train"
    assert stopped == STEP
    assert picture.sentence == f"Stopped at step {stopped} of {len(losses)}; the run is kept, and goes on from here"

    later = LiveTraining(experiment, digits)  # as after a restart
    assert later.run.step == stopped
    (button, again), picture = parts(panels.training(later))
    button.value = True
    assert picture.quiet
    wait_until(lambda: not button.value, "the end of the training")
    assert picture.error == ""
    assert not picture.quiet
    assert picture.sentence.startswith("Trained")
    assert [*training.losses.values(), *later.losses.values()] == losses
    for name, value in later.run.network.state_dict().items():
        assert torch.equal(value, uninterrupted.run.network.state_dict()[name]), name

    again.click()
    assert picture.sentence.startswith("Not begun")
    assert [path.name for path in experiment.run_folder.iterdir()] == [".lock"]


def test_another_panel_of_the_same_run_takes_over(experiment, digits):
    """As when a cell is run again while its panel trains."""
    (button, _), _ = parts(panels.training(first := LiveTraining(experiment, digits)))
    button.value = True
    wait_until(lambda: first.run.step >= 1, "the first step")
    second = LiveTraining(experiment, digits)
    assert not first.running
    wait_until(lambda: not button.value, "the end of the training")
    assert second.run.step == first.run.step >= 1


def test_an_error_while_training_is_shown(experiment, digits, monkeypatch):
    training = LiveTraining(experiment, digits)
    (button, _), picture = parts(panels.training(training))
    monkeypatch.setattr(type(experiment), "objective", property(lambda self: 1 / 0))
    button.value = True
    wait_until(lambda: not button.value, "the end of the training")
    assert picture.error == "ZeroDivisionError: division by zero"


def test_a_run_that_was_trained_elsewhere_meanwhile_goes_on_from_there(experiment, digits):
    training = LiveTraining(experiment, digits)
    (button, _), picture = parts(panels.training(training))
    with closing(experiment.train(experiment.open_run(digits), digits)) as steps:  # in another window, say
        for _ in range(3):
            next(steps)
    button.value = True
    wait_until(lambda: not button.value, "the end of the training")
    assert picture.error == ""
    assert min(training.losses) == 4
