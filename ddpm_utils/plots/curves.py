"""Curves of training, evaluation and sampling, in the style of `images`. Nothing here computes a result."""

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from ddpm_utils.diffusion.forward import posterior_tables
from ddpm_utils.diffusion.one_dimension import log_normal
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.plots.images import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, styled

LOWEST = 1e-4  # of an axis of losses: a decoder that knows all images by heart may have 1e-14


def _legend_below(figure: Figure, columns: int = 3) -> None:
    """One legend for all axes, below them, where it covers no data."""
    pairs = [zip(*ax.get_legend_handles_labels(), strict=True) for ax in figure.axes]
    entries = {label: handle for axes_pairs in pairs for handle, label in axes_pairs}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, fontsize=8)


@styled()
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
        ax.set(xlabel="epoch", ylabel="mean squared error of ε", yscale="log")
        ax.set_title(title, fontsize=10)
    _legend_below(figure)
    return figure


@styled()
def loss_over_time(
    t: Float[Tensor, " n"] | np.ndarray,
    losses: Mapping[str, Float[Tensor, " n"]],
    curves: Mapping[str, np.ndarray],
    bins: int = 20,
) -> Figure:
    """Losses of images at their t, averaged in bins with standard errors, beside closed forms; on logarithmic axes.

    Args:
        t: each image's step, 1…T.
        losses: label → one loss per image.
        curves: label → values over t = 0…T; entry 0 is not shown.
        bins: evenly spaced in log t; those without images are left out.
    """
    at = np.asarray(t)
    inside = [(low <= at) & (at < high) for low, high in pairwise(np.geomspace(1, at.max() + 1, bins + 1))]
    inside = [places for places in inside if places.any()]
    centre = [np.exp(np.log(at[places]).mean()) for places in inside]
    figure, axes = plt.subplots(figsize=(6, 3.4))
    for colour, marker, (label, values) in zip((BLUE, PURPLE, SKY), "os^", losses.items(), strict=False):
        groups = [np.asarray(values)[places] for places in inside]
        mean = [group.mean() for group in groups]
        error = [group.std() / len(group) ** 0.5 for group in groups]
        axes.errorbar(centre, mean, error, fmt=marker, markersize=4, color=colour, label=label)
    for colour, style, (label, curve) in zip((ORANGE, GREEN, RED), ("-", "--", ":"), curves.items(), strict=False):
        axes.plot(np.arange(1, len(curve)), curve[1:], style, color=colour, label=label)
    axes.set(xlabel="step t", ylabel="mean squared error of ε", xscale="log", yscale="log")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], LOWEST))
    _legend_below(figure)
    return figure


@styled()
def quality_over_calls(measured: pd.DataFrame) -> Figure:
    """FID of each sampler over its network calls, both on logarithmic axes, with 95 % intervals.

    Args:
        measured: columns sampler, calls, fid, low, high, floor (see `recorded.Row`).
    """
    figure, axes = plt.subplots(figsize=(7, 4.6))
    most = measured.calls.max()
    markers = cycle(("o-", "s--", "^-", "D--", "v-"))
    for marker, (name, few) in zip(
        markers, measured[measured.calls < most].groupby("sampler", sort=False), strict=False
    ):
        interval = few.fid - few.low, few.high - few.fid
        axes.errorbar(few.calls, few.fid, interval, fmt=marker, markersize=5, capsize=2, label=name)
    full = measured[measured.calls == most].iloc[0]
    axes.axhline(full.fid, color=GREY, linestyle=":", label=f"{full.sampler}, {most} calls")
    axes.plot([], [], " ", label=f"real against real: {full.floor:.2f}, below the frame")
    axes.set(xscale="log", yscale="log", xlabel="network calls per sample", ylabel="FID, digit classifier")
    axes.set_xticks([1, 2, 3, 5, 10, 20, 50], ["1", "2", "3", "5", "10", "20", "50"])
    ticks = [5 * 2**k for k in range(7) if measured.fid.min() / 2 < 5 * 2**k < 2 * measured.fid.max()]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    _legend_below(figure)
    return figure


