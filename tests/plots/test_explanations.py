"""Figures of records: each number of a record stands where its axis says."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from ddpm_utils.evaluation import load_record
from ddpm_utils.plots import explanations
from ddpm_utils.plots.images import BLUE, GREEN, GREY, ORANGE, PURPLE
from maintenance.records.decomposition import CELLS, VARIANCES
from maintenance.records.decomposition_results import ALPHAS
from tests import made_up_records
from tests.made_up_records import UNSAMPLED, fid


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def lines_of(axes, colour: str, marker: str) -> list[tuple[list[float], list[float]]]:
    """x and y of the lines with this colour and marker, but for those that stand in the legend only."""
    found = [line for line in axes.lines if to_hex(line.get_color()) == to_hex(colour) and line.get_marker() == marker]
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in found if len(line.get_xdata())]


def test_each_cell_has_a_dot_and_an_interval_for_each_network_and_variance():
    figure = explanations.decomposition(made_up_records.decomposition())
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CELLS)
    assert axes.get_xscale() == "log"
    assert axes.yaxis_inverted()  # the first cell stands above
    for colour, variance in {ORANGE: "beta", BLUE: "posterior"}.items():
        shift = 0.17 * (1 if variance == "posterior" else -1)
        expected = [
            (fid(name, variance, seed), place + shift)
            for place, (name, cell) in enumerate(CELLS.items())
            for seed in range(0 if name == UNSAMPLED else 2 if cell.network == "lean_unet" else 3)
        ]
        dots = [(x[0], y[0]) for x, y in lines_of(axes, colour, "o")]
        np.testing.assert_allclose(dots, expected)
        intervals = lines_of(axes, colour, "None")
        np.testing.assert_allclose(intervals, [((0.9 * x, 1.1 * x), (y, y)) for x, y in expected])
    (floor,) = lines_of(axes, GREY, "None")
    assert floor[0] == [0.4, 0.4]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["σ² = β", "posterior σ²", "real digits against others"]
    figure.canvas.draw()


def test_ratios_are_of_networks_with_equal_seeds():
    ratios = explanations.loss_ratios(made_up_records.decomposition())
    assert list(ratios) == ["CNN", "lean U-Net"]
    for title, seeds in {"CNN": (0, 1, 2), "lean U-Net": (0, 1)}.items():  # one of the third pair is not trained
        alpha, found = ratios[title]
        np.testing.assert_allclose(alpha, ALPHAS)
        np.testing.assert_allclose(found, [np.full(len(ALPHAS), seed + 2) for seed in seeds])


def test_losses_at_equal_signal_stand_over_the_snr():
    figure = explanations.losses_at_equal_signal(made_up_records.decomposition())
    left, right = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["CNN", "lean U-Net"]
    for axes, seeds in ((left, (0, 1, 2)), (right, (0, 1))):
        *curves, one = axes.lines
        assert one.get_ydata() == [1, 1]
        assert [curve.get_label() for curve in curves] == [f"seed {seed}" for seed in seeds]
        for seed, curve in zip(seeds, curves, strict=True):
            np.testing.assert_allclose(curve.get_xdata(), np.log10(ALPHAS / (1 - ALPHAS)))
            np.testing.assert_allclose(curve.get_ydata(), seed + 2)
            low, high = sorted(axes.get_xlim())
            assert low < min(curve.get_xdata()) < max(curve.get_xdata()) < high
    figure.canvas.draw()


def test_the_gaussian_step_shows_means_over_beta_beside_the_floor():
    """Without the chains whose last steps are fine."""
    figure = explanations.gaussian_step(made_up_records.gaussian_step())
    (axes,) = figure.axes
    looks = {"beta": (ORANGE, "o"), "posterior": (BLUE, "s"), "optimal": (GREEN, "^"), "full covariance": (PURPLE, "D")}
    for factor, (colour, marker) in zip((4, 3, 2, 1), looks.values(), strict=True):
        ((beta, means),) = lines_of(axes, colour, marker)
        assert beta == [0.1, 0.2, 0.5]
        assert means == pytest.approx([2 * factor * b for b in beta])
        single = sorted(value for _, y in lines_of(axes, colour, ".") for value in y)
        assert single == pytest.approx(sorted(k * factor * b for b in beta for k in (1, 3)))
    (band,) = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((0, 0.4))  # 0.2 ± 2 · 0.1
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["exact samples", "σ² = β", "posterior σ²", "optimal σ²", "full covariance"]
    figure.canvas.draw()


def test_the_shipped_gaussian_steps_can_be_drawn():
    record = load_record("gaussian_step")
    (axes,) = explanations.gaussian_step(record).axes
    betas = {row["beta"] for row in record["chains"] if row["variance"] == "beta"}
    ((shown, _),) = lines_of(axes, ORANGE, "o")
    assert shown == sorted(betas)


def test_variances_have_names():
    assert set(VARIANCES) <= set(explanations.VARIANCES)
