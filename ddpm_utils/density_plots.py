"""Figures of densities, schedules and degradation errors, in the style of `plots`."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ddpm_utils.forward import posterior_tables
from ddpm_utils.latent_model import LatentModel, log_normal
from ddpm_utils.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, draw_image
from ddpm_utils.schedules import NoiseSchedule

RANGE = 3.2  # z is shown from −RANGE to RANGE
LEFT = {"loc": "left", "fontsize": 10}


def latent_model(
    model: LatentModel, samples: tuple[np.ndarray, np.ndarray] | None = None, extent: float = 3.0
) -> Figure:
    """The joint density p(x, z) = p(x|z) p(z) with its two margins, p(z) on top and p(x) at the right.

    Args:
        samples: z* and x* of ancestral sampling, shown as dots and as histograms.
        extent: x is shown from −extent to extent.
    """
    z, x = np.linspace(-RANGE, RANGE, 301), np.linspace(-extent, extent, 301)
    layout = [["prior", "."], ["joint", "density"]]
    figure, ax = plt.subplot_mosaic(layout, figsize=(5.8, 3.9), width_ratios=[2, 1], height_ratios=[1, 2.4])
    joint, prior, density = ax["joint"], ax["prior"], ax["density"]
    joint.contourf(z, x, np.exp(model.log_joint(x[:, None], z)), levels=8, cmap="Blues")
    joint.plot(z, model.f(z), color=ORANGE, label="mean f(z) of p(x|z)")
    joint.plot(z, model.f(z) + model.sigma, ":", color=ORANGE, linewidth=1, label="± σ")
    joint.plot(z, model.f(z) - model.sigma, ":", color=ORANGE, linewidth=1)
    joint.set(xlabel="latent z", ylabel="data x", xlim=(-RANGE, RANGE), ylim=(-extent, extent))
    prior.plot(z, np.exp(log_normal(z, 0, 1)), color=BLUE)
    prior.set(ylabel="p(z)", xlim=(-RANGE, RANGE), ylim=(0, None), xticklabels=[])
    density.plot(model.density(x), x, color=BLUE, label="quadrature")
    density.set(xlabel="p(x)", xlim=(0, None), ylim=(-extent, extent), yticklabels=[])
    if samples is not None:
        joint.plot(samples[0][:300], samples[1][:300], ".", color=GREEN, markersize=3, label="300 of the draws")
        bins = {"bins": 60, "density": True, "color": GREEN, "alpha": 0.4, "label": "draws"}
        prior.hist(samples[0], range=(-RANGE, RANGE), **bins)
        density.hist(samples[1], range=(-extent, extent), orientation="horizontal", **bins)
        density.legend(fontsize=8)
    joint.legend(fontsize=8, loc="upper left", frameon=True, framealpha=0.8)
    figure.suptitle(f"A latent variable model with σ = {model.sigma:g}", fontsize=10)
    return figure


def evidence_bound(model: LatentModel, x: float, mean: float, deviation: float) -> Figure:
    """Left: the posterior p(z|x) and its approximation q = N(mean, deviation²). Right: the ELBO over q's mean."""
    z, means = np.linspace(-RANGE, RANGE, 601), np.linspace(-RANGE, RANGE, 129)
    bound = np.array([model.elbo(x, m, deviation) for m in means])
    evidence, here = float(model.log_density(x)), model.elbo(x, mean, deviation)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.8, 2.9))
    left.plot(z, np.exp(log_normal(z, 0, 1)), "--", color=GREY, label="prior p(z)")
    left.fill_between(z, model.posterior(z, x), color=SKY, alpha=0.5, label=f"posterior p(z | x = {x:g})")
    left.plot(z, np.exp(log_normal(z, mean, deviation)), color=RED, label=f"q = N({mean:g}, {deviation:g}²)")
    left.set(xlabel="latent z", ylabel="density")
    left.legend(fontsize=8)
    right.axhline(evidence, color=BLUE, label=f"log p(x) = {evidence:.3f}")
    right.plot(means, bound, color=RED, label=f"ELBO over q's mean; here {here:.3f}")
    right.annotate("", (mean, evidence), (mean, here), arrowprops={"arrowstyle": "<->", "shrinkA": 0, "shrinkB": 0})
    right.plot(mean, here, "o", color=RED)
    height = max(6.0, 1.1 * (evidence - here))
    right.set(xlabel="mean of q", ylabel="nats", ylim=(evidence - height, evidence + 0.45 * height))
    right.set_title(f"gap = KL(q ‖ p(z|x)) = {evidence - here:.3f}", **LEFT)
    right.legend(fontsize=8, loc="upper right")
    return figure


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


