"""Figures of part 2: what degradations keep, errors on the way back, restored images; and of one pixel's decoders."""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle

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
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], xlabel: str = "t / T"
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
        ax.set(xlabel=xlabel, ylabel=name, ylim=(0, None))
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
def errors_of_all(errors: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]]) -> Figure:
    """RMSE over the step s, one small panel for each degradation; s falls from left to right, as one walks.

    Args:
        errors: degradation → label → (s, RMSE).
    """
    columns = 4
    rows = -(-len(errors) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(8.6, 2.2 * rows + 0.3), squeeze=False, sharey=True)
    for ax in axes.flat[len(errors) :]:
        ax.axis("off")
    for ax, (name, found) in zip(axes.flat, errors.items(), strict=False):
        for (colour, line), (label, (s, values)) in zip(STYLES, found.items(), strict=False):
            ax.plot(s, values, line, color=colour, label=label)
        ax.set_title(name, fontsize=9)
        ax.set(xlabel="s")
        ax.invert_xaxis()
    for ax in axes[:, 0]:
        ax.set_ylabel("RMSE")
    axes[0, 0].set_ylim(0, None)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    return figure


@styled()
def distance_over_sigma(sigmas: Sequence[float], curves: Mapping[str, Sequence[float]], floor: float) -> Figure:
    """FID over σ, evenly spaced since 0 is among them.

    Args:
        curves: label → FID at each σ.
        floor: FID of real images against other real ones.
    """
    figure, ax = plt.subplots(figsize=(7.6, 3))
    for (colour, line), marker, (label, values) in zip(STYLES, "os^D", curves.items(), strict=False):
        ax.plot(range(len(sigmas)), values, line, marker=marker, color=colour, label=label)
    ax.axhline(floor, color=GREY, linestyle=":", label="real against real")
    ax.set_xticks(range(len(sigmas)), [f"{sigma:g}" for sigma in sigmas])
    ax.set(xlabel="σ, in units of pixels", ylabel="FID, digit classifier", ylim=(0, None))
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def animation(frames: Sequence[Float[Tensor, "n 1 28 28"]], *, scale: int = 2, milliseconds: int = 120) -> bytes:
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
