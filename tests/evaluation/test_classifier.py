import pytest
import torch
from torch import nn

from ddpm_utils import checkpoints
from ddpm_utils.evaluation.classifier import SHIPPED, DigitClassifier, accuracy, load_classifier, train_classifier
from ddpm_utils.system.errors import CheckpointError

shipped = pytest.mark.skipif(not SHIPPED.exists(), reason="no weights are shipped yet")


def test_learns(digits):
    torch.manual_seed(0)
    network = DigitClassifier()
    part = digits.train[:384]
    (first, loss), *_, (last, lower) = train_classifier(network, part, epochs=3, batch_size=64)
    assert (first, last) == (1, 3)
    assert lower < 0.7 * loss
    assert not network.training


def test_accuracy_counts(digits):
    class Always(DigitClassifier):
        def forward(self, x):
            return torch.eye(10)[7].expand(len(x), 10)

    assert accuracy(Always(), digits.test) == pytest.approx(0.1)
    assert accuracy(Always(), digits.test[digits.test.labels == 7]) == 1


def test_round_trip(tmp_path):
    network = DigitClassifier()
    description = {"network": "digit_classifier", "test_accuracy": 0.5, "probe": checkpoints.probe(network, 1)}
    checkpoints.save(tmp_path / "weights", network.state_dict(), description)
    loaded, description = load_classifier(tmp_path / "weights")
    assert description["test_accuracy"] == 0.5
    assert description["sha256"] == checkpoints.digest(network.state_dict())
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    x = torch.zeros(2, 1, 28, 28)
    assert torch.equal(loaded(x), network.eval()(x))


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_classifier(tmp_path / "none")


@pytest.mark.parametrize("name", ["cnn", "digit_classifier"])
def test_foreign(name, tmp_path):
    checkpoints.save(tmp_path / "weights", nn.Linear(2, 2).state_dict(), {"network": name})
    with pytest.raises(CheckpointError, match=r"another network than DigitClassifier|has network = 'cnn'"):
        load_classifier(tmp_path / "weights")


@shipped
def test_shipped_weights_on_the_embedded_digits(digits):
    network, description = load_classifier()
    assert description["test_accuracy"] >= 0.99
    assert accuracy(network, digits.test) >= 0.97


@shipped
def test_shipped_weights_have_their_recorded_accuracy(mnist):
    network, description = load_classifier()
    assert description["train_images"] == len(mnist.train)
    assert description["data_sha256"] == mnist.sha256
    assert accuracy(network, mnist.test) == pytest.approx(description["test_accuracy"], abs=2e-4)