@styled()
def reconstruction_error(steps: Sequence[int], rmse: Sequence[float], alpha: np.ndarray, unrelated: float) -> Figure:
    """RMSE of reconstructions over the step they start from, above the share of signal left there.

    Args:
        alpha: shape (T+1,).
        unrelated: the RMSE of two unrelated images.
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(6, 4), sharex=True)
    above.plot(steps, rmse, "o-", label="reconstructions")
    above.axhline(unrelated, color=GREY, linestyle="--", label="two unrelated images")
    above.set(ylabel="RMSE", ylim=(0, None))
    below.plot(np.arange(len(alpha)), alpha, color=ORANGE)
    below.set(xlabel="step t from which the image is restored", ylabel="signal left, α", ylim=(0, 1))
    _legend_below(figure)
    return figure


@styled()
def histograms_against_normal(
    values: Mapping[str, Float[Tensor, "..."] | np.ndarray], mean: float, deviation: float, label: str, xlabel: str
) -> Figure:
    """Histograms over each other, with the density N(mean, deviation²) that they should follow.

    Args:
        values: label → numbers.
        label: of the density.
        xlabel: of the axis.
    """
    figure, axes = plt.subplots(figsize=(6, 3.1))
    arrays = {name: np.asarray(array).ravel() for name, array in values.items()}
    edges = np.linspace(mean - 4 * deviation, mean + 4 * deviation, 51)
    for colour, (name, array) in zip((BLUE, ORANGE, GREEN), arrays.items(), strict=False):
        axes.hist(array, edges, density=True, histtype="step", color=colour, linewidth=1.2, label=name)
    fine = np.linspace(edges[0], edges[-1], 300)
    axes.plot(fine, np.exp(log_normal(fine, mean, deviation)), "--", color="black", label=label)
    axes.set(xlabel=xlabel, ylabel="density", ylim=(0, 1.15 * np.exp(log_normal(mean, mean, deviation))))
    _legend_below(figure, 2)
    return figure


@styled()
def schedules(named: Mapping[str, NoiseSchedule]) -> Figure:
    """Figure 5, with the signal-to-noise ratio as a third panel: β_t, α_t and α_t/(1−α_t) over t/T."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 3))
    styles = [(BLUE, "-"), (RED, "-"), (GREEN, "--"), (PURPLE, "-."), ("black", ":")]
    for (colour, line), (name, schedule) in zip(styles, named.items(), strict=False):
        u = np.linspace(0, 1, schedule.T + 1)
        for ax, curve in zip(axes, (schedule.beta, schedule.alpha, schedule.snr), strict=True):
            first = 0 if curve is schedule.alpha else 1
            marker = "." if schedule.T < 10 else None
            ax.plot(u[first:], curve[first:], line, color=colour, marker=marker, label=name)
    axes[0].set(ylabel=r"$\beta_t$, noise added at step t", yscale="log")
    axes[1].set(ylabel=r"$\alpha_t$, share of signal left")
    axes[2].set(ylabel=r"signal-to-noise ratio $\alpha_t/(1-\alpha_t)$", yscale="log", ylim=(1e-10, 1e5))
    axes[2].axhline(1, color=GREY, linewidth=0.8)
    for ax in axes:
        ax.set(xlabel="t / T")
    _legend_below(figure)
    return figure


@styled()
def posterior_weights(schedule: NoiseSchedule, title: str = "") -> Figure:
    """The mean of q(z_{t−1}|z_t, x): what z_t and x weigh in it; and its variance against β_t; over t."""
    t = np.arange(1, schedule.T + 1)
    z_weight, x_weight, variance = (table[1:] for table in posterior_tables(schedule))
    marker = "." if schedule.T < 60 else None
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 2.9))
    left.plot(t, z_weight, color=BLUE, marker=marker, label=r"weight of $z_t$")
    left.plot(t, x_weight, color=ORANGE, marker=marker, label="weight of x")
    left.set(ylabel="weight in the mean", ylim=(-0.05, 1.1))
    right.plot(t, schedule.beta[1:], "--", color=GREY, marker=marker, label=r"$\beta_t$")
    right.plot(t, variance, color=RED, marker=marker, label="posterior variance")
    right.set(ylabel="variance per pixel", ylim=(0, None))
    for ax in (left, right):
        ax.set(xlabel="step t", xscale="log" if schedule.T > 20 else "linear")
    _legend_below(figure, 4)
    figure.suptitle(title, fontsize=10)
    return figure


@styled()
def density_over_time(
    z: Float[np.ndarray, " points"],
    density: Float[np.ndarray, "columns points"],
    paths: Float[np.ndarray, "steps paths"],
    title: str = "",
) -> Figure:
    """A density q(z_t) as a heat map over t, with paths drawn on it (Prince 2023, figure 18.5).

    Args:
        z: where the density is given, evenly spaced.
        density: one row for each column of the picture, spread evenly from t = 0 to T. Each column is divided by its
            maximum, so that late and early times are equally visible.
        paths: z_t of each path over t = 0…T.
    """
    figure, axes = plt.subplots(figsize=(7, 3))
    _density_and_paths(axes, z, density, paths, len(paths) - 1)
    axes.set(ylabel=r"$z_t$", title=title)
    return figure


@styled()
def reverse_paths(
    z: Float[np.ndarray, " points"],
    density: Float[np.ndarray, "columns points"],
    paths: Mapping[str, Float[np.ndarray, "steps paths"]],
    title: str = "",
) -> Figure:
    """Paths of samplers on the density q(z_t), one panel for each; a path begins at t = T, at the right.

    Args:
        z, density: as in `density_over_time`.
        paths: label → z_t of each path at evenly spaced steps from t = 0 to T; the longest has all steps.
    """
    figure, axes = plt.subplots(1, len(paths), figsize=(3.6 * len(paths) + 0.4, 3), sharey=True, squeeze=False)
    figure.get_layout_engine().set(w_pad=0.12)
    for ax, (label, found) in zip(axes[0], paths.items(), strict=True):
        _density_and_paths(ax, z, density, found, max(map(len, paths.values())) - 1)
        ax.set_title(label, fontsize=10)
    axes[0, 0].set_ylabel(r"$z_t$")
    figure.suptitle(title, fontsize=10)
    return figure


def _density_and_paths(axes: Axes, z: np.ndarray, density: np.ndarray, paths: np.ndarray, T: int) -> None:
    """Shades of grey, and on them the paths, whose rows are spread evenly from t = 0 to T."""
    heat_map(axes, density / density.max(1, keepdims=True), z, (0, T), cmap="Greys", vmax=2)
    for colour, path in zip(cycle((BLUE, ORANGE)), paths.T, strict=False):
        axes.plot(np.linspace(0, T, len(path)), path, color=colour, linewidth=0.7)


def heat_map(axes: Axes, rows: np.ndarray, z: np.ndarray, t: tuple[float, float], **look) -> AxesImage:
    """Values over t, horizontally, and z; one row for each t."""
    extent = (*t, float(z[0]), float(z[-1]))
    axes.set(xlabel="step t", ylim=extent[2:])
    axes.grid(False)
    return axes.imshow(rows.T, extent=extent, origin="lower", aspect="auto", interpolation="bilinear", **look)