def posterior_picture(x: float, z: float, t: int, schedule: NoiseSchedule) -> Figure:
    """One pixel: q(z_{t−1}|x) before z_t is seen, and the posterior q(z_{t−1}|z_t, x) after."""
    z_weight, x_weight, variance = (table[t] for table in posterior_tables(schedule))
    before = np.sqrt(1 - schedule.alpha[t - 1])
    figure, axes = plt.subplots(figsize=(6, 2.8))
    centre = np.sqrt(schedule.alpha[t - 1]) * x
    curves = [
        (SKY, rf"$q(z_{{{t - 1}}} \mid x)$", centre, before),
        (RED, rf"$q(z_{{{t - 1}}} \mid z_{{{t}}}, x)$", z_weight * z + x_weight * x, np.sqrt(variance)),
    ]
    grid = np.linspace(min(x, z, centre - 4 * before), max(x, z, centre + 4 * before), 800)
    for colour, label, mean, deviation in curves:
        if deviation > 0:
            density = np.exp(log_normal(grid, mean, deviation))
            axes.plot(grid, density, color=colour, label=label)
            axes.fill_between(grid, density, color=colour, alpha=0.2)
        else:
            axes.axvline(mean, color=colour, linewidth=3, label=f"{label}, a point")
    axes.axvline(x, color=ORANGE, linestyle="--", label=f"x = {x:.3g}")
    axes.axvline(z, color="black", linestyle=":", label=rf"$z_{{{t}}}$ = {z:.3g}")
    axes.set(xlabel="value of one pixel", ylabel="density", ylim=(0, None))
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def noisy_images(images: Float[Tensor, "n 1 28 28"], title: str = "") -> Figure:
    """A row of latents, and under it the histogram of all their pixels against N(0, 1)."""
    count = len(images)
    figure = plt.figure(figsize=(6.4, 3.4))
    grid = figure.add_gridspec(2, count, height_ratios=[1, 2.4])
    for column, image in enumerate(images):
        draw_image(figure.add_subplot(grid[0, column]), image)
    axes = figure.add_subplot(grid[1, :])
    edges = np.linspace(-4, 4, 81)
    axes.hist(np.asarray(images).ravel(), edges, density=True, color=BLUE, alpha=0.6, label=r"pixels of $z_t$")
    axes.plot(edges, np.exp(log_normal(edges, 0, 1)), "--", color="black", label="N(0, 1)")
    axes.set(xlabel=r"pixel value of $z_t$", ylabel="density (root scale)", ylim=(0, 5))
    axes.set_yscale("function", functions=(lambda v: np.sqrt(np.abs(v)), np.square))
    axes.legend(fontsize=8, loc="upper right")
    figure.suptitle(title, fontsize=10)
    return figure


def error_over_steps(steps: Sequence[int], errors: Mapping[str, Sequence[float]]) -> Figure:
    """RMSE to the original over the step t that images were degraded to, one curve per kind of image."""
    figure, axes = plt.subplots(figsize=(6, 2.8))
    styles = [(GREY, "--"), (BLUE, "-"), (ORANGE, "-"), (GREEN, "-")]
    for (colour, line), (label, values) in zip(styles, errors.items(), strict=False):
        axes.plot(steps, values, line, marker=".", color=colour, label=label)
    axes.set(xlabel="step t", ylabel="RMSE to the original", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8)
    return figure
