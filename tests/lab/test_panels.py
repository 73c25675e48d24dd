"""Each panel's controls: their limits, and that one follows another where it must."""

import matplotlib.pyplot as plt
import pytest
import torch

from ddpm_utils.diffusion.one_dimension import LatentModel, two_peaks
from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.lab import panels
from ddpm_utils.lab.densities import EvidenceBound, LatentModelPicture, PosteriorPicture, ReverseStep
from ddpm_utils.lab.images import CausesPicture, NoisyDigits
from tests.made_up_records import SAMPLED, UNSAMPLED, decomposition


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def extremes(control) -> tuple:
    """The two ends of a slider or a menu."""
    if hasattr(control, "options"):
        values = [value for _, value in control.options]
        return values[0], values[-1]
    if hasattr(control, "base"):
        return control.base**control.min, control.base**control.max
    return control.min, control.max


def test_forward(digits):
    images = digits.test.images[:2]
    panel = panels.forward(NoisyDigits(images, torch.randn(images.shape)))
    presets, beta, T, t, picture = panel.children
    assert extremes(beta) == pytest.approx((1e-4, 0.3))
    presets.children[0].click()
    assert (beta.value, T.value, t.value, t.max) == (pytest.approx(0.001), 2000, 200, 2000)
    assert picture.sentence == "β = 0.001, t = 200 of 2000: α_t = 0.819, signal-to-noise ratio 4.51"
    T.value = 50  # t cannot go beyond the end
    assert (t.max, t.value) == (50, 50)
    assert picture.sentence.startswith("β = 0.001, t = 50 of 50:")
    presets.children[1].click()
    assert picture.sentence == "β = 0.1, t = 20 of 200: α_t = 0.122, signal-to-noise ratio 0.138"


@pytest.mark.parametrize(
    "panel",
    [
        lambda: panels.latent_model(LatentModelPicture(lambda z: z / 2 + torch.sin(torch.tensor(3 * z)).numpy())),
        lambda: panels.evidence_bound(EvidenceBound(LatentModel(lambda z: z, 0.2))),
        lambda: panels.posterior(PosteriorPicture(constant(beta=0.1, T=10))),
        lambda: panels.posterior(PosteriorPicture(constant(beta=0.1, T=1))),
        lambda: panels.reverse_step(ReverseStep(two_peaks())),
        lambda: panels.causes(CausesPicture(decomposition())),
    ],
)
def test_every_end_of_every_slider_can_be_drawn(panel):
    *controls, picture = panel().children
    for control in controls:
        for value in extremes(control):
            control.value = value
            assert picture.error == ""
            assert picture.sentence


def test_causes_offer_what_the_cells_have():
    cells = decomposition()["cells"]
    *menus, variance, picture = panels.causes(CausesPicture(decomposition())).children
    names = ("network", "trained_on", "grid", "index", "start")
    assert [menu.description for menu in (*menus, variance)] == [
        *("network", "trained on", "grid", "index", "start", "reverse variance")
    ]
    for name, menu in zip(names, menus, strict=True):
        assert {value for _, value in menu.options} == {cell[name] for cell in cells.values()}
    assert [value for _, value in variance.options] == ["beta", "posterior"]
    first = next(iter(cells.values()))
    assert [menu.value for menu in menus] == [first[name] for name in names]
    assert picture.sentence.startswith(", ".join(first[name] for name in names) + ", σ² beta: FID 2.2, ")
    for name, said in ((UNSAMPLED, "not measured"), (SAMPLED, "mean of 3 networks")):
        for key, menu in zip(names, menus, strict=True):
            menu.value = cells[name][key]
        assert picture.sentence.endswith(said)
    assert picture.error == ""
