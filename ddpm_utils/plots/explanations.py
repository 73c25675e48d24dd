"""Figures of what explains Table 1 (see `explanations` and `norms`), in the style of `plots`. Nothing here computes.

Each takes the recorded measurements by name of the run, such as "low β".
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from ddpm_utils.plots.images import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, draw_image, styled
from ddpm_utils.system.files import to_images

Explained = Mapping[str, dict]  # one measurement of each run
Rows = Mapping[str, list[dict]]
VARIANCES = {"beta": "σ² = β", "posterior": "posterior σ²", "optimal": "optimal σ²"}
LAYER_NORMS = {"cnn": "(C, 28, 28)", "cnn_plane_norm": "(28, 28)", "cnn_no_norm": "none"}
TWO_LINES = {"network, steps of β = 0.1": "network,\nsteps of β = 0.1"}  # of a decoder whose name is long


def panels(count: int, width: float = 4.2, height: float = 3.2, **options) -> tuple[Figure, list[Axes]]:
    """A figure of panels side by side."""
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), squeeze=False, **options)
    return figure, list(axes[0])


@styled()
def losses_over_time(losses: Mapping[str, dict]) -> Figure:
    """The loss over t of identity, affine and exact decoder and network; one panel per run."""
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
            ax.plot(found["steps"], found[key], style, color=colour, label=label)
        ax.set(title=name, xlabel="step t", yscale="log", xscale="log", ylim=(1e-8, 50))
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
def gaps(explained: Explained) -> Figure:
    """Validation loss minus training loss over t, with standard errors; one panel per run."""
    figure, axes = panels(len(explained))
    for ax, (name, found) in zip(axes, explained.items(), strict=True):
        place = np.arange(len(found["means"]))
        ax.axhline(0, color=GREY, linewidth=1)
        ax.errorbar(place, found["means"], found["standard errors"], fmt="o", markersize=4, color=BLUE, capsize=2)
        ax.set_xticks(place[1::2], [str(t) for t in found["until t"][1::2]])
        mean = f"{found['mean']:.1e} ± {found['standard error']:.1e}"
        ax.set(title=f"{name}: mean {mean}", xlabel="up to step t", ylabel="validation − training loss")
    return figure


@styled()
def sight(norms: Mapping[str, dict]) -> Figure:
    """What each LayerNorm option sees: of the clock, with and without borders, and of the noise's mean over t."""
    figure, (left, right) = panels(2, width=5)
    entries, place = norms.values(), np.arange(len(norms))
    for offset, padding, colour in ((-0.2, "zero padding", BLUE), (0.2, "circular padding", ORANGE)):
        values = [entry["sight"]["clock"][padding] for entry in entries]
        left.bar(place + offset, values, 0.4, color=colour, label=padding)
    labels = [f"{LAYER_NORMS[entry['network']]}\n{entry['weights']['epoch']} epochs" for entry in entries]
    left.set_xticks(place, labels, fontsize=8)
    left.set(ylabel="change of the output, t/T 0.05 → 0.95", yscale="log", ylim=(1e-7, 20))
    left.legend(fontsize=8, ncols=2, loc="upper center")
    for colour, marker, (name, entry) in zip((BLUE, RED, GREEN, PURPLE), "os^D", norms.items(), strict=False):
        found = entry["sight"]
        missed = found["mean error"]["zero padding"]
        right.plot(found["steps"], missed, marker=marker, markersize=4, color=colour, label=name)
    right.plot(found["steps"], found["mean error"]["affine"], "--", color=GREY, label="best affine decoder")
    right.set(xlabel="step t", ylabel="part of mean(ε) that is missed", yscale="log")
    right.legend(fontsize=8)
    return figure


@styled()
def starts(norms: Mapping[str, dict]) -> Figure:
    """Ten samples of each LayerNorm option from both starts, with their grey and FID beside them."""
    names = {"standard": "N(0, I)", "matched": "matched"}
    rows = []
    for option, entry in norms.items():
        for start, found in entry["starts"]["from"].items():
            scores = f"background {found['background']:.3f}\nFID {found['FID']:.1f}"
            rows.append((f"{option}\n{names[start]}", scores, found["pictures"]))
    return _strips(rows)


def _strips(rows: Sequence[tuple[str, str, str]], size: float = 0.5) -> Figure:
    """Rows of images with a text at the left and one at the right; images as `files.to_text` made them."""
    images = [to_images(pictures) for _, _, pictures in rows]
    columns = max(len(row) for row in images)
    before, after = (0.075 * max(len(line) for row in rows for line in row[side].split("\n")) + 0.15 for side in (0, 1))
    width = before + columns * size + after
    figsize = (width, len(rows) * size * 1.08)
    figure, axes = plt.subplots(len(rows), 1, figsize=figsize, squeeze=False, layout="none")  # its room is counted here
    figure.subplots_adjust(before / width, 0.01, 1 - after / width, 0.99, hspace=0.08)
    for ax, row, (left, right, _) in zip(axes[:, 0], images, rows, strict=True):
        draw_image(ax, row.permute(1, 2, 0, 3).reshape(28, -1))
        ax.set_anchor("W")
        ax.text(-0.1 / columns / size, 0.5, left, transform=ax.transAxes, ha="right", va="center", fontsize=8)
        ax.text(1 + 0.1 / columns / size, 0.5, right, transform=ax.transAxes, va="center", fontsize=8)
    return figure


