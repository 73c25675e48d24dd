"""The checks that the browser tests make: a right picture passes them, and a wrong one does not."""

import matplotlib.pyplot as plt
import pytest
import torch

from ddpm_utils.diffusion import samplers
from ddpm_utils.diffusion.one_dimension import LatentModel, two_peaks
from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.lab import panels, precomputed
from ddpm_utils.lab.densities import EvidenceBound, LatentModelPicture, PosteriorPicture, ReverseStep
from ddpm_utils.lab.images import CausesPicture, EstimatesPicture, NoisyDigits, RoundTripPicture, TrajectoryPicture
from ddpm_utils.randomness import generator_for
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.restorations import RestorationExperiment
from maintenance.records.decomposition import CELLS
from tests.browser import checks
from tests.made_up_records import UNSAMPLED, decomposition


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def x(digits):
    return digits.test.images[:8]


@pytest.fixture
def noise(x):
    return torch.randn(x.shape, generator=generator_for(0, "play"))


def shown(panel) -> tuple[str, bytes]:
    """What a panel says and shows."""
    picture = panel.children[-1]
    assert picture.error == ""
    return picture.sentence, picture.png


def wrong(kind: type, **changes):
    """A picture of this kind that draws other values than it is asked for, and says the ones it was asked for."""

    class Wrong(kind):
        def __call__(self, **values):
            title = super().__call__(**values).get_suptitle()
            super().__call__(**{name: changes[name](v) if name in changes else v for name, v in values.items()})
            self.title.set_text(title)
            return self.figure

    return Wrong


def both(kind, changes, make, panel, check):
    """The right picture passes, the wrong one fails."""
    check(*shown(panel(make(kind))))
    with pytest.raises(AssertionError, match=r"only \d+% of the p|given as"):
        check(*shown(panel(make(wrong(kind, **changes)))))


@pytest.mark.parametrize("changes", [{"t": lambda t: t + 1}, {"beta": lambda beta: 1.1 * beta}], ids=["t", "beta"])
def test_forward(x, noise, changes):
    both(
        NoisyDigits, changes, lambda kind: kind(x, noise), panels.forward, lambda *s: checks.forward(*s, noise)
    )  # fmt: skip


def test_forward_of_other_digits(x, noise):
    with pytest.raises(AssertionError, match="z_t at t = 20"):
        checks.forward(*shown(panels.forward(NoisyDigits(x.flip(0), noise))), noise)


def test_densities():
    both(ReverseStep, {"alpha": lambda a: a - 0.1}, lambda k: k(two_peaks()), panels.reverse_step, checks.reverse)
    both(LatentModelPicture, {"sigma": lambda s: 1.3 * s}, lambda k: k(checks.waves), panels.latent_model,
         checks.latent_model)  # fmt: skip
    model, coarse = LatentModel(checks.waves, 0.2), constant(beta=0.001, T=2000).subset(10)
    both(EvidenceBound, {"mean": lambda m: m + 0.1}, lambda k: k(model), panels.evidence_bound, checks.bound)
    both(PosteriorPicture, {"t": lambda t: t + 1}, lambda k: k(coarse), panels.posterior, checks.posterior)


def test_a_wrong_number_is_noticed():
    sentence, png = shown(panels.reverse_step(ReverseStep(two_peaks())))
    for number, other in (("0.014", "0.016"), ("0.338", "0.348")):
        assert number in sentence
        with pytest.raises(AssertionError, match="given as"):
            checks.reverse(sentence.replace(number, other), png)


@pytest.fixture
def experiment(output):
    """The report's low β; with nothing in the output folder its weights are the shipped ones."""
    checks.forget()
    return Experiment()


