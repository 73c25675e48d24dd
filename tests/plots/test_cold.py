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


def information(name: str, ways: dict[str, float]) -> dict:
    """One degradation at two levels, of which the reader reads 0.9 and 0.3."""
    rows = [
        {"t": t, "way": way, "bits": bits, "class kept": kept, "FID": 1 / kept}
        for t, bits in ((5, "exact"), (10, "8 bits"))
        for way, kept in ways.items()
    ]
    readers = {f"{name}, {bits}": {"t": [5, 10], "accuracy": [0.9, 0.3]} for bits in ("exact", "8 bits")}
    return {"shipped": [{"degradation": name, "restored": rows}], "readers": readers}


def test_restored_digits_lie_over_what_is_read():
    found = information("blur", {"direct R": 0.5, "algorithm 1": 0.25, "algorithm 2": 0.8})
    (points,) = cold.restored_points(found).values()
    assert {(point["t"], point["read"]) for point in points} == {(5, 0.9), (10, 0.3)}
    estimated = information("noise", {"direct R": 0.5, "algorithm 2": 0.8})
    (points,) = cold.restored_points(estimated).values()
    assert [point["class kept"] for point in points if point["way"] == "algorithm 1"] == [0.8, 0.8]


def test_equal_information_has_a_column_for_each_way():
    figure = cold.equal_information(information("blur", {"direct R": 0.5, "algorithm 1": 0.25, "algorithm 2": 0.8}))
    assert [ax.get_title() for ax in figure.axes[:3]] == ["direct R", "algorithm 1", "algorithm 2"]
    exact, rounded = figure.axes[2].lines[:2]
    assert (exact.get_xdata()[0], exact.get_ydata()[0], rounded.get_xdata()[0]) == (0.9, 0.8, 0.3)
    assert (exact.get_markerfacecolor(), rounded.get_markerfacecolor()) == (exact.get_color(), "none")


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
