"""Pictures of images that change in place (see `canvas`): what the notebooks' panels show."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ddpm_utils.data.checks import check_images
from ddpm_utils.diffusion.one_dimension import log_normal
from ddpm_utils.diffusion.solvers import METHODS
from ddpm_utils.lab.canvas import Rows, moves, moving_title
from ddpm_utils.plots.explanations import draw_cells
from ddpm_utils.plots.images import BLUE, GREY, ORANGE, RED, styled
from ddpm_utils.shapes import Images
from ddpm_utils.system.files import to_images

SIZE = 0.85  # of an image, in inches
DDIM = METHODS["DDIM, η = 0"]  # whose η has a slider of its own
SAMPLERS = {name: method for name, method in METHODS.items() if method is not DDIM}


class Estimate(NamedTuple):
    """What the network sees and says at one t."""

    x: Images
    z: Images
    noise: Images
    g: Images
    x_hat: Images
    alpha: float
    error: float  # mean squared, of ε


class Choice(NamedTuple):
    """What a reader may choose of a trajectory."""

    sampler: str  # "DDIM", or one of SAMPLERS
    calls: int
    eta: float  # of DDIM; 0 for the others
    start: str
    seed: int


class Trajectory(NamedTuple):
    """A sampler's way, from T to 0: at each visited step t the latents, and the guess of the image that they give."""

    steps: list[float]  # t, falling
    alpha: list[float]
    z: Float[Tensor, "visited n 1 28 28"]
    x_hat: Float[Tensor, "visited n 1 28 28"]


class RoundTrip(NamedTuple):
    """Images degraded step by step to z_t, and walked back."""

    t: int
    T: int
    there: Float[Tensor, "stages n 1 28 28"]  # x … z_t
    back: Float[Tensor, "latents n 1 28 28"]  # the estimate … towards z_t
    rmse: np.ndarray  # of each estimate


@styled()
def rows_alone(rows: int, columns: int, labels: Sequence[str]) -> tuple[Figure, Rows]:
    """A figure of nothing but rows of images."""
    figure, axes = plt.subplots(figsize=(columns * SIZE + 0.6, rows * SIZE + 0.4))
    return figure, Rows(axes, rows, columns, labels)


class NoisyDigits:
    """Images at step t of a constant schedule, the histogram of their pixels beside N(0, 1), and α over the chain.

    Args:
        images: clean ones, a row.
        noise: ε of each, the same for all β, T and t.
    """

    EDGES = np.linspace(-4, 4, 81)

    @styled()
    def __init__(self, images: Images, noise: Images):
        check_images(images, "images")
        self.images, self.noise = images, noise
        layout = [["images", "images"], ["pixels", "alpha"]]
        self.figure, ax = plt.subplot_mosaic(layout, figsize=(7.6, 3.7), width_ratios=[2, 1], height_ratios=[1, 2.1])
        self.title = moving_title(self.figure)
        self.rows = Rows(ax["images"], 1, len(images))
        look = {"fill": True, "color": BLUE, "alpha": 0.6, "label": "pixels of z$_t$"}
        self.histogram = moves(ax["pixels"].stairs(np.zeros(80), self.EDGES, **look))
        normal = np.exp(log_normal(self.EDGES, 0, 1))
        moves(ax["pixels"].plot(self.EDGES, normal, "--", color="black", label="N(0, 1)")[0])
        ax["pixels"].set(xlabel="pixel value of z$_t$", ylabel="density (root scale)", ylim=(0, 5), xlim=(-4, 4))
        ax["pixels"].set_yscale("function", functions=(lambda v: np.sqrt(np.abs(v)), np.square))
        ax["pixels"].legend(fontsize=8, loc="upper right")
        self.chain = moves(ax["alpha"].plot([], [], color=ORANGE)[0])
        self.here = moves(ax["alpha"].plot([], [], "o", color=RED)[0])
        ax["alpha"].set(xlabel="t / T", ylabel="α$_t$, signal left", xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))

    def __call__(self, beta: float, T: int, t: int) -> Figure:
        """Digits with noise, the histogram of their pixels beside N(0, 1), and the signal left over the chain."""
        alpha = (1 - beta) ** np.arange(T + 1)  # equation 2; it may fall as low as it likes
        z = alpha[t] ** 0.5 * self.images + (1 - alpha[t]) ** 0.5 * self.noise
        self.rows.show([z])
        self.histogram.set_data(np.histogram(z.numpy(), self.EDGES, density=True)[0])
        self.chain.set_data(np.linspace(0, 1, T + 1), alpha)
        self.here.set_data([t / T], [alpha[t]])
        ratio = f"{alpha[t] / (1 - alpha[t]):.3g}" if t else "∞"
        self.title.set_text(f"β = {beta:.3g}, t = {t} of {T}: α_t = {alpha[t]:.3g}, signal-to-noise ratio {ratio}")
        return self.figure