def test_estimates(experiment, x):
    (noise,) = experiment.objective.draw(x, generator_for(0, "shown"))
    network, steps = experiment.load_decoder("auto").network, [100, 200, 400]
    found = precomputed.estimates(network, experiment.noise_schedule, x, noise, steps)
    other = {"t": {100: 200, 200: 400, 400: 100}.get}
    both(EstimatesPicture, other, lambda k: k(found, 2000), panels.estimates,
         lambda *s: checks.estimates(*s, experiment))  # fmt: skip


def test_trajectory(experiment):
    network, schedule = experiment.load_decoder("auto").network, experiment.noise_schedule
    starts = {"N(0, I)": samplers.standard_start}
    found = precomputed.trajectories(network, schedule, starts, calls=[3], seeds=2, count=8)
    for changes in ({"t": lambda t: t + 1500}, {"seed": lambda s: 1 - s}):
        both(TrajectoryPicture, changes, lambda k: k(found, 2000), panels.trajectory,
             lambda *s: checks.trajectory(*s, experiment))  # fmt: skip


@pytest.fixture
def cells(monkeypatch):
    """Made-up measurements in the place of the record."""
    checks.layout.cache_clear()
    monkeypatch.setattr(checks, "record", decomposition)
    yield decomposition()
    checks.layout.cache_clear()


@pytest.mark.parametrize(
    "changes",
    [
        {"trained_on": lambda name: "high β"},  # the samples and the place of another cell
        {"start": lambda name: "matched"},  # of none
    ],
    ids=["another cell", "no cell"],
)
def test_causes(cells, changes):
    both(CausesPicture, changes, lambda k: k(cells), panels.causes, checks.causes)


def test_causes_that_are_not_measured(cells):
    panel = panels.causes(CausesPicture(cells))
    *menus, _, _ = panel.children
    right = shown(panel)
    menus[4].value = "matched"
    sentence, png = shown(panel)
    assert sentence.endswith(": not measured")
    checks.causes(sentence, png)
    with pytest.raises(AssertionError, match=r"the samples of .*: only \d+% of the p"):
        checks.causes(sentence, right[1])
    with pytest.raises(AssertionError, match="0 networks are given as measured, not 3"):
        checks.causes(right[0].partition(": FID")[0] + ": not measured", right[1])
    for menu, value in zip(menus, CELLS[UNSAMPLED], strict=True):
        menu.value = value
    assert shown(panel)[0].endswith(": not measured")
    checks.causes(*shown(panel))


@pytest.mark.parametrize("places", [1, -1, 0.5, 20])
def test_a_band_in_a_wrong_place_is_noticed(cells, places):
    """Among the other cells, or out of the picture."""

    class Wrong(CausesPicture):
        def __call__(self, variance, **factors):
            figure = super().__call__(variance, **factors)
            self.band.set_y(self.band.get_y() + places)
            return figure

    panel = panels.causes(Wrong(cells))
    panel.children[1].value = "high β"  # the second cell
    with pytest.raises(AssertionError, match=r"only \d+% of the pixels above .* have the band's colour"):
        checks.causes(*shown(panel))


def test_a_wrong_mean_of_causes_is_noticed(cells):
    panel = panels.causes(CausesPicture(cells))
    sentence, png = shown(panel)
    assert sentence.endswith("FID 2.2, mean of 3 networks")
    for number, other in (("2.2", "2.22"), ("3 networks", "2 networks"), ("σ² beta", "σ² posterior")):
        with pytest.raises(AssertionError, match="given as"):
            checks.causes(sentence.replace(number, other), png)


def test_round_trip(digits):
    first = [int((digits.test.labels == kind).nonzero()[0]) for kind in range(10)]
    blur = RestorationExperiment("blur")
    restorations = {"blur": (blur.process, blur.load_decoder("shipped").network, 0.0)}
    found = precomputed.round_trips(restorations, digits.test.images[first], calls=6)
    for changes in ({"digit": lambda d: d + 1}, {"algorithm": lambda a: "1"}, {"fraction": lambda f: 0.75}):
        both(RoundTripPicture, changes, lambda k: k(found), panels.round_trip, checks.round_trip)
