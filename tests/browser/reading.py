"""What a PNG of a figure shows: the images in it, and where a coloured curve runs."""

import io

import numpy as np
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ddpm_utils.plots.images import styled

SIDE, GAP = 28, 1


class Reading:
    """A PNG, with the layout of a figure that it was made from.

    Args:
        png: of the figure, at its own resolution.
        figure: laid out in the same way; what it shows does not matter.
    """

    def __init__(self, png: bytes, figure: Figure):
        with styled():
            FigureCanvasAgg(figure).draw()
        figure.set_layout_engine("none")
        self.pixels = np.asarray(PIL.Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
        width, height = figure.canvas.get_width_height()
        assert self.pixels.shape == (height, width, 3), "the picture has another size"

    def box(self, axes: Axes) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of an axes, in pixels from the picture's upper left corner."""
        extent = axes.get_window_extent()
        height = len(self.pixels)
        return extent.x0, height - extent.y1, extent.x1, height - extent.y0

    def images(self, axes: Axes, rows: int, columns: int) -> np.ndarray:
        """The grey values in [−0.5, 0.5] of a block of images, shape (rows, columns, 28, 28)."""
        left, top, right, bottom = self.box(axes)
        down, across = rows * (SIDE + GAP) - GAP, columns * (SIDE + GAP) - GAP
        y = (top + (np.arange(down) + 0.5) / down * (bottom - top)).astype(int)
        x = (left + (np.arange(across) + 0.5) / across * (right - left)).astype(int)
        grey = self.pixels[y][:, x].mean(-1) / 255 - 0.5
        found = np.empty((rows, columns, SIDE, SIDE))
        for row, column in np.ndindex(rows, columns):
            part = grey[row * (SIDE + GAP) :, column * (SIDE + GAP) :]
            found[row, column] = part[:SIDE, :SIDE]
        return found

    def distances(self, axes: Axes, colour: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """From each of these points, in data coordinates, to the nearest pixel of that colour; in pixels."""
        left, top, right, bottom = (round(side) for side in self.box(axes))
        inside = self.pixels[top : bottom + 1, left : right + 1]
        rgb = np.array(to_rgb(colour)) * 255
        rows, columns = np.nonzero(np.abs(inside - rgb).max(-1) < 60)
        assert len(rows), f"nothing in the picture has the colour {colour}"
        points = axes.transData.transform(np.column_stack([x, y]))
        points[:, 1] = len(self.pixels) - points[:, 1]
        visible = (points > [left, top]).all(1) & (points < [right, bottom]).all(1)
        assert visible.any(), "none of the points lies in the picture"
        far = np.column_stack([columns + left, rows + top])[:, None] - points[visible]
        return np.hypot(far[..., 0], far[..., 1]).min(0)

    def share(self, axes: Axes, colour: str, opacity: float, y: float) -> float:
        """Of the pixels across an axes at a height y, in data coordinates: how many have this colour over white."""
        left, _, right, _ = (round(side) for side in self.box(axes))
        row = len(self.pixels) - axes.transData.transform([1, y])[1]
        shade = 255 * (1 - opacity * (1 - np.array(to_rgb(colour))))
        return (np.abs(self.pixels[round(row), left + 1 : right] - shade).max(-1) < 4).mean()

    def assert_dot(self, axes: Axes, colour: str, x: float, y: float, what: str) -> None:
        """There is a dot, and not just a line, at a point given in data coordinates."""
        column, row = axes.transData.transform([x, y])
        row = len(self.pixels) - row
        around = self.pixels[round(row) - 2 : round(row) + 3, round(column) - 2 : round(column) + 3]
        share = (np.abs(around - np.array(to_rgb(colour)) * 255).max(-1) < 60).mean()
        assert share > 0.7, f"{what}: only {share:.0%} of the pixels where it should be have its colour"


def assert_same_images(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Nearly all pixels are equal, to one of 256 grey levels; expected is cut to the grey scale first."""
    expected = np.clip(np.asarray(expected).reshape(found.shape), -0.5, 0.5)
    share = (np.abs(found - expected) < 0.004).mean()
    assert share > 0.98, f"{what}: only {share:.0%} of the pixels are as they should be"


def assert_on_curve(distances: np.ndarray, what: str) -> None:
    """Most of a curve's points have its colour within two pixels."""
    near = (distances < 2.5).mean()
    assert near > 0.85, f"{what}: only {near:.0%} of the points are on the curve"
