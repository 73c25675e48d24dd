"""Figures of what explains Table 1, in the style of `plots`. Nothing here computes.

Each takes recorded measurements, most of them by the name of the run, such as "low β".
"""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from ddpm_utils.plots.images import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, styled

Explained = Mapping[str, dict]  # one measurement of each run
Rows = Mapping[str, list[dict]]
VARIANCES = {"beta": "σ² = β", "posterior": "posterior σ²", "optimal": "optimal σ²"}


def panels(count: int, width: float = 4.2, height: float = 3.2, **options) -> tuple[Figure, list[Axes]]:
    """A figure of panels side by side."""
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), squeeze=False, **options)
    return figure, list(axes[0])


@styled()
def losses_over_time(losses: Mapping[str, dict]) -> Figure:
    """The loss over log SNR of identity, affine and exact decoder and network; one panel per run."""
    curves = {
        "identity, ε̂ = z_t": ("identity", GREY, ":"),
        "best affine decoder": ("affine", GREEN, "--"),
        "network, test images": ("network, test", BLUE, "-"),
        "exact decoder, test images": ("exact, test", PURPLE, "-."),
        "exact decoder, training images: the floor": ("exact, training", RED, "-"),
    }
    figure, axes = panels(len(losses), width=4.2 if len(losses) > 1 else 6, sharey=True)
    for ax, (name, found) in zip(axes, losses.items(), strict=True):
        for label, (key, colour, style) in curves.items():
            alpha = np.array(found["alpha"])
            ax.plot(np.log10(alpha / (1 - alpha)), found[key], style, color=colour, label=label)
        ax.set(title=name, xlabel="log₁₀ SNR at t", xlim=(3.2, -5), yscale="log", ylim=(1e-6, 50))
    axes[0].set_ylabel("mean squared error of ε")
    entries, columns = axes[0].get_legend_handles_labels(), min(3, len(losses) + 1)
    figure.legend(*entries, fontsize=8, ncols=columns, loc="outside lower center")
    return figure


@styled()
def bits(explained: Explained) -> Figure:
    """The bound's terms as stacked bars for each run and variance, and what the steps cost over the signal left."""
    figure, (left, right) = panels(2, width=5)
    labels, bottoms = [], []
    for name, found in explained.items():
        for variance, title in VARIANCES.items():
            labels.append(f"{name}\n{title}")
            bottoms.append([found[variance][part] for part in ("prior", "steps", "last")])
    values = np.array(bottoms)
    for part, (title, colour) in enumerate({"prior": ORANGE, "steps 2 … T": BLUE, "last step": SKY}.items()):
        left.bar(range(len(labels)), values[:, part], bottom=values[:, :part].sum(1), color=colour, label=title)
    for place, total in enumerate(values.sum(1)):
        left.text(place, total, f"{total:.2f}", ha="center", va="bottom", fontsize=8)
    left.set_xticks(range(len(labels)), labels, fontsize=7)
    left.set(ylabel="bits per dimension", ylim=(0, values.sum(1).max() * 1.35))
    left.legend(fontsize=8, ncols=3, loc="upper center")
    looks = zip((BLUE, ORANGE, GREEN, RED), ("-", "--", "-.", ":"), explained.items(), strict=False)
    for colour, style, (name, found) in looks:
        alpha = np.array(found["alpha"])
        spent = np.cumsum([0, *found["optimal"]["terms"]])
        right.plot(-np.log10(1 / alpha - 1), spent, style, color=colour, label=name)
    right.set(xlabel="log₁₀ SNR at t", ylabel="bits of steps 2 … t, optimal σ²", xlim=(3, -4))
    right.legend(fontsize=8)
    return figure


@styled()
def reconstruction(explained: Rows) -> Figure:
    """Error of reconstructions, and the share that is still the same digit, over the signal left where they start."""
    figure, (left, right) = panels(2, width=4.6)
    for colour, marker, (name, rows) in zip((BLUE, ORANGE), "os", explained.items(), strict=False):
        snr = [np.log10(row["alpha"] / (1 - row["alpha"])) for row in rows]
        left.plot(snr, [row["RMSE"] for row in rows], marker=marker, color=colour, label=name)
        right.plot(snr, [row["same digit"] for row in rows], marker=marker, color=colour, label=name)
    left.axhline(rows[0]["unrelated"]["RMSE"], color=GREY, linestyle="--", label="two unrelated digits")
    right.axhline(rows[0]["unrelated"]["same digit"], color=GREY, linestyle="--", label="by chance")
    left.set(ylabel="RMSE", ylim=(0, None))
    right.set(ylabel="share that is the same digit", ylim=(0, 1))
    for ax in (left, right):
        ax.set(xlabel="log₁₀ SNR where the reconstruction starts", xlim=(3.3, -9.5))
        ax.legend(fontsize=8)
    return figure


