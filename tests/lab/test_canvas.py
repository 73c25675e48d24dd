"""Pictures that change in place: what moves is drawn again, as a fresh figure would be; what stays, stays."""

import io

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
import torch

from ddpm_utils.lab.canvas import Blit, Rows, moves, moving_title
from ddpm_utils.plots.images import styled


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def drawn(figure) -> np.ndarray:
    """All of a figure but its title, drawn by matplotlib."""
    content = io.BytesIO()
    figure._suptitle.set_visible(False)
    with styled():
        figure.savefig(content, format="png")
    figure._suptitle.set_visible(True)
    return pixels(content.getvalue())


@pytest.fixture
def picture():
    """A line that moves, over one that stays, and images under a title."""
    with styled():
        figure, (left, right) = plt.subplots(1, 2, figsize=(4, 2))
        left.plot([0, 1], [0, 1], color="black")
        line = moves(left.plot([0, 1], [1, 0], color="red")[0])
        title, rows = moving_title(figure), Rows(right, 2, 3, ["above", "below"])

    def draw(height: float, images):
        line.set_ydata([height, height])
        rows.show(list(images))
        title.set_text(f"height {height}")
        return figure

    yield draw
    plt.close(figure)


@pytest.fixture
def images():
    return torch.linspace(-0.5, 0.5, 6 * 784).reshape(2, 3, 1, 28, 28)


def test_what_moves_is_drawn_as_matplotlib_would(picture, images):
    blit = Blit()
    first = pixels(blit(picture(0.2, images)))
    np.testing.assert_array_equal(first, drawn(picture(0.2, images)))
    second = pixels(blit(picture(0.7, images.flip(0))))
    np.testing.assert_array_equal(second, drawn(picture(0.7, images.flip(0))))
    assert (first != second).any()
    assert picture(0.7, images).get_suptitle() == "height 0.7"  # for the page to write
    again = pixels(blit(picture(0.2, images)))
    np.testing.assert_array_equal(again, first)  # nothing of the second is left


def test_another_figure_is_laid_out_anew(picture, images):
    blit = Blit()
    one = pixels(blit(picture(0.2, images)))
    other, axes = plt.subplots(figsize=(1, 1))
    axes.plot([0, 1])
    assert pixels(blit(other)).shape == (100, 100, 3)
    np.testing.assert_array_equal(pixels(blit(picture(0.2, images))), one)
    plt.close(other)


def test_rows_hold_the_images_in_reading_order(images):
    figure, axes = plt.subplots()
    rows = Rows(axes, 2, 3)
    rows.show([images[0], images[1, :2]])
    shown = np.where(rows.pixels[..., 3] == 255, rows.pixels[..., 0] / 255 - 0.5, np.nan)
    np.testing.assert_array_equal(rows.picture.get_array(), rows.pixels)
    for row, column in np.ndindex(2, 3):
        part = shown[row * 29 : row * 29 + 28, column * 29 : column * 29 + 28]
        if (row, column) == (1, 2):
            assert np.isnan(part).all()  # no image was given for this place
        else:
            np.testing.assert_allclose(part, images[row, column, 0].numpy(), atol=0.002)  # half a grey level
    assert np.isnan(shown[28]).all()
    plt.close(figure)