@styled()
def reverse_steps(explained: Rows) -> Figure:
    """FID of ancestral sampling for each decoder and reverse variance; one panel per run, logarithmic."""
    figure, axes = panels(len(explained), width=5, sharey=True)
    for ax, (name, rows) in zip(axes, explained.items(), strict=True):
        decoders = list(dict.fromkeys(row["decoder"] for row in rows))
        looks = zip((-0.2, 0, 0.2), (BLUE, ORANGE, GREEN), "os^", VARIANCES, strict=True)
        for offset, colour, marker, variance in looks:
            few = [row for row in rows if row["variance"] == variance]
            values = np.array([row["FID"] for row in few])
            low, high = np.array([row["FID interval"] for row in few]).T
            interval = (values - low).clip(0, values * 0.9), (high - values).clip(0)  # may lie below its FID
            place = [decoders.index(row["decoder"]) + offset for row in few]
            ax.errorbar(place, values, interval, fmt=marker, color=colour, capsize=2, label=VARIANCES[variance])
        ax.axhline(rows[0]["FID floor"], color=GREY, linestyle=":", label="real against real")
        ax.set_xticks(range(len(decoders)), [TWO_LINES.get(name, name) for name in decoders], fontsize=8)
        ax.set(title=f"{name}, {rows[0]['calls']} of {rows[0]['T']} steps", yscale="log")
        ax.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 5, 10, 20, 50, 100]))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
    axes[0].set_ylabel("FID, digit classifier")
    axes[0].legend(fontsize=7)
    return figure


@styled()
def reverse_samples(explained: Rows, variance: str = "beta") -> Figure:
    """Sixteen samples of each decoder with one reverse variance, and how far from training images they are."""
    strips = []
    for name, rows in explained.items():
        for row in (row for row in rows if row["variance"] == variance):
            scores = f"FID {row['FID']:.1f}\nnearest {row['nearest training image']:.2f}"
            strips.append((f"{name}\n{row['decoder']}", scores, row["pictures"]))
    return _strips(strips, size=0.45)


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
def switches(explained: Explained) -> Figure:
    """What the metrics saw with each trap switched on: four samples, four real digits, and their FIDs."""
    rows = []
    for name, found in explained.items():
        for row in found["ranges"]:
            scores = f"FID {row['samples']:.1f}\nreal digits {row['real digits']:.1f}"
            rows.append((f"{name}\n{row['switch']}", scores, row["pictures"]))
    return _strips(rows)


@styled()
def off_by_one(explained: Explained) -> Figure:
    """Samples of the exact decoder with α right and off by one."""
    rows = []
    for name, found in explained.items():
        for row in found["α off by one"]:
            scores = f"FID {row['exact FID']:.1f}\nnoise left {row['noise left']:.3f}"
            rows.append((f"{name}\nα {row['α']}", scores, row["pictures"]))
    return _strips(rows)


@styled()
def memorisation(explained: Explained) -> Figure:
    """Distances of samples and of test digits to their nearest training image, and the classes of samples."""
    figure, (left, right) = panels(2, width=4.6)
    bins = np.linspace(0, 0.4, 33).tolist()
    first = next(iter(explained.values()))
    left.hist(first["distances of test digits"], bins, color=GREY, alpha=0.4, label="test digits")
    share = np.array(first["classes of training images"]) / sum(first["classes of training images"])
    right.plot(range(10), share, "_", color=GREY, markersize=14, label="training images")
    looks = zip((BLUE, ORANGE, GREEN, RED), "os^D", (-0.2, -0.07, 0.07, 0.2), explained.items(), strict=False)
    for colour, marker, offset, (name, found) in looks:
        left.hist(found["distances"], bins, histtype="step", color=colour, label=name)
        classes = np.array(found["classes"]) / sum(found["classes"])
        right.plot(np.arange(10) + offset, classes, marker, color=colour, markersize=5, label=name)
    left.set(xlabel="RMS distance to the nearest training image", ylabel="images")
    right.set(xlabel="digit, by the classifier", ylabel="share of samples", ylim=(0, None))
    right.set_xticks(range(10))
    for ax in (left, right):
        ax.legend(fontsize=8)
    return figure


@styled()
def neighbours(explained: Explained) -> Figure:
    """The eight samples that are closest to a training image, and those images."""
    rows = []
    for name, found in explained.items():
        rows.append((f"{name}\nclosest samples", "", found["closest"]))
        rows.append(("their nearest\ntraining images", "", found["their neighbours"]))
    return _strips(rows)
