"""Training that diverges: it stops in one sentence, alike in every kind of run, and spoils nothing that was saved."""

import pytest
import torch
from torch import nn

from ddpm_utils import checkpoints
from ddpm_utils.cold.mixtures import DEGRADATIONS
from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.lab.training import LiveTraining
from ddpm_utils.training import loop
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.loop import train
from ddpm_utils.training.objectives import NoisePrediction, Restoration, validate
from ddpm_utils.training.run import Run
from tests.few_digits import load_few

OBJECTIVE = NoisePrediction(constant(beta=0.1, T=20))
DIVERGED = r"^training diverged: the loss became [\w.+]+ at step \d+, while the answer 0 has 1: lower learning_rate"


class Times(nn.Module):
    """z times one weight: a step of Adam changes the weight by the learning rate."""

    def __init__(self, factor: float = 0.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, z, time):
        return self.factor * z


@pytest.fixture(scope="module")
def images(digits):
    return digits.train.images[:32]


def spoil(run: Run, objective, images, *, at: int, factor: float, epochs: int = 3) -> list[int]:
    """Train on 4 steps an epoch, with a weight that jumps once so many steps are done; returns the steps made."""
    steps = []
    for progress in train(run, objective, images, images[:8], epochs=epochs, batch_size=8):
        steps.append(progress.step)
        if progress.step == at:
            nn.init.constant_(run.network.factor, factor)
    return steps


# The loss of the answer 0


@pytest.mark.parametrize(
    "objective",
    [
        OBJECTIVE,
        Restoration(DEGRADATIONS["blur"][0](T=5)),
        Restoration(DEGRADATIONS["fade"][0](T=5), norm=1),
        Restoration(DEGRADATIONS["noise"][0](T=20), sigma=0.1),
    ],
    ids=["noise prediction", "squared", "absolute", "with sigma"],
)
def test_the_answer_0_has_the_loss_that_is_told(objective, digits):
    images = digits.train.images[:256]
    measured = validate(Times(0.0), objective, images).mean().item()
    assert objective.loss_of_zero(images) == pytest.approx(measured, rel=0.01)


# What diverges


def test_a_learning_rate_of_one_half(digits, output):
    """The issue's case, on fewer digits: a cosine schedule of 20 steps."""
    few = load_few("mnist_5k")
    chosen = {"schedule": "cosine", "T": 20, "network": "lean_unet", "learning_rate": 0.5, "dataset": "mnist_5k"}
    experiment = Experiment(**chosen, batch_size=4, epochs=1)
    run = experiment.open_run(few)
    with pytest.raises(FloatingPointError, match=DIVERGED + r", which is 0\.5\.$"):
        list(experiment.train(run, few))
    assert run.step < 10
    assert not list(experiment.run_folder.glob("*.safetensors"))


@pytest.mark.parametrize("factor", [10.0, -1e20, 1e30, float("inf"), float("nan")], ids=str)
def test_a_loss_that_jumps(factor, images, tmp_path):
    """Beyond 10, to a large number, to one whose square overflows, to inf and nan."""
    run = Run(Times(), folder=tmp_path)
    with pytest.raises(FloatingPointError, match=f"{DIVERGED}, which is 0.0002; the best weights, of epoch 1, are"):
        spoil(run, OBJECTIVE, images, at=6, factor=factor)
    kept = Run(Times(), folder=tmp_path)
    assert kept.step == 4
    assert abs(kept.network.factor.item()) < 0.01


@pytest.mark.parametrize(("norm", "zero"), [(1, "0.47"), (2, "0.23")])
def test_restorations(norm, zero, images):
    objective = Restoration(DEGRADATIONS["blur"][0](T=5), norm=norm)
    with pytest.raises(FloatingPointError, match=rf"at step 3, while the answer 0 has {zero}\d*: lower"):
        spoil(Run(Times()), objective, images, at=2, factor=40.0)
    assert spoil(Run(Times()), objective, images, at=2, factor=2.5, epochs=1) == [1, 2, 3, 4]


def test_of_the_validation_images_alone(images, tmp_path):
    """The last step of an epoch spoils the weights: no batch has seen them, and best.safetensors is not written."""
    run = Run(Times(), folder=tmp_path, learning_rate=0.9)
    list(train(run, OBJECTIVE, images, images[:8], epochs=1, batch_size=8))
    best = (tmp_path / "best.safetensors").read_bytes()
    run = Run(Times(), folder=tmp_path, learning_rate=0.9)
    run.optimizer.step = lambda closure=None: nn.init.constant_(run.network.factor, 1e4) if run.step == 7 else None
    with pytest.raises(FloatingPointError, match=r"the validation loss became [\d.e+]+ at step 8"):
        list(train(run, OBJECTIVE, images, images[:8], epochs=2, batch_size=8))
    assert (tmp_path / "best.safetensors").read_bytes() == best
    assert len(Run(Times(), folder=tmp_path, learning_rate=0.9).history) == 1


def test_nothing_is_saved_after_it(images, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1)
    with pytest.raises(FloatingPointError):
        spoil(Run(Times(), folder=tmp_path), OBJECTIVE, images, at=3, factor=1e6)
    assert Run(Times(), folder=tmp_path).step == 3
    assert not (tmp_path / "best.safetensors").exists()


def test_a_resumed_run_is_held_against_its_beginning(images, tmp_path):
    """Not against the first loss after it was resumed, which here is already wrong."""
    spoil(Run(Times(), folder=tmp_path), OBJECTIVE, images, at=0, factor=0.0, epochs=1)
    tensors, state = checkpoints.load(tmp_path / "last.safetensors")
    run = Run(Times(), folder=tmp_path)
    nn.init.constant_(run.network.factor, 1e3)
    with pytest.raises(FloatingPointError, match=r"at step 5, .*; the best weights, of epoch 1, are kept\.$"):
        spoil(run, OBJECTIVE, images, at=0, factor=0.0)
    again, after = checkpoints.load(tmp_path / "last.safetensors")
    assert (checkpoints.digest(again), after) == (checkpoints.digest(tensors), state)


# What does not


def test_a_large_loss_at_first_is_no_divergence(images, tmp_path):
    """Of a network with large first weights, also when it is resumed within its first epoch, and after it."""
    run = Run(Times(50.0), folder=tmp_path, learning_rate=0.5)
    steps = train(run, OBJECTIVE, images, images[:8], epochs=3, batch_size=8)
    losses = [next(steps).losses["train"] for _ in range(2)]
    steps.close()
    assert min(losses) > 100
    for epochs, done in ((1, 4), (3, 12)):
        run = Run(Times(), folder=tmp_path, learning_rate=0.5)
        list(train(run, OBJECTIVE, images, images[:8], epochs=epochs, batch_size=8))
        assert run.step == done


# The live picture


@pytest.mark.parametrize("at", [0, 3], ids=["a batch", "the validation"])
def test_the_picture_says_so(at, output, digits, monkeypatch):
    experiment = Experiment(beta=0.1, T=20, network="lean_unet", batch_size=8, epochs=1)
    few = load_few("mnist_5k")
    training = LiveTraining(experiment, few, columns=1, calls=1)

    def diverge(self, value, what, step):
        if step > at and (what == "loss") == (at == 0):
            raise FloatingPointError("training diverged")
        return value

    monkeypatch.setattr(loop._Stepper, "check", diverge)
    with pytest.raises(FloatingPointError):
        list(training)
    assert training().get_suptitle().startswith("Diverged after step ")
    training.restart()
    assert training().get_suptitle().startswith("Not begun")
