"""Curves of training, evaluation and sampling, in the style of `images`. Nothing here computes a result."""

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ddpm_utils.diffusion.forward import posterior_tables
from ddpm_utils.diffusion.one_dimension import log_normal
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.plots.images import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, styled


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
        ax.set(title=title, xlabel="epoch", ylabel="mean squared error of ε", yscale="log")
        ax.legend(fontsize=8)
    return figure


@styled()
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
    at = np.asarray(t)
    edges = np.linspace(0, at.max(), bins + 1)
    figure, axes = plt.subplots(figsize=(6, 3))
    for colour, marker, (label, values) in zip((BLUE, PURPLE), "os", losses.items(), strict=False):
        groups = [np.asarray(values)[(low < at) & (at <= high)] for low, high in pairwise(edges)]
        mean = [group.mean() for group in groups]
        error = [group.std() / max(1, len(group)) ** 0.5 for group in groups]
        centre = (edges[1:] + edges[:-1]) / 2
        axes.errorbar(centre, mean, error, fmt=marker, markersize=4, color=colour, label=label)
    for colour, style, (label, curve) in zip((ORANGE, GREEN, RED), ("-", "--", ":"), curves.items(), strict=False):
        axes.plot(np.arange(1, len(curve)), curve[1:], style, color=colour, label=label)
    axes.set(xlabel="step t", ylabel="mean squared error of ε", yscale="log")
    axes.legend()
    return figure


@styled()
def quality_over_calls(measured: pd.DataFrame) -> Figure:
    """FID of each sampler over its network calls, both on logarithmic axes, with 95 % intervals.

    Args:
        measured: columns sampler, calls, fid, low, high, floor (see `recorded.Row`).
    """
    figure, axes = plt.subplots(figsize=(7, 4))
    most = measured.calls.max()
    markers = cycle(("o-", "s--", "^-", "D--", "v-"))
    for marker, (name, few) in zip(
        markers, measured[measured.calls < most].groupby("sampler", sort=False), strict=False
    ):
        interval = (few.fid - few.low).clip(lower=0), (few.high - few.fid).clip(lower=0)
        axes.errorbar(few.calls, few.fid, interval, fmt=marker, markersize=5, capsize=2, label=name)
    full = measured[measured.calls == most].iloc[0]
    axes.axhline(full.fid, color=GREY, linestyle=":", label=f"{full.sampler}, {most} calls")
    axes.plot([], [], " ", label=f"real against real: {full.floor:.2f}, below the frame")
    axes.set(xscale="log", yscale="log", xlabel="network calls per sample", ylabel="FID, digit classifier")
    axes.set_xticks([1, 2, 3, 5, 10, 20, 50], ["1", "2", "3", "5", "10", "20", "50"])
    ticks = [5 * 2**k for k in range(7) if measured.fid.min() / 2 < 5 * 2**k < 2 * measured.fid.max()]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(fontsize=8)
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
    above.legend()
    below.plot(np.arange(len(alpha)), alpha, color=ORANGE)
    below.set(xlabel="step t from which the image is restored", ylabel="signal left, α", ylim=(0, 1))
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
    figure, axes = plt.subplots(figsize=(6, 2.8))
    arrays = {name: np.asarray(array).ravel() for name, array in values.items()}
    edges = np.linspace(mean - 4 * deviation, mean + 4 * deviation, 51)
    for colour, (name, array) in zip((BLUE, ORANGE, GREEN), arrays.items(), strict=False):
        axes.hist(array, edges, density=True, histtype="step", color=colour, linewidth=1.2, label=name)
    fine = np.linspace(edges[0], edges[-1], 300)
    axes.plot(fine, np.exp(log_normal(fine, mean, deviation)), "--", color="black", label=label)
    axes.set(xlabel=xlabel, ylabel="density", ylim=(0, 1.35 * np.exp(log_normal(mean, mean, deviation))))
    axes.legend(fontsize=8, loc="upper right")
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
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


@styled()
def posterior_weights(schedule: NoiseSchedule, title: str = "") -> Figure:
    """The mean of q(z_{t−1}|z_t, x): what z_t and x weigh in it; and its variance against β_t; over t."""
    t = np.arange(1, schedule.T + 1)
    z_weight, x_weight, variance = (table[1:] for table in posterior_tables(schedule))
    marker = "." if schedule.T < 60 else None
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 2.6))
    left.plot(t, z_weight, color=BLUE, marker=marker, label=r"weight of $z_t$")
    left.plot(t, x_weight, color=ORANGE, marker=marker, label="weight of x")
    left.set(ylabel="weight in the mean", ylim=(-0.05, 1.1))
    right.plot(t, schedule.beta[1:], "--", color=GREY, marker=marker, label=r"$\beta_t$")
    right.plot(t, variance, color=RED, marker=marker, label="posterior variance")
    right.set(ylabel="variance per pixel", ylim=(0, None))
    for ax in (left, right):
        ax.set(xlabel="step t", xscale="log" if schedule.T > 20 else "linear")
        ax.legend(fontsize=8)
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
    T = len(paths) - 1
    shades = (density / density.max(1, keepdims=True)).T
    extent = (0, T, float(z[0]), float(z[-1]))
    axes.imshow(shades, extent=extent, origin="lower", aspect="auto", cmap="Greys", vmax=2, interpolation="bilinear")
    for colour, path in zip(cycle((BLUE, ORANGE)), paths.T, strict=False):
        axes.plot(np.arange(T + 1), path, color=colour, linewidth=0.7)
    axes.set(xlabel="step t", ylabel=r"$z_t$", ylim=extent[2:], title=title)
    axes.grid(False)
    return figure
