"""Figures of part 2 show what they are given."""

import io

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
import torch

from ddpm_utils.plots import cold


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_gaussian_loss_marks_both_published_betas():
    betas = np.array([0.001, 0.1])
    figure = cold.gaussian_loss(betas, {"a": betas}, {"low β": (np.array([1, 2]), betas)})
    marks = [line.get_xdata()[0] for line in figure.axes[0].lines[1:]]
    assert marks == [0.001, 0.1]
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_data(), [[1, 2], betas])


def test_the_same_label_looks_the_same_in_all_panels():
    figure = cold.over_time({"one": {"a": ([0, 1], [2, 3]), "b": ([0, 1], [4, 5])}, "two": {"b": ([0], [1])}})
    first, second = figure.axes
    assert second.lines[0].get_color() == first.lines[1].get_color() != first.lines[0].get_color()
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "b"]


def test_recursions_lie_under_measurements():
    figure = cold.recursions({"perfect": {"algorithm 1": ([2, 1, 0], [0.1, 0.2, 0.3], [0.1, 0.2, 0.4])}})
    said, measured = figure.axes[0].lines
    np.testing.assert_array_equal(measured.get_ydata(), [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(said.get_ydata(), [0.1, 0.2, 0.4])
    assert figure.axes[0].xaxis_inverted()
    assert figure.axes[0].get_ylim()[1] > 0.4


def test_errors_of_all_have_one_panel_each():
    figure = cold.errors_of_all({name: {"1": ([1, 0], [k, 2 * k])} for k, name in enumerate("abcde")})
    assert [ax.get_title() for ax in figure.axes if ax.lines] == list("abcde")
    assert figure.axes[0].get_ylim()[1] > 8  # shared


def test_distances_over_sigma_name_each_sigma():
    figure = cold.distance_over_sigma([0.0, 0.1], {"grey": [9.0, 5.0]}, floor=0.3)
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "0.1"]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [9, 5])


def test_animation_is_a_looping_gif_on_the_fixed_grey_scale():
    frames = [torch.full((3, 1, 28, 28), level) for level in (-0.5, 0.0, 0.5)]
    film = PIL.Image.open(io.BytesIO(cold.animation(frames, scale=2)))
    assert (film.format, film.n_frames, film.size, film.info["loop"]) == ("GIF", 3, (168, 56), 0)
    levels, durations = [], []
    for frame in range(3):
        film.seek(frame)
        levels.append(film.convert("L").getpixel((5, 5)))
        durations.append(film.info["duration"])
    assert levels == [0, 128, 255]
    assert durations == [120, 120, 1000]


def test_decoders_share_a_scale_and_are_white_without_data():
    z, t = np.array([-1.0, 0.0, 1.0]), np.array([1, 2])
    answer, mask = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 9.0]]), np.zeros((2, 3), dtype=bool)
    mask[1, 2] = True  # where the largest answer is
    figure = cold.decoder_over_time(z, t, {"exact": answer, "network": answer / 2}, "low β", mask)
    exact, network, bar = figure.axes
    assert [ax.get_title() for ax in (exact, network)] == ["exact", "network"]
    assert exact.images[0].get_clim() == network.images[0].get_clim() == (-2, 2)
    shown = exact.images[0].get_array()  # z upwards, t to the right
    np.testing.assert_array_equal(shown.mask, mask.T)
    assert shown[:, 0].tolist() == [-1, 0, 1]
    assert exact.images[0].get_extent() == [1, 2, -1, 1]
    assert bar.get_ylabel() == "estimate of ε"
