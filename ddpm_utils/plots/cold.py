"""Figures of part 2: what degradations keep, errors on the way back, restored images; and of one pixel's decoders."""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import torch
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from torch import Tensor

from ddpm_utils.data.datasets import to_unit
from ddpm_utils.plots.curves import heat_map
from ddpm_utils.plots.images import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, styled

STYLES = [
    *((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (RED, ":")),
    *((PURPLE, "-"), (SKY, "--"), (GREY, "-."), ("black", ":")),
]
MARKERS = "osDo^vP*"  # of the eight degradations


@styled()
def gaussian_loss(
    betas: np.ndarray, over_beta: Mapping[str, np.ndarray], over_time: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Figure:
    """KL from q(z_{t−1}|z_t) to its Gaussian: over β where α_{t−1} is fixed, and over t for whole schedules.

    Args:
        over_beta: label → KL at the betas.
        over_time: label → (t, KL).
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
    for (colour, line), (label, values) in zip(STYLES, over_beta.items(), strict=False):
        left.plot(betas, values, line, color=colour, label=label)
    for beta, name in ((0.001, "low β"), (0.1, "high β")):
        left.axvline(beta, color=GREY, linewidth=1, linestyle=":")
        left.text(beta, 1.2, f" {name}", color=GREY, fontsize=8)
    left.set(xscale="log", yscale="log", xlabel="β$_t$", ylabel="KL, nats", ylim=(1e-13, 10))
    for (colour, line), marker, (label, (t, values)) in zip(STYLES, "os^", over_time.items(), strict=False):
        right.plot(t, np.maximum(values, 1e-16), line, color=colour, marker=marker, markersize=3, label=label)
    right.set(xscale="log", xlabel="step t")
    for ax in (left, right):
        ax.legend(fontsize=8)
    return figure


@styled()
def decoder_over_time(
    z: Float[np.ndarray, " points"],
    t_values: Sequence[int] | np.ndarray,
    answers: Mapping[str, Float[np.ndarray, "times points"]],
    title: str = "",
    mask: Bool[np.ndarray, "times points"] | None = None,
) -> Figure:
    """What decoders answer to z_t, such as E[ε|z_t], as heat maps over t with one colour scale, a panel for each.

    Args:
        z: where the answers are given, evenly spaced.
        t_values: the steps that the answers are for, evenly spaced.
        mask: True where there are no data, which is left white.
    """
    shown = {label: np.ma.array(answer, mask=mask if mask is not None else False) for label, answer in answers.items()}
    most, ends = max(abs(answer).max() for answer in shown.values()), (float(t_values[0]), float(t_values[-1]))
    figure, axes = plt.subplots(1, len(answers), figsize=(3.4 * len(answers) + 1, 3), sharey=True, squeeze=False)
    for ax, (label, answer) in zip(axes[0], shown.items(), strict=True):
        image = heat_map(ax, answer, z, ends, cmap="coolwarm", vmin=-most, vmax=most)
        ax.set_title(label, fontsize=10)
    axes[0, 0].set_ylabel(r"$z_t$")
    figure.colorbar(image, ax=list(axes[0]), label="estimate of ε")
    figure.suptitle(title, fontsize=10)
    return figure


@styled()
def over_time(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    xlabel: str = "t / T",
    yscale: str = "linear",
) -> Figure:
    """Curves in panels beside each other, with one legend; the same label has the same look in all.

    Args:
        panels: label of the vertical axis → label of the curve → (abscissae, values).
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.4), squeeze=False)
    labels = list(dict.fromkeys(label for curves in panels.values() for label in curves))
    looks = dict(zip(labels, cycle(STYLES), strict=False))
    handles = {}
    for ax, (name, curves) in zip(axes[0], panels.items(), strict=True):
        for label, (u, values) in curves.items():
            colour, line = looks[label]
            (handles[label],) = ax.plot(u, values, line, color=colour, marker=".", markersize=4)
        ax.set(xlabel=xlabel, ylabel=name, yscale=yscale, ylim=(0 if yscale == "linear" else None, None))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


