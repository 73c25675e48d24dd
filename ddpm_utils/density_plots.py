"""Figures of densities and schedules, in the style of `plots`."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ddpm_utils.forward import posterior_tables
from ddpm_utils.latent_model import log_normal
from ddpm_utils.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, RED
from ddpm_utils.schedules import NoiseSchedule


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
