import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.colors import to_rgb

from ddpm_utils.diffusion.schedules import constant
from ddpm_utils.plots import curves, images
from ddpm_utils.plots.images import (
    BLUE,
    LINES,
    alternative_text,
    image_table,
    mosaics,
    show,
    show_figure,
    styled,
    to_png,
)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_the_palette_keeps_greys_and_colours():
    figure = image_table([torch.linspace(-0.5, 0.5, 784).reshape(1, 1, 28, 28)], title="ramp", size=2)
    figure.axes[0].plot([0, 27], [3, 3], color=BLUE, linewidth=4)
    drawn = io.BytesIO()
    with styled():
        figure.savefig(drawn, format="png")
    assert np.abs(pixels(to_png(figure)) - pixels(drawn.getvalue())).max() <= 24


def test_curves_are_twice_as_sharp_as_images():
    images = image_table([torch.zeros(3, 1, 28, 28)])
    losses = curves.loss_curves({"low β": [(1, 0.5, 0.6), (2, 0.1, 0.2)]}, [2])
    for figure, dpi in ((images, 100), (losses, 200)):
        width, height = figure.get_size_inches()
        assert pixels(to_png(figure)).shape[:2] == (int(height * dpi), int(width * dpi))


def test_the_palette_keeps_the_colours_of_thin_lines():
    """A thin curve beside many grey images, which would otherwise have the palette to themselves."""
    noise = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0)) - 0.5
    figure = image_table([noise, noise], size=1)
    for height, colour in enumerate(LINES):
        figure.axes[0].plot([0, 27], [3 * height] * 2, color=colour, linewidth=1)
    found = pixels(to_png(figure))
    for colour in LINES:
        assert (np.abs(found - np.array(to_rgb(colour)) * 255).max(-1) < 1).any(), colour


@pytest.mark.parametrize("colours", [64, 256])
def test_the_background_stays_white(colours):
    noise = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0)) - 0.5
    figure = image_table([noise, noise], size=1)
    figure.axes[0].plot([0, 27], [3, 20], color=BLUE)
    found = pixels(to_png(figure, colours))
    assert (found[0, 0] == 255).all()
    assert (found[-1, -1] == 255).all()


def test_the_background_of_curves_is_white():
    figure = curves.loss_curves({"low β": [(1, 0.5, 0.6), (2, 0.1, 0.2)]}, [2])
    assert (pixels(to_png(figure))[0, 0] == 255).all()


def test_show_saves_a_whole_file_and_prints_nothing_in_a_script(tmp_path, capsys):
    figure = image_table([torch.zeros(8, 1, 28, 28)])
    show_figure(figure, tmp_path / "new", "grid")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]
    assert not plt.fignum_exists(figure.number)
    show([torch.zeros(8, 1, 28, 28)])
    assert capsys.readouterr().out == ""


def test_show_displays_in_a_notebook(monkeypatch):
    displayed = []
    monkeypatch.setattr(images, "get_ipython", InteractiveShell)
    monkeypatch.setattr(images, "display", displayed.append)
    show([torch.zeros(2, 1, 28, 28)], ["x"])
    show_figure(image_table([torch.zeros(2, 1, 28, 28)]), alt="Two black images.")
    image, described = displayed
    assert described.alt == "Two black images."
    assert abs(pixels(image.data).shape[1] - image.width) <= 1
    assert image.alt == "x"


def test_alternative_text_is_what_stands_in_the_figure():
    figure, axes = plt.subplots()
    axes.set(xlabel="t / T", ylabel=r"$\beta_t$", title="high β")
    figure.suptitle("Two\nschedules")
    assert alternative_text(figure) == "Two schedules; high β; beta_t over t / T"
    plt.close(figure)
    assert alternative_text(image_table([torch.zeros(1, 1, 28, 28)])) == "images"


def test_long_titles_of_mosaics_do_not_overlap():
    x = torch.zeros(8, 1, 28, 28)
    names = ("ancestral sampling, from the matched start", "DPM-Solver++(2M), quadratic spacing, 10 calls")
    figure = mosaics({("row", name): x for name in names})
    with styled():
        figure.draw_without_rendering()
    left, right = (ax.title.get_window_extent() for ax in figure.axes)
    assert left.x1 < right.x0
    assert left.y1 <= figure.bbox.height
    assert [ax.get_title().replace("\n", " ") for ax in figure.axes] == list(names)