@styled()
def recursions(errors: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float], Sequence[float]]]]) -> Figure:
    """RMS of e_s over s, one panel for each R: what a walk measured (dots) on what the recursion says (lines).

    Args:
        errors: name of R → label of the algorithm → (s, measured, from the recursion).
    """
    figure, grid = plt.subplots(1, len(errors), figsize=(2.3 * len(errors), 2.9), sharey=True, squeeze=False)
    axes = grid[0]
    for ax, (name, found) in zip(axes, errors.items(), strict=True):
        for (colour, line), marker, (label, (s, measured, said)) in zip(STYLES, "os", found.items(), strict=False):
            ax.plot(s, said, line, color=colour, label=f"{label}, recursion")
            ax.plot(s, measured, marker, color=colour, markersize=3.5, label=f"{label}, measured")
        ax.set_title(name, fontsize=9)
        ax.set(xlabel="s")
        ax.invert_xaxis()
    axes[0].set_ylabel("RMS of e$_s$")
    axes[0].set_ylim(0, None)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


@styled()
def equal_information(record: Mapping[str, Any]) -> Figure:
    """Share of digits that stay the same, and FID, over the share that a classifier reads from z_t; a column per way.

    Each degradation has a colour. Filled markers are exact latents, hollow ones are rounded to 8 bits.

    Args:
        record: what `load_record("information")` returns.
    """
    ways, measures = ("direct R", "algorithm 1", "algorithm 2"), ("class kept", "FID")
    figure, axes = plt.subplots(2, 3, figsize=(8.6, 5.2), sharex=True, sharey="row")
    for row, measure in enumerate(measures):
        for column, way in enumerate(ways):
            ax = axes[row, column]
            looks = zip(STYLES, MARKERS, restored_points(record).items(), strict=False)
            for (colour, _), marker, (name, found) in looks:
                for bits, face in (("exact", colour), ("8 bits", "none")):
                    at = [point for point in found if (point["way"], point["bits"]) == (way, bits)]
                    x, y = [point["read"] for point in at], [point[measure] for point in at]
                    label = name if (row, column, bits) == (0, 0, "exact") else None
                    ax.plot(x, y, marker, color=colour, markerfacecolor=face, markersize=5, label=label)
            if measure == "class kept":
                ax.plot([0.1, 1], [0.1, 1], ":", color=GREY, linewidth=1)
                ax.set_title(way, fontsize=10)
    axes[0, 0].set(ylabel="share that stays the same digit", ylim=(0, 1.03), xlim=(0, 1.03))
    axes[1, 0].set(ylabel="FID", yscale="log")
    axes[1, 1].set_xlabel("share of digits that a classifier reads from z$_t$")
    figure.legend(loc="outside lower center", ncols=8, fontsize=8)
    return figure


def restored_points(record: Mapping[str, Any]) -> dict[str, list[dict]]:
    """Return the measurements of restored digits of each degradation, with "read", what a classifier reads from z_t.

    Where the context is estimated, algorithm 1 is algorithm 2, and gets its measurements.

    Args:
        record: what `load_record("information")` returns.
    """
    found: dict[str, list[dict]] = {}
    for entry in record["shipped"]:
        name, points = entry["degradation"], []
        for row in entry["restored"]:
            reader = record["readers"][f"{name}, {row['bits']}"]
            points.append(row | {"read": reader["accuracy"][reader["t"].index(row["t"])]})
        if not any(point["way"] == "algorithm 1" for point in points):
            points += [point | {"way": "algorithm 1"} for point in points if point["way"] == "algorithm 2"]
        found[name] = points
    return found


def animation(frames: Sequence[Float[Tensor, "n 1 height width"]], *, scale: int = 2, milliseconds: int = 120) -> bytes:
    """An animated GIF that plays in a loop: the images of each frame side by side; the last one stays for a second.

    Args:
        scale: pixels of the picture for each of an image's.
    """
    pictures = []
    for images in frames:
        row = torch.cat(list((to_unit(images) * 255).round().byte()[:, 0]), dim=1)
        picture = PIL.Image.fromarray(row.numpy())
        pictures.append(picture.resize((picture.width * scale, picture.height * scale), PIL.Image.Resampling.NEAREST))
    durations = [milliseconds] * (len(pictures) - 1) + [1000]
    content = io.BytesIO()
    pictures[0].save(
        content, "gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True
    )
    return content.getvalue()
