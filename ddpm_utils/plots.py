"""Tensors in, `Figure` out: one function per figure, all in one style. Nothing here computes a result.

Images are always on the fixed grey scale −0.5 (black) … 0.5 (white), never stretched one by one.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

# Okabe & Ito's palette: told apart by colour-blind readers, and by their lightness in print.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#666666",
)  # fmt: skip
STYLE = {
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
plt.rcParams.update(STYLE)


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Save a figure as folder/name.png and return the path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    figure.savefig(path, metadata={"Software": None})
    return path


def draw_image(axes: Axes, image: Float[Tensor, "..."] | np.ndarray) -> None:
    """One image on the fixed grey scale, without ticks."""
    axes.imshow(np.asarray(image).reshape(28, 28), vmin=-0.5, vmax=0.5)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def image_table(
    rows: Sequence[Float[Tensor, "n 1 28 28"]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    title: str = "",
    size: float = 0.75,
) -> Figure:
    """Images in rows, each row a batch; labels at the left and on top.

    Args:
        size: of one image, in inches.
    """
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


def image_grid(images: Float[Tensor, "n 1 28 28"], title: str = "", columns: int = 8, size: float = 0.45) -> Figure:
    """Images in reading order."""
    return image_table(images.split(columns), title=title, size=size)


def loss_curves(histories: Mapping[str, Sequence[tuple[float, float, float]]], snapshots: Sequence[int] = ()) -> Figure:
    """Figure 1: training and validation loss over epochs, one panel per run; red dots at the snapshot epochs.

    Args:
        histories: title → rows of (epoch, training loss, validation loss).
    """
    figure, axes = plt.subplots(1, len(histories), figsize=(4.2 * len(histories), 3), squeeze=False)
    for ax, (title, rows) in zip(axes[0], histories.items(), strict=True):
        epoch, training, validation = np.asarray(rows, dtype=float).T
        ax.plot(epoch, training, color=BLUE, marker=".", label="training (mean over the epoch)")
        ax.plot(epoch, validation, color=ORANGE, marker=".", label="validation (fixed grid)")
        marked = np.isin(epoch, snapshots)
        if marked.any():
            ax.plot(epoch[marked], validation[marked], "o", color=RED, zorder=3, label="snapshots")
        ax.set(title=title, xlabel="epoch", ylabel="mean squared error of ε", yscale="log")
        ax.legend(fontsize=8)
    return figure


def training_progress(
    batch_losses: Sequence[float], history: Sequence[tuple], first_step: int, steps_per_epoch: int
) -> Figure:
    """The loss of each step and the validation loss of each epoch, over steps.

    Args:
        batch_losses: one number per step, the last of them made just now.
        history: rows of (epoch, training loss, validation loss, …).
        first_step: how many steps came before the first of `batch_losses`.
    """
    figure, axes = plt.subplots(figsize=(6, 2.8))
    step = first_step + 1 + np.arange(len(batch_losses))
    axes.plot(step, batch_losses, color=BLUE, linewidth=0.8, label="training, one batch")
    if history:
        ends = [row[0] * steps_per_epoch for row in history]
        axes.plot(ends, [row[2] for row in history], "o-", color=ORANGE, label="validation, fixed grid")
    axes.set(xlabel="step", ylabel="mean squared error of ε", yscale="log")
    axes.legend()
    return figure


def loss_over_time(
    t: Float[Tensor, " n"] | np.ndarray,
    losses: Mapping[str, Float[Tensor, " n"]],
    curves: Mapping[str, np.ndarray],
    bins: int = 20,
) -> Figure:
    """Losses of images at their t, averaged in bins of equal width with standard errors, beside closed forms.

    Args:
        t: each image's step, 1…T.
        losses: label → one loss per image.
        curves: label → values over t = 0…T; entry 0 is not shown.
    """
    t = np.asarray(t)
    edges = np.linspace(0, t.max(), bins + 1)
    figure, axes = plt.subplots(figsize=(6, 3))
    for colour, marker, (label, values) in zip((BLUE, PURPLE), "os", losses.items(), strict=False):
        groups = [np.asarray(values)[(low < t) & (t <= high)] for low, high in pairwise(edges)]
        mean = [group.mean() for group in groups]
        error = [group.std() / max(1, len(group)) ** 0.5 for group in groups]
        centre = (edges[1:] + edges[:-1]) / 2
        axes.errorbar(centre, mean, error, fmt=marker, markersize=4, color=colour, label=label)
    for colour, style, (label, values) in zip((ORANGE, GREEN, RED), ("-", "--", ":"), curves.items(), strict=False):
        axes.plot(np.arange(1, len(values)), values[1:], style, color=colour, label=label)
    axes.set(xlabel="step t", ylabel="mean squared error of ε", yscale="log")
    axes.legend()
    return figure


def metric_gallery(images: Mapping[str, Float[Tensor, "1 28 28"]], scores: pd.DataFrame) -> Figure:
    """One image per row of a table of scores, with its name and scores below."""
    figure, axes = plt.subplots(1, len(images), figsize=(1.45 * len(images), 2.5))
    for ax, (name, image) in zip(axes, images.items(), strict=True):
        draw_image(ax, image)
        lines = "\n".join(f"{column} {value:.3g}" for column, value in scores.loc[name].items())
        ax.set_title(name, fontsize=9)
        ax.set_xlabel(lines, fontsize=9)
    return figure


def reconstruction_error(steps: Sequence[int], rmse: Sequence[float], alpha: np.ndarray, unrelated: float) -> Figure:
    """RMSE of reconstructions over the step they start from, above the share of signal left there.

    Args:
        alpha: shape (T+1,).
        unrelated: the RMSE of two unrelated digits.
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(6, 4), sharex=True)
    above.plot(steps, rmse, "o-", label="reconstructions")
    above.axhline(unrelated, color=GREY, linestyle="--", label="two unrelated digits")
    above.set(ylabel="RMSE", ylim=(0, None))
    above.legend()
    below.plot(np.arange(len(alpha)), alpha, color=ORANGE)
    below.set(xlabel="step t from which the image is restored", ylabel="signal left, α", ylim=(0, 1))
    return figure
