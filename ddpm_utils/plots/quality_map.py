"""Sample quality as a map over β and T: small multiples of samples, their FID as colour."""

from collections.abc import Iterable, Mapping

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from ddpm_utils.plots.images import draw_image, styled
from ddpm_utils.system.files import to_images

STARTS = {"standard": "from N(0, I)", "matched": "from the matched start"}
COLUMNS = {"standard": "FID N(0, I)", "matched": "FID matched"}
TICKS = [1, 2, 5, 10, 20, 50, 100, 200, 500]
SIDE = 4  # samples in a row and in a column of each tile
COLOURS = "cividis_r"  # the better, the brighter; told apart by colour-blind readers


def is_map(table: pd.DataFrame, parameters: Iterable[str]) -> bool:
    """Whether experiments with a constant schedule differ in β and T, and perhaps the seed, and in nothing else."""
    varied = {name for name in parameters if name in table and table[name].astype(str).nunique() > 1}
    return varied - {"seed"} == {"beta", "T"} and set(table["schedule"]) == {"constant"}


@styled()
def quality_map(table: pd.DataFrame, samples: Mapping[str, Mapping[str, str]]) -> Figure:
    """Samples of each β (columns) and T (rows) on a tile coloured by their FID, for each start.

    Where the two starts are the same, at α_T next to 0, the matched map shows the standard one's samples.

    Args:
        table: a row for each experiment, with the columns experiment, beta, T, alpha_T, and FIDs; see `sweep.results`.
            Of several seeds the mean FID counts, and the first one's samples are shown.
        samples: by experiment and start, as `files.to_text` keeps images.
    """
    betas, steps = sorted(table["beta"].unique()), sorted(table["T"].unique(), reverse=True)
    scores = _scores(table)
    everything = pd.concat(list(scores.values()))
    low, high = everything.min(), everything.max()
    norm = LogNorm(low, high)
    width = 1.22 * len(betas) + 0.5
    figure = plt.figure(figsize=(width * len(scores) + 0.9, 1.36 * len(steps) + 0.9))
    *parts, last = figure.subfigures(1, len(scores) + 1, width_ratios=[width] * len(scores) + [0.9])
    for part, (start, score) in zip(parts, scores.items(), strict=True):
        part.suptitle(STARTS[start])
        part.supxlabel("β, noise per step")
        part.supylabel("T, steps")
        axes = part.subplots(len(steps), len(betas), squeeze=False)
        for (row, T), (column, beta) in ((r, c) for r in enumerate(steps) for c in enumerate(betas)):
            cell = table[(table["beta"] == beta) & (table["T"] == T)]
            _tile(axes[row, column], cell, score.get((beta, T)), start, samples, norm)
            if column == 0:
                axes[row, 0].set_ylabel(f"{T}")
            if row == len(steps) - 1:
                axes[row, column].set_xlabel(f"{beta:g}")
    bar = last.add_axes((0.1, 0.15, 0.18, 0.7), title="FID")
    ticks = [tick for tick in TICKS if low <= tick <= high]
    figure.colorbar(ScalarMappable(norm, COLOURS), cax=bar, format="%g", ticks=ticks).minorticks_off()
    return figure


def in_words(table: pd.DataFrame) -> str:
    """What the map shows, for those who cannot see it."""
    best = {STARTS[start]: (score.min(), *score.idxmin()) for start, score in _scores(table).items()}
    found = "; ".join(
        f"{start} the FID is best, {fid:.3g}, at β = {beta:g}, T = {T}" for start, (fid, beta, T) in best.items()
    )
    return f"Samples and their FID for {table['beta'].nunique()} β times {table['T'].nunique()} T: {found}."


def _scores(table: pd.DataFrame) -> dict[str, pd.Series]:
    """The FID of each (β, T) from each start, the mean over seeds."""
    found = {start: table[column] for start, column in COLUMNS.items() if column in table}
    if "matched" in found:
        found["matched"] = found["matched"].fillna(found["standard"])
    return {start: score.groupby([table["beta"], table["T"]]).mean() for start, score in found.items()}


def _tile(axes, cell: pd.DataFrame, score: float | None, start: str, samples: Mapping, norm: LogNorm) -> None:
    """One β and T: samples in a frame of the FID's colour, FID and α_T above."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if score is None:
        axes.set_facecolor("none")
        axes.text(0.5, 0.5, "not yet", ha="center", va="center", transform=axes.transAxes, fontsize=8)
        return
    found = samples[cell["experiment"].iloc[0]]
    draw_image(axes, _mosaic(to_images(found.get(start, found["standard"]))))
    colour = plt.get_cmap(COLOURS)(norm(score))
    axes.patch.set_visible(False)
    for side in axes.spines.values():
        side.set(visible=True, color=colour, linewidth=6)
    axes.set_title(f"{score:.3g}   $\\alpha_T$ {cell['alpha_T'].iloc[0]:.2g}", fontsize=7, pad=5)


def _mosaic(images: Tensor) -> Tensor:
    """(n, 1, h, w) → one image of SIDE × SIDE of them."""
    rows = images[: SIDE * SIDE].split(SIDE)
    return torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)
