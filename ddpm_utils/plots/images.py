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
import PIL.Image
from IPython import get_ipython
from IPython.display import Image, display
from jaxtyping import Float
from matplotlib import rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from torch import Tensor

from ddpm_utils.data.checks import check_latents
from ddpm_utils.system.files import write_bytes

# Okabe & Ito's palette: told apart by colour-blind readers, and by their lightness in print.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#666666",
)  # fmt: skip
LINES = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY)
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
    "figure.dpi": 100,
    "font.size": 10,
    "grid.alpha": 0.3,
    "image.cmap": "gray",
    "image.interpolation": "nearest",  # pixels as they are, and small files
    "legend.frameon": False,
    "lines.linewidth": 1.5,
}
DRAWING = threading.RLock()
LINES_RGB = [tuple(round(255 * part) for part in to_rgb(colour)) for colour in LINES]
NEARLY = 5  # of 255: colours that count as the same
DPI = 200  # of a saved picture, twice that of the page: sharp on all screens
COLOURS = 24  # in a saved picture: hardly fewer greys than the eye tells apart in it
SHADES = 64  # the same with a heat map in it, whose steps would be seen
SPARE = 8  # pixels between images that the images may take


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
def to_png(figure: Figure, colours: int | None = None, dpi: int = DPI) -> bytes:
    """A figure as PNG with a palette of so many colours, a third of matplotlib's size; it is closed."""
    heat_map = any(axes.images and axes.get_aspect() == "auto" for axes in figure.axes)
    colours = colours or (SHADES if heat_map else COLOURS)
    picture, content = drawn(figure, dpi), io.BytesIO()
    plt.close(figure)
    found = np.array([colour for _, colour in picture.getcolors(picture.width * picture.height) or ()])
    used = [line for line in LINES_RGB if np.abs(found - line).max(1).min() <= NEARLY]
    own = np.array([(255, 255, 255), (0, 0, 0), *used])  # in the palette, however thin the lines that have them
    others = np.reshape(picture.quantize(colours - len(own)).getpalette() or [], (-1, 3))[: colours - len(own)]
    entries = np.concatenate([own, others])
    palette = PIL.Image.new("P", (1, 1))
    palette.putpalette(np.resize(entries, (256, 3)).flatten().tolist())  # or Pillow adds greys of its own
    indices = np.asarray(picture.quantize(palette=palette, dither=PIL.Image.Dither.NONE)).astype(int) % len(entries)
    indices[(np.asarray(picture) == 255).all(-1)] = 0  # since Pillow looks colours up by their first six bits
    small = PIL.Image.fromarray(indices.astype(np.uint8))
    small.putpalette(entries.flatten().tolist())
    small.save(content, "png", optimize=True, bits=8)
    return content.getvalue()


@styled()
def drawn(figure: Figure, dpi: int = DPI) -> PIL.Image.Image:
    """A figure as a picture; each pixel of an image in it is a square of whole pixels, which PNG packs well."""
    engine, resolution, content = figure.get_layout_engine(), figure.get_dpi(), io.BytesIO()
    locators = [axes.get_axes_locator() for axes in figure.axes]
    figure.set_dpi(dpi)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        _fit_to_pixels(axes)
    figure.savefig(content, format="png", dpi=dpi)
    for axes, locator in zip(figure.axes, locators, strict=True):
        axes.set_axes_locator(locator)
    figure.set_dpi(resolution)
    figure.set_layout_engine(engine or "none")
    return PIL.Image.open(content).convert("RGB")


def _fit_to_pixels(axes: Axes) -> None:
    """Let each pixel of an axes' image be some whole pixels wide and high, or smooth the image if it is too small."""
    if len(axes.images) != 1 or axes.get_aspect() == "auto":
        return
    (rows, columns), box = axes.images[0].get_size(), axes.get_window_extent()
    scale = box.width / columns
    multiple = int(scale + SPARE / columns)
    if multiple < 0.75 * scale:
        axes.images[0].set_interpolation("antialiased")
        return
    left, bottom = round((box.x0 + box.x1 - multiple * columns) / 2), round((box.y0 + box.y1 - multiple * rows) / 2)
    fitted = Bbox.from_bounds(left, bottom, multiple * columns, multiple * rows)
    axes.set_axes_locator(lambda _axes, _renderer: fitted.transformed(axes.figure.transSubfigure.inverted()))


def show(rows: Sequence[Float[Tensor, "_ 1 28 28"]], labels: Sequence[str] = (), title: str = "") -> None:
    """Display images in rows in a notebook, each row a batch (see `show_figure`).

    Args:
        labels: of the rows, at the left.
    """
    show_figure(image_table(rows, labels, title=title))


def show_figure(figure: Figure, folder: Path | None = None, name: str = "", alt: str = "") -> None:
    """Display a figure in a notebook, and save it as folder/name.png if there is a folder; it is closed.

    It has twice as many pixels as the page gives it, for screens with a high resolution. A Python script has nowhere to
    display it, and only saves it.

    Args:
        alt: what the figure shows, in a sentence, for those who cannot see it; otherwise the words that stand in it. It
            is in the output's metadata, where nbconvert finds it; JupyterLab does not show it.
    """
    content = to_png(figure)
    width = PIL.Image.open(io.BytesIO(content)).width // 2
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
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)
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
        images: n is the same in all blocks, or the others leave room.
        columns: images in a line of a block; n must be a multiple.
        size: of one image, in inches.
    """
    for label, block in images.items():
        check_latents(block, ", ".join(label))
    down, across = (list(dict.fromkeys(label[axis] for label in images)) for axis in (0, 1))
    lines = max(len(block) for block in images.values()) // columns
    left = 0.09 * max(len(row) for row in down)
    titles = [textwrap.fill(column, max(1, int(columns * size / 0.085))) for column in across]  # as wide as a block
    top = 0.25 + 0.15 * max(title.count("\n") + 1 for title in titles)
    figsize = (len(across) * (columns * size + 0.2) + left, len(down) * (lines * size + 0.1) + top)
    figure, axes = plt.subplots(len(down), len(across), figsize=figsize, squeeze=False)
    for (row, column), block in images.items():
        ax = axes[down.index(row), across.index(column)]
        draw_image(ax, block.reshape(-1, columns, 28, 28).permute(0, 2, 1, 3).reshape(-1, columns * 28))
        if row == down[0]:
            ax.set_title(titles[across.index(column)], fontsize=9)
        if column == across[0]:
            ax.set_ylabel(row, rotation=0, ha="right", va="center", fontsize=9)
    return figure