class EstimatesPicture:
    """What the network sees and says at t: x, z_t, the noise in it, the network's estimate, its error, and x̂.

    Noise and estimate are divided by four, which fits them to the grey scale; their difference is multiplied by four,
    and mid-grey where there is none.

    Args:
        found: what `precomputed.estimates` gave.
        T: of the schedule.
    """

    @styled()
    def __init__(self, found: Mapping[int, Estimate], T: int):
        self.found, self.T = found, T
        columns = len(next(iter(found.values())).x)
        self.figure, self.rows = rows_alone(6, columns, ["x", "z$_t$", "ε / 4", "g / 4", "4(g − ε)", "x̂"])
        self.title = moving_title(self.figure)

    def __call__(self, t: int) -> Figure:
        """Digits x, their latents z_t, the noise ε, the network's estimate g, four times its error, and x̂."""
        e = self.found[t]
        self.rows.show([e.x, e.z, e.noise / 4, e.g / 4, 4 * (e.g - e.noise), e.x_hat])
        self.title.set_text(f"t = {t} of {self.T}, α_t = {e.alpha:.3g}: mean squared error of ε {e.error:.3f}")
        return self.figure


class TrajectoryPicture:
    """One step of a sampler's way from noise to digits: z_t, and the denoiser's guess x̂ from it.

    Args:
        found: what `precomputed.trajectories` gave.
        T: of the schedule.
    """

    @styled()
    def __init__(self, found: Mapping[Choice, Trajectory], T: int):
        self.found, self.T = found, T
        columns = next(iter(found.values())).z.shape[1]
        self.figure, self.rows = rows_alone(2, columns, ["z$_t$", "x̂"])
        self.title = moving_title(self.figure)

    def __call__(self, sampler: str, calls: int, eta: float, start: str, seed: int, t: int) -> Figure:
        """Latents z_t on their way from noise to digits, and under each the denoiser's current guess x̂."""
        choice = Choice(sampler, calls, eta if sampler == "DDIM" else 0.0, start, seed)
        trajectory = self.found[choice]
        place = int(np.abs(np.array(trajectory.steps) - t).argmin())
        self.rows.show([trajectory.z[place].float(), trajectory.x_hat[place].float()])
        name = f"DDIM, η = {eta:g}" if sampler == "DDIM" else sampler
        visited = f"nearest visited step {trajectory.steps[place]:.0f}, α = {trajectory.alpha[place]:.3g}"
        made = SAMPLERS[sampler].counts([calls])[-1] if sampler in SAMPLERS else calls  # Heun's are odd
        self.title.set_text(f"t = {t} of {self.T}, {visited}: {name}, {made} calls, from {start}, seed {seed}")
        return self.figure


class CausesPicture:
    """Samples of one cell of the decomposition of β = 0.1, and its place among the FIDs of all cells.

    Args:
        record: what `load_record("decomposition")` returns.
    """

    FACTORS = ("network", "trained_on", "grid", "index", "start")

    @styled()
    def __init__(self, record: Mapping[str, Any]):
        self.record = record
        self.cells = {tuple(cell[f] for f in self.FACTORS): (n, cell) for n, cell in record["cells"].items()}
        self.figure, (left, right) = plt.subplots(1, 2, figsize=(10.2, 4.4), width_ratios=[1.6, 1])
        self.title = moving_title(self.figure)
        draw_cells(left, record)
        self.figure.legend(*left.get_legend_handles_labels(), fontsize=8, ncols=3, loc="outside lower center")
        self.band = moves(left.axhspan(-0.45, 0.45, color=GREY, alpha=0.25))
        self.rows = Rows(right, 2, 4)

    def __call__(self, variance: str, **factors: str) -> Figure:
        """Eight samples (σ² = β) of the chosen cell, whose FIDs are marked on the left."""
        name, cell = self.cells.get(tuple(factors[f] for f in self.FACTORS), ("", {}))
        found = [entry["FID"] for entry in cell.get(variance, {}).values()]
        images = to_images(cell["pictures"]) if "pictures" in cell else None
        self.rows.show([] if images is None else [images[:4], images[4:]])
        self.band.set_alpha(0.25 if name else 0)
        self.band.set_y(list(self.record["cells"]).index(name) - 0.45 if name else 0)
        mean = f"FID {np.mean(found):.3g}, mean of {len(found)} networks" if found else "not measured"
        self.title.set_text(f"{', '.join(factors[f] for f in self.FACTORS)}, σ² {variance}: {mean}")
        return self.figure


class RoundTripPicture:
    """One digit's way to z_t, and under it the way back to an estimate of itself.

    Args:
        found: what `precomputed.round_trips` gave.
        columns: as many as the longest way has images.
    """

    @styled()
    def __init__(self, found: Mapping[tuple[str, float, str], RoundTrip], columns: int = 7):
        self.found = found
        self.figure, self.rows = rows_alone(2, columns, ["x → z$_t$", "restored ← z$_t$"])
        self.title = moving_title(self.figure)

    def __call__(self, degradation: str, fraction: float, algorithm: str, digit: int) -> Figure:
        """One digit on its way to z_t, from left to right; under it the way back, from right to left."""
        trip = self.found[degradation, fraction, algorithm]
        self.rows.show([trip.there[:, digit], trip.back[:, digit]])
        way = "directly" if algorithm == "direct" else f"by algorithm {algorithm}"
        there = f"{degradation} to t = {trip.t} of {trip.T}"
        self.title.set_text(f"Digit {digit}, {there}, and back {way}: RMSE {trip.rmse[digit]:.3f}")
        return self.figure
