"""Pictures of images that change in place (see `canvas`): what the notebooks' panels show."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ddpm_utils.data.checks import check_images
from ddpm_utils.diffusion.one_dimension import log_normal
from ddpm_utils.diffusion.solvers import METHODS
from ddpm_utils.lab.canvas import Rows, moves, moving_title
from ddpm_utils.plots.images import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, styled
from ddpm_utils.shapes import Images

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


class Reconstruction(NamedTuple):
    """Images, what comes back of them from one t, and how well."""

    x: Images
    restored: Images
    quality: dict[str, Float[Tensor, " n"]]  # see `metrics.quality_of_each`
    alpha: float


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


class WorstAndBest:
    """The best and the worst reconstructions from step t by one metric; and each decoder's loss over t.

    Args:
        found: what `precomputed.reconstructions` gave.
        losses: label → one loss for each of the steps.
        steps: of the losses.
        shown: how many of the best and of the worst.
    """

    @styled()
    def __init__(
        self,
        found: Mapping[int, Reconstruction],
        losses: Mapping[str, Sequence[float] | np.ndarray],
        steps: Sequence[int],
        shown: int = 4,
    ):
        self.found, self.shown = found, shown
        layout = [["best", "worst", "losses"]]
        self.figure, ax = plt.subplot_mosaic(layout, figsize=(10.2, 2.9), width_ratios=[1.1, 1.1, 1])
        self.title = moving_title(self.figure)
        self.rows, self.scores = {}, {}
        for name in ("best", "worst"):
            self.rows[name] = Rows(ax[name], 2, shown, ["x", "x̂"] if name == "best" else [])
            ax[name].set_title(name, fontsize=10)
            places = [((k + 0.5) / shown, -0.02) for k in range(shown)]
            look = {"transform": ax[name].transAxes, "ha": "center", "va": "top", "fontsize": 9}
            self.scores[name] = [moves(ax[name].text(*place, "0.000", **look)) for place in places]
        looks = [(BLUE, "-"), (PURPLE, "--"), (GREEN, "-."), (RED, ":"), (ORANGE, "-"), (GREY, "--")]
        for (colour, line), (label, values) in zip(looks, losses.items(), strict=False):
            ax["losses"].plot(steps, values, line, color=colour, label=label)
        self.here = moves(ax["losses"].axvline(1, color="black", linewidth=1))
        ax["losses"].set(xlabel="step t", ylabel="mean squared error of ε", xscale="log", yscale="log")
        ax["losses"].set_ylim(1e-4, 50)  # the exact decoder on images that it knows goes far below
        self.figure.legend(*ax["losses"].get_legend_handles_labels(), loc="outside right center", fontsize=8)

    def __call__(self, metric: str, t: int) -> Figure:
        """The best and worst reconstructions from step t by one metric, and each decoder's loss, with t marked."""
        found = self.found[t]
        scores = found.quality[metric]
        order = scores.argsort(descending=metric != "RMSE").tolist()
        for name, places in (("best", order[: self.shown]), ("worst", order[::-1][: self.shown])):
            self.rows[name].show([found.x[places], found.restored[places]])
            for text, place in zip(self.scores[name], places, strict=False):
                text.set_text(f"{scores[place]:.3g}")
        self.here.set_xdata([t, t])
        mean = f"mean {metric} {scores.mean():.3g} of {len(scores)} images"
        self.title.set_text(f"Restored from t = {t}, α_t = {found.alpha:.2g}: {mean}")
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