@styled()
def decomposition(record: Mapping[str, Any]) -> Figure:
    """FID of each cell on a logarithmic axis: a dot with its 95 % interval for each network and reverse variance.

    Args:
        record: what `load_record("decomposition")` returns.
    """
    figure, axes = plt.subplots(figsize=(7.2, 0.34 * len(record["cells"]) + 1.1))
    draw_cells(axes, record)
    figure.legend(fontsize=8, ncols=3, loc="outside lower center")
    return figure


def draw_cells(axes: Axes, record: Mapping[str, Any]) -> None:
    """Draw `decomposition` into axes."""
    cells = record["cells"]
    for offset, colour, variance in ((-0.17, ORANGE, "beta"), (0.17, BLUE, "posterior")):
        axes.plot([], [], "o-", color=colour, markersize=4, label=VARIANCES[variance])
        for place, cell in enumerate(cells.values()):
            for found in cell[variance].values():
                axes.plot(found["FID interval"], [place + offset] * 2, color=colour, linewidth=1)
                axes.plot(found["FID"], place + offset, "o", color=colour, markersize=4)
    axes.axvline(record["floor"]["FID"], color=GREY, linestyle=":", label="real digits against others")
    axes.set_yticks(range(len(cells)), list(cells), fontsize=8)
    axes.set(xscale="log", xlabel=f"FID, digit classifier, {record['samples']} samples", ylim=(len(cells) - 0.4, -0.6))
    axes.xaxis.set_major_locator(FixedLocator([0.3, 1, 3, 10, 30, 100]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")


def loss_ratios(record: Mapping[str, Any]) -> dict[str, tuple[np.ndarray, list[np.ndarray]]]:
    """Return α and, for each seed, loss of the network trained at high β over loss of the one trained at low β.

    Args:
        record: what `load_record("decomposition")` returns; networks that it lacks are left out.
    """
    found = {}
    for network, title in {"cnn": "CNN", "lean_unet": "lean U-Net"}.items():
        names = [[f"{network}, {run}, seed {seed}" for run in ("high β", "low β")] for seed in range(3)]
        both = [[record["networks"][name]["losses at α"] for name in pair] for pair in names
                if all(name in record["networks"] for name in pair)]  # fmt: skip
        if both:
            ratios = [np.array(high["loss"]) / np.array(low["loss"]) for high, low in both]
            found[title] = np.array(both[0][0]["alpha"]), ratios
    return found


@styled()
def losses_at_equal_signal(record: Mapping[str, Any]) -> Figure:
    """Loss of networks trained at high β over the loss of those trained at low β, at equal α; one panel per network."""
    figure, axes = panels(2, sharey=True)
    for ax, (title, (alpha, ratios)) in zip(axes, loss_ratios(record).items(), strict=True):
        for seed, (ratio, colour, marker) in enumerate(zip(ratios, (BLUE, ORANGE, GREEN), "os^", strict=False)):
            ax.plot(np.log10(alpha / (1 - alpha)), ratio, marker, linestyle="-", color=colour, label=f"seed {seed}")
        ax.axhline(1, color=GREY, linestyle=":")
        ax.set(title=title, xlabel="log₁₀ SNR", xlim=(1.2, -1.2))
    axes[0].set_ylabel("loss, high β / low β")
    axes[0].legend(fontsize=8)
    return figure


@styled()
def gaussian_step(record: Mapping[str, Any]) -> Figure:
    """FID over β of chains with the exact decoder of a known density: each reverse variance beside the floor.

    Args:
        record: what `load_record("gaussian_step")` returns.
    """
    figure, axes = plt.subplots(figsize=(6.2, 3.4))
    floor = np.array(record["floors"]["FID"])
    low, high = floor.mean() - 2 * floor.std(ddof=1), floor.mean() + 2 * floor.std(ddof=1)
    axes.axhspan(low, high, color=GREY, alpha=0.3, label="exact samples")
    looks = {"beta": (ORANGE, "o"), "posterior": (BLUE, "s"), "optimal": (GREEN, "^"), "full covariance": (PURPLE, "D")}
    for variance, (colour, marker) in looks.items():
        rows = [row for row in record["chains"] if row["variance"] == variance and not row["fine last steps"]]
        rows = sorted(rows, key=lambda row: row["beta"])
        means = [np.mean(row["FID"]) for row in rows]
        axes.plot(
            [row["beta"] for row in rows], means, marker + "-", color=colour, label=VARIANCES.get(variance, variance)
        )
        for row in rows:
            axes.plot([row["beta"]] * len(row["FID"]), row["FID"], ".", color=colour, markersize=3)
    axes.set(xlabel="β of each step", ylabel="FID, 2,000 samples", xscale="log", yscale="log")
    axes.yaxis.set_major_locator(FixedLocator([0.1, 0.3, 1, 3]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    figure.legend(fontsize=8, loc="outside right center")
    return figure
