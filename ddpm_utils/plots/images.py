"""Tensors in, `Figure` out: one function per figure, all in one style. Nothing here computes a result.

Images are always on the fixed grey scale −0.5 (black) … 0.5 (white), never stretched one by one.
"""

import io
import re
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
from IPython import get_ipython
from IPython.display import Image, display
from jaxtyping import Float
from matplotlib import rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from ddpm_utils.data.checks import check_latents
from ddpm_utils.system.files import write_bytes

# Okabe & Ito's palette: told apart by colour-blind readers, and by their lightness in print.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#666666",
)  # fmt: skip
LINES = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY)
DPI = 100  # of the page
SHARP = 200  # of curves and words, for screens with a high resolution
BEHAVIOUR = {
    *("backend", "backend_fallback", "date", "docstring", "figure.raise_window"),
    *("interactive", "keymap", "savefig.directory", "timezone", "tk", "toolbar", "webagg"),
}
"""Matplotlib's settings, and groups of them, that do not change what a figure looks like."""
DEFAULTS = {name: value for name, value in rcParamsDefault.items() if not {name, name.split(".")[0]} & BEHAVIOUR}
STYLE = DEFAULTS | {
    "axes.grid": True,
    "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, SKY]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": DPI,
    "font.size": 10,
    "grid.alpha": 0.3,
    "image.cmap": "gray",
    "image.interpolation": "nearest",  # pixels as they are, and small files
    "legend.frameon": False,
    "lines.linewidth": 1.5,
}
DRAWING = threading.RLock()
NEARLY_WHITE = 250  # of 255: no background is to be seen on a white page
COLOURS = 64  # in a saved picture of images: more greys than the eye tells apart in it
FEW_COLOURS = 24  # in one of curves
SHADES = 128  # in a heat map


@contextmanager
def styled() -> Iterator[None]:
    """Set matplotlib to this package's `STYLE`, and afterwards back to the user's settings.

    Use it as a context, `with styled():`, or decorate a function with `@styled()`. Each of our figures is both made and
    drawn in it, because matplotlib reads its settings at both times. One thread draws at a time, because all threads
    share the settings. It takes about 0.3 ms.

    `plt.rc_context` would restore every setting, also those that a notebook's backend makes for good when the first
    figure loads it.
    """
    with DRAWING:
        before = {name: found for name, value in STYLE.items() if (found := plt.rcParams[name]) != value}
        try:
            plt.rcParams.update({name: STYLE[name] for name in before})
            yield
        finally:
            plt.rcParams.update(before)


@styled()
def to_png(figure: Figure, colours: int | None = None, dpi: int | None = None) -> bytes:
    """A figure as PNG with a palette, a third of matplotlib's size; it is closed.

    Args:
        colours: in the palette; 24 for curves, 64 for images, 128 for heat maps, whose steps would be seen.
        dpi: 200 for curves; 100 for images, whose pixels are larger than those of a screen, and for heat maps.
    """
    drawn, content = io.BytesIO(), io.BytesIO()
    aspects = {axes.get_aspect() for axes in figure.axes if axes.images}
    colours = colours or (SHADES if "auto" in aspects else COLOURS if aspects else FEW_COLOURS)
    figure.savefig(drawn, format="png", dpi=dpi or (DPI if aspects else SHARP))
    plt.close(figure)
    picture, palette = PIL.Image.open(drawn).convert("RGB"), PIL.Image.new("P", (1, 1))
    kept = ("white", *LINES)  # however thin the lines that have them
    own = [round(255 * part) for colour in kept for part in to_rgb(colour)]
    palette.putpalette([*(picture.quantize(colours - len(kept)).getpalette() or [])[: 3 * (colours - len(kept))], *own])
    drawn_with = picture.quantize(palette=palette, dither=PIL.Image.Dither.NONE)
    entries = np.array(drawn_with.getpalette()).reshape(-1, 3)
    entries[entries.min(axis=1) >= NEARLY_WHITE] = 255  # Pillow looks colours up by their first six bits
    drawn_with.putpalette(entries.flatten().tolist())
    drawn_with.save(content, "png", optimize=True)
    return content.getvalue()


def show(rows: Sequence[Float[Tensor, "_ 1 28 28"]], labels: Sequence[str] = (), title: str = "") -> None:
    """Display images in rows in a notebook, each row a batch (see `show_figure`).

    Args:
        labels: of the rows, at the left.
    """
    show_figure(image_table(rows, labels, title=title))


