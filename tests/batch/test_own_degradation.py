"""A student's own degradation, ten lines, in training, sampling, evaluation and a panel: the package stays as it is."""

import torch

from ddpm_utils.cold.degradations import Degradation
from ddpm_utils.cold.mixtures import DEGRADATIONS
from ddpm_utils.cold.restoration import degrade, restore
from ddpm_utils.cold.samplers import ALGORITHMS
from ddpm_utils.evaluation.restoration import evaluate_restoration
from ddpm_utils.lab import panels
from ddpm_utils.lab.images import RoundTripPicture
from ddpm_utils.lab.precomputed import round_trips
from ddpm_utils.training.restorations import RestorationExperiment


class Slide(Degradation):
    """The image slides down, out of the frame; the ground comes in from above."""

    def __init__(self, T: int, severity: float):
        self.T, self.far = T, severity * 28 / T

    def __call__(self, x, t, context=None):
        rows = torch.arange(28) - (torch.as_tensor(t).reshape(-1, 1) * self.far).round().long()
        rows = rows.expand(len(x), 28).reshape(len(x), 1, 28, 1).expand_as(x)
        return torch.where(rows < 0, -0.5, x.gather(2, rows.clamp(min=0)))


def test_works_everywhere(few, digits, monkeypatch):
    monkeypatch.setitem(DEGRADATIONS, "slide", (Slide, 14))
    experiment = RestorationExperiment("slide", severity=0.8, epochs=4, batch_size=16, learning_rate=1e-3)
    assert experiment.slug == "slide-T14-severity0.8-lean_unet"

    decoder = experiment.load_decoder("run")  # trains
    assert decoder.description["degradation"] == "slide"
    assert "trained here just now" in decoder.source

    x = digits.test.images[:20]
    z, context = degrade(experiment.process, x)
    assert torch.equal(experiment.process(x, 0), x)
    for algorithm in ALGORITHMS:
        assert restore(decoder.network, experiment.process, z, context, algorithm)[0].shape == x.shape

    found = evaluate_restoration(experiment, digits, decoder.network, images=20, calls=3, calls_of_new=2)
    assert set(found["restored"]) == {"degraded", "direct R", "algorithm 1", "algorithm 2"}
    assert found["restored"]["direct R"]["corrected"]["RMSE"] < found["restored"]["degraded"]["corrected"]["RMSE"]

    found = round_trips({"slide": (experiment.process, decoder.network, 0.0)}, x[:2], calls=3)
    *_, fraction, _algorithm, _digit, picture = panels.round_trip(RoundTripPicture(found)).children
    before = picture.png
    fraction.value = 1.0
    assert picture.error == ""
    assert picture.sentence.startswith("Digit 0, slide to t = 14 of 14, and back by algorithm 2: RMSE ")
    assert picture.png != before
