"""Figures that change in place: built once, and from then on only what moves is drawn again.

A *picture* is a callable that takes a panel's values and returns its one figure, with its artists moved and its title
saying the values in one sentence. `moves` marks an artist that changes, `Rows` is a block of images that do, and `Blit`
makes a PNG in a few milliseconds, since it remembers what stays and leaves the title to the page. The axes, limits and
ticks never change.
"""

import io
from collections.abc import Sequence
from typing import TypeVar

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor

from ddpm_utils.data.datasets import to_unit
from ddpm_utils.plots.images import styled

MOVES = "moves"
SIDE, GAP = 28, 1  # pixels of an image, and between two of them
Moving = TypeVar("Moving", bound=Artist)


def moves(artist: Moving) -> Moving:
    """Mark an artist as one that changes from call to call; returns it."""
    artist.set_gid(MOVES)
    return artist


def moving_title(figure: Figure) -> Text:
    """A title above the figure, whose place is kept while it has no words yet."""
    return figure.suptitle(" ", fontsize=10)


class Rows:
    """Rows of images in one axes, on the fixed grey scale −0.5 (black) … 0.5 (white), whose pixels change in place.

    Args:
        rows, columns: how many.
        labels: of the rows.
    """

    @styled()
    def __init__(self, axes: Axes, rows: int, columns: int, labels: Sequence[str] = ()):
        step = SIDE + GAP
        self.columns = columns
        # Bytes of red, green, blue and opacity: matplotlib draws these three times faster than numbers
        self.pixels = np.zeros((rows * step - GAP, columns * step - GAP, 4), np.uint8)
        self.picture = moves(axes.imshow(self.pixels))
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xticks([])
        axes.set_yticks([row * step + SIDE / 2 - 0.5 for row in range(len(labels))], labels)

    def show(self, rows: Sequence[Float[Tensor, "_ 1 28 28"]]) -> None:
        """Show these images; a place that no image is given for stays empty."""
        step = SIDE + GAP
        self.pixels[:] = 0
        for row, images in enumerate(rows):
            grey = (to_unit(images[: self.columns]) * 255).round().byte()
            for column, image in enumerate(grey):
                y, x = row * step, column * step
                self.pixels[y : y + SIDE, x : x + SIDE, :3] = image[0, :, :, None]
                self.pixels[y : y + SIDE, x : x + SIDE, 3] = 255
        self.picture.set_data(self.pixels)


class Blit:
    """Figure → PNG without the title; of a figure that it knows it draws only what `moves`, over all that stays."""

    def __init__(self):
        self.figure: Figure | None = None

    @styled()
    def __call__(self, figure: Figure) -> bytes:
        """The figure as it is now."""
        if figure is not self.figure:
            self._remember(figure)
        self.canvas.restore_region(self.background)
        for artist in self.moving:
            artist.draw(self.canvas.get_renderer())
        content = io.BytesIO()
        pixels = PIL.Image.frombuffer("RGBA", self.canvas.get_width_height(), self.canvas.buffer_rgba())
        pixels.convert("RGB").save(content, "png", compress_level=1)
        return content.getvalue()

    def _remember(self, figure: Figure) -> None:
        """Lay the figure out, once, and keep what it looks like without that which moves."""
        plt.close(figure)  # or the notebook would show it once more at the end of the cell
        self.figure, self.canvas = figure, FigureCanvasAgg(figure)
        self.canvas.draw()
        figure.set_layout_engine("none")
        self.moving = sorted(figure.findobj(lambda artist: artist.get_gid() == MOVES), key=Artist.get_zorder)
        title = [text for text in figure.texts if text.get_text() == figure.get_suptitle()]
        absent = [*self.moving, *title]  # the page writes the title, in its place
        for artist in absent:
            artist.set_visible(False)
        self.canvas.draw()
        self.background = self.canvas.copy_from_bbox(figure.bbox)
        for artist in absent:
            artist.set_visible(True)