def show_figure(figure: Figure, folder: Path | None = None, name: str = "", alt: str = "") -> None:
    """Display a figure in a notebook, and save it as folder/name.png if there is a folder; it is closed.

    A Python script has nowhere to display it, and only saves it.

    Args:
        alt: what the figure shows, in a sentence, for those who cannot see it; otherwise the words that stand in it. It
            is in the output's metadata, where nbconvert finds it; JupyterLab does not show it.
    """
    width = round(figure.get_figwidth() * DPI)  # on the page, however many pixels it has
    content = to_png(figure)
    if folder:
        write_bytes(folder / f"{name}.png", content)
    if get_ipython() is not None:
        display(Image(content, width=width, alt=alt or alternative_text(figure)))


def alternative_text(figure: Figure) -> str:
    """What a figure shows, in the words that stand in it: its titles, and each axes' labels once."""
    titles = [figure.get_suptitle(), *(ax.get_title(loc) for ax in figure.axes for loc in ("left", "center"))]
    labels = [f"{ax.get_ylabel()} over {ax.get_xlabel()}" for ax in figure.axes if ax.get_xlabel() and ax.get_ylabel()]
    rows = [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel() and not ax.get_xlabel()]
    parts = [re.sub(r"[$\\{}]", "", part.replace("\n", " ")) for part in (*titles, *labels, *rows)]
    return "; ".join(dict.fromkeys(part for part in parts if part.strip())) or "images"


@styled()
def draw_image(axes: Axes, image: Float[Tensor, "... height width"]) -> None:
    """One image on the fixed grey scale, without ticks."""
    axes.imshow(image.reshape(image.shape[-2:]), vmin=-0.5, vmax=0.5)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


@styled()
def image_table(
    rows: Sequence[Float[Tensor, "_ 1 28 28"]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    title: str = "",
    size: float = 0.75,
) -> Figure:
    """Images in rows, each row a batch; labels at the left and on top.

    Args:
        size: of one image, in inches.
    """
    for number, images in enumerate(rows, 1):
        check_latents(images, f"row {number}")
    columns = max(len(row) for row in rows)
    left = 0.09 * max((len(line) for label in row_labels for line in label.split("\n")), default=0)
    top = (0.25 if column_labels else 0) + (0.3 if title else 0)
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(columns * size + left, len(rows) * size + top), squeeze=False
    )
    for row, (images, line) in enumerate(zip(rows, axes, strict=True)):
        for column, ax in enumerate(line):
            if column >= len(images):
                ax.axis("off")
                continue
            draw_image(ax, images[column])
            if row == 0 and column < len(column_labels):
                ax.set_title(column_labels[column], fontsize=9)
            if column == 0 and row < len(row_labels):
                ax.set_ylabel(row_labels[row], rotation=0, ha="right", va="center", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


@styled()
def mosaics(
    images: Mapping[tuple[str, str], Float[Tensor, "n 1 28 28"]], columns: int = 8, size: float = 0.3
) -> Figure:
    """Many small images, one block for each (row, column) label, without gaps; long column labels are wrapped.

    Args:
        columns: images in a line of a block; n must be a multiple.
        size: of one image, in inches.
    """
    for label, block in images.items():
        check_latents(block, ", ".join(label))
    down, across = (list(dict.fromkeys(label[axis] for label in images)) for axis in (0, 1))
    lines = max(len(block) for block in images.values()) // columns
    left = 0.09 * max(len(row) for row in down)
    titles = {
        column: textwrap.fill(column, max(1, int(columns * size / 0.085))) for column in across
    }  # as wide as a block
    top = 0.25 + 0.15 * max(title.count("\n") + 1 for title in titles.values())
    figsize = (len(across) * (columns * size + 0.2) + left, len(down) * (lines * size + 0.1) + top)
    figure, axes = plt.subplots(len(down), len(across), figsize=figsize, squeeze=False)
    for (row, column), block in images.items():
        ax = axes[down.index(row), across.index(column)]
        draw_image(ax, block.reshape(-1, columns, 28, 28).permute(0, 2, 1, 3).reshape(-1, columns * 28))
        if size < 0.4:  # the picture has too few pixels to show all pixels of the images
            ax.images[0].set_interpolation("antialiased")
        if row == down[0]:
            ax.set_title(titles[column], fontsize=9)
        if column == across[0]:
            ax.set_ylabel(row, rotation=0, ha="right", va="center", fontsize=9)
    return figure


@styled()
def metric_gallery(images: Mapping[str, Float[Tensor, "1 28 28"]], scores: pd.DataFrame) -> Figure:
    """One image per row of a table of scores, with its name and scores below."""
    figure, axes = plt.subplots(1, len(images), figsize=(1.45 * len(images), 2.5))
    for ax, (name, image) in zip(axes, images.items(), strict=True):
        draw_image(ax, image)
        lines = "\n".join(f"{column} {value:.3g}" for column, value in scores.loc[name].items())
        ax.set_title(name, fontsize=9)
        ax.set_xlabel(lines, fontsize=9)
    return figure