def test_mosaics_put_images_in_reading_order():
    images = torch.arange(6).reshape(6, 1, 1, 1).expand(6, 1, 28, 28) / 10
    figure = mosaics({("row", "left"): images, ("row", "right"): -images}, columns=3)
    left, right = (np.asarray(ax.images[0].get_array()) for ax in figure.axes)
    assert left.shape == (56, 84)
    np.testing.assert_allclose(left[::28, ::28], [[0, 0.1, 0.2], [0.3, 0.4, 0.5]], atol=1e-6)
    np.testing.assert_allclose(right, -left)
    assert [ax.get_title() for ax in figure.axes] == ["left", "right"]


@pytest.mark.parametrize("samplers", [1, 7])
def test_quality_over_calls_has_a_line_for_each_sampler(samplers):
    rows = [
        (f"sampler {i}", calls, 10.0 + i, 9.0 + i, 11.0 + i, 0.1) for i in range(samplers) for calls in (1, 10, 100)
    ]
    measured = pd.DataFrame(rows, columns=["sampler", "calls", "fid", "low", "high", "floor"])
    axes = curves.quality_over_calls(measured).axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert labels[:2] == ["sampler 0, 100 calls", "real against real: 0.10, below the frame"]
    assert labels[2:] == [f"sampler {i}" for i in range(samplers)]


def test_each_column_of_a_density_over_time_has_its_own_scale():
    paths = np.array([[0.0, 1.0], [0.5, -0.5], [1.0, 0.0]])
    figure = curves.density_over_time(np.array([-1.0, 1.0]), np.array([[1.0, 2.0], [10.0, 5.0]]), paths)
    (axes,) = figure.axes
    assert axes.images[0].get_array().tolist() == [[0.5, 1.0], [1.0, 0.5]]  # z upwards, t to the right
    assert axes.images[0].get_extent() == [0, 2, -1, 1]
    assert [line.get_ydata().tolist() for line in axes.lines] == paths.T.tolist()
    plt.close(figure)


def test_losses_over_time_are_averaged_in_logarithmic_bins():
    """Bins without images are left out."""
    t, losses = np.array([1, 1, 10, 100, 100]), torch.tensor([1.0, 3.0, 0.5, 0.1, 0.3])
    figure = curves.loss_over_time(t, {"network": losses}, {"identity": np.ones(101)}, bins=20)
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    centres, means = (np.asarray(values, dtype=float) for values in axes.lines[0].get_data())
    np.testing.assert_allclose(centres, [1, 10, 100])
    np.testing.assert_allclose(means, [2, 0.5, 0.2], rtol=1e-6)
    assert axes.lines[-1].get_xdata()[0] == 1
    plt.close(figure)


LEGENDS = {
    "losses": lambda: curves.loss_curves({"a": [(1, 0.5, 0.6)], "b": [(1, 0.5, 0.6), (2, 0.1, 0.2)]}, [2]),
    "over time": lambda: curves.loss_over_time(np.array([1, 9]), {"a": torch.ones(2)}, {"b": np.ones(10)}),
    "reconstructions": lambda: curves.reconstruction_error([1, 2], [0.1, 0.2], np.linspace(1, 0, 3), 0.3),
    "histograms": lambda: curves.histograms_against_normal({"a": np.zeros(9)}, 0, 1, "N(0, 1)", "z"),
    "weights": lambda: curves.posterior_weights(constant(beta=0.1, T=30)),
}


@pytest.mark.parametrize("name", LEGENDS)
def test_legends_are_below_the_axes(name):
    figure = LEGENDS[name]()
    with styled():
        figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().y1 < min(ax.get_window_extent().y0 for ax in figure.axes)
    labels = [label for ax in figure.axes for label in ax.get_legend_handles_labels()[1]]
    assert [text.get_text() for text in legend.get_texts()] == list(dict.fromkeys(labels))
    plt.close(figure)


def test_reverse_paths_end_at_the_right_at_any_number_of_steps():
    every, few = np.linspace(0, 1, 11)[:, None], np.array([[0.0], [1.0]])
    figure = curves.reverse_paths(np.array([-1.0, 1.0]), np.ones((4, 2)), {"all": every, "one call": few}, "low β")
    assert [ax.get_title() for ax in figure.axes] == ["all", "one call"]
    assert [ax.lines[0].get_xdata().tolist() for ax in figure.axes] == [list(range(11)), [0, 10]]
    assert [ax.images[0].get_extent() for ax in figure.axes] == [[0, 10, -1, 1]] * 2
    plt.close(figure)
