"""Pictures of densities in one dimension that change in place (see `canvas`), exact or by quadrature."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ddpm_utils.diffusion.forward import posterior_tables
from ddpm_utils.diffusion.one_dimension import LatentModel, ScalarMixture, diffused, kl_to_gaussian, log_normal, reverse
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.lab.canvas import moves, moving_title
from ddpm_utils.plots.images import BLUE, GREEN, GREY, ORANGE, RED, SKY, styled

RANGE, EXTENT = 3.2, 3.0  # z is shown from −RANGE to RANGE, x from −EXTENT to EXTENT


def curve(axes: Axes, style: str = "-", **look) -> Line2D:
    """An empty line that moves."""
    return moves(axes.plot([], [], style, **look)[0])


class LatentModelPicture:
    """A latent variable model: the joint density of data x and latent z, with p(z) on top and p(x) at the right.

    Args:
        f: z → the mean of x given z (see `one_dimension.LatentModel`).
        samples: z* and x* of ancestral sampling, shown as dots and as histograms.
        finest: the least σ that will be shown; it sets p(x)'s axis.
    """

    @styled()
    def __init__(
        self,
        f: Callable[[np.ndarray], np.ndarray],
        samples: tuple[np.ndarray, np.ndarray] | None = None,
        finest: float = 0.05,
    ):
        self.f, self.z, self.x = f, np.linspace(-RANGE, RANGE, 161), np.linspace(-EXTENT, EXTENT, 81)
        layout = [["prior", "."], ["joint", "density"]]
        self.figure, ax = plt.subplot_mosaic(layout, figsize=(5.8, 3.9), width_ratios=[2, 1], height_ratios=[1, 2.4])
        joint, prior, density = ax["joint"], ax["prior"], ax["density"]
        self.title = moving_title(self.figure)
        shape = {"extent": (-RANGE, RANGE, -EXTENT, EXTENT), "origin": "lower", "aspect": "auto"}
        shade = {"cmap": "Blues", "vmin": 0, "vmax": 1.1, "interpolation": "bilinear"}
        self.shade = moves(joint.imshow(np.zeros((2, 2)), **shape, **shade))
        moves(joint.plot(self.z, f(self.z), color=ORANGE, label="mean f(z) of p(x|z)")[0])  # since its ground does
        dotted = {"color": ORANGE, "linewidth": 1}
        self.above, self.below = curve(joint, ":", label="± σ", **dotted), curve(joint, ":", **dotted)
        joint.set(xlabel="latent z", ylabel="data x", xlim=(-RANGE, RANGE), ylim=(-EXTENT, EXTENT))
        joint.grid(False)
        prior.plot(self.z, np.exp(log_normal(self.z, 0, 1)), color=BLUE)
        prior.set(ylabel="p(z)", xlim=(-RANGE, RANGE), ylim=(0, 0.45), xticklabels=[])
        self.margin = curve(density, color=BLUE, label="quadrature")
        most = 1.05 * LatentModel(f, finest).density(self.x).max()
        density.set(xlabel="p(x)", xlim=(0, most), ylim=(-EXTENT, EXTENT), yticklabels=[])
        if samples is not None:
            look = {"color": GREEN, "markersize": 3, "label": "300 of the draws"}
            moves(joint.plot(samples[0][:300], samples[1][:300], ".", **look)[0])
            bins = {"bins": 60, "density": True, "color": GREEN, "alpha": 0.4, "label": "draws"}
            prior.hist(samples[0], range=(-RANGE, RANGE), **bins)
            density.hist(samples[1], range=(-EXTENT, EXTENT), orientation="horizontal", **bins)
            density.legend(fontsize=8)
        moves(joint.legend(fontsize=8, loc="upper left", frameon=True, framealpha=0.8))

    def __call__(self, sigma: float) -> Figure:
        """A latent variable model: joint density of data x and latent z, with p(z) on top and p(x) at the right."""
        model = LatentModel(self.f, sigma)
        density = np.exp(model.log_joint(self.x[:, None], self.z))
        self.shade.set_data(density / density.max())
        self.above.set_data(self.z, self.f(self.z) + sigma)
        self.below.set_data(self.z, self.f(self.z) - sigma)
        self.margin.set_data(model.density(self.x), self.x)
        self.title.set_text(f"A latent variable model with σ = {sigma:g}")
        return self.figure


class EvidenceBound:
    """The ELBO: a Gaussian q beside the posterior p(z|x), and how far the bound lies under log p(x) for each mean of q.

    Args:
        model: whose evidence is bounded.
        deepest: so many nats under log p(x) the picture ends.
    """

    @styled()
    def __init__(self, model: LatentModel, deepest: float = 8.0):
        self.model, self.deepest = model, deepest
        self.z, self.means = np.linspace(-RANGE, RANGE, 401), np.linspace(-RANGE, RANGE, 81)
        self.figure, (left, right) = plt.subplots(1, 2, figsize=(7.8, 3.8))
        self.title = moving_title(self.figure)
        left.plot(self.z, np.exp(log_normal(self.z, 0, 1)), "--", color=GREY, label="prior p(z)")
        edges = np.append(self.z, 2 * self.z[-1] - self.z[-2])
        look = {"fill": True, "color": SKY, "alpha": 0.5, "label": "posterior p(z|x)"}
        self.posterior = moves(left.stairs(0 * self.z, edges, **look))
        self.q = curve(left, color=RED, label="q(z)")
        left.set(xlabel="latent z", ylabel="density", ylim=(0, 8.2), xlim=(-RANGE, RANGE))
        right.axhline(0, color=BLUE, label="log p(x)")
        self.bound = curve(right, color=RED, label="ELBO, over q's mean")
        self.gap = curve(right, color="black", linewidth=3, label="the gap, KL(q ‖ p(z|x))")
        self.here = curve(right, "o", color=RED)
        right.set(xlabel="mean of q", ylabel="difference from log p(x), nats", ylim=(-deepest, 1))
        right.set_xlim(-RANGE, RANGE)
        for ax in (left, right):
            ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18))  # below, where it covers no curve

    def __call__(self, x: float, mean: float, deviation: float) -> Figure:
        """The posterior p(z|x) and a Gaussian q; the ELBO under log p(x), over the mean of q."""
        evidence = float(self.model.log_density(x))
        gap = evidence - self.model.elbo(x, mean, deviation)
        self.posterior.set_data(self.model.posterior(self.z, x))
        self.q.set_data(self.z, np.exp(log_normal(self.z, mean, deviation)))
        self.bound.set_data(self.means, self.model.elbo(x, self.means, deviation) - evidence)
        self.gap.set_data([mean, mean], [0.0, -float(gap)])
        self.here.set_data([mean], [-float(gap)])
        q = f"q = N({mean:g}, {deviation:.2g}²)"
        self.title.set_text(f"x = {x:g}, {q}: log p(x) = {evidence:.3f}, ELBO = {evidence - gap:.3f}, gap = {gap:.3f}")
        return self.figure


class PosteriorPicture:
    """One pixel: q(z_{t−1}|x), what is known before z_t is seen, and the posterior q(z_{t−1}|z_t, x) after.

    Args:
        schedule: short enough that the densities' widths can be seen.
    """

    @styled()
    def __init__(self, schedule: NoiseSchedule):
        self.schedule, self.tables = schedule, posterior_tables(schedule)
        narrowest = np.sqrt(self.tables[2][2:]).min(initial=0.2)
        self.top = 1.15 * np.exp(log_normal(0, 0, narrowest))
        self.grid = np.linspace(-2.2, 2.2, 801)
        self.figure, axes = plt.subplots(figsize=(7.4, 2.9))
        self.title = moving_title(self.figure)
        self.before = curve(axes, color=BLUE, label="q(z$_{t−1}$ | x), before")
        self.after = curve(axes, color=RED, label="q(z$_{t−1}$ | z$_t$, x), after")
        self.x = curve(axes, "--", color=ORANGE, label="x")
        self.z = curve(axes, ":", color="black", label="z$_t$")
        axes.set(xlabel="value of one pixel", ylabel="density", xlim=(-2.2, 2.2), ylim=(0, self.top))
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))

    def density(self, mean: float, deviation: float) -> tuple[np.ndarray, np.ndarray]:
        """A Gaussian's curve; an upright line where it is a point."""
        if deviation > 0:
            return self.grid, np.exp(log_normal(self.grid, mean, deviation))
        return np.full(2, mean), np.array([0, self.top])

    def __call__(self, t: int, x: float) -> Figure:
        """One pixel: its density at step t − 1 given x, before and after z_t is seen."""
        alpha = self.schedule.alpha
        z = alpha[t] ** 0.5 * x + 1.5 * (1 - alpha[t]) ** 0.5  # a z_t well above its mean
        z_weight, x_weight, variance = (table[t] for table in self.tables)
        mean = z_weight * z + x_weight * x
        self.before.set_data(*self.density(alpha[t - 1] ** 0.5 * x, (1 - alpha[t - 1]) ** 0.5))
        self.after.set_data(*self.density(mean, variance**0.5))
        self.x.set_data([x, x], [0.0, float(self.top)])
        self.z.set_data([z, z], [0.0, float(self.top)])
        found = f"mean {mean:.3f}, deviation {variance**0.5:.3f}"
        self.title.set_text(f"t = {t} of {self.schedule.T}, x = {x:g}, z_t = {z:.3g}: posterior with {found}")
        return self.figure


class ReverseStep:
    """One pixel's reverse step: what is known before z_t is seen, what z_t says, and their product beside a Gaussian.

    The product is shown in its own standard deviations, where every Gaussian looks the same.

    Args:
        x: the distribution of the clean pixel.
    """

    TOP = 2.4

    @styled()
    def __init__(self, x: ScalarMixture):
        self.x, self.grid, self.scaled = x, np.linspace(-2.5, 2.5, 501), np.linspace(-4, 4, 401)
        self.figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.1))
        self.title = moving_title(self.figure)
        self.after = curve(left, "-.", color=GREY, label="q(z$_t$)")
        self.before = curve(left, color=BLUE, label="q(z$_{t−1}$)")
        self.likelihood = curve(left, "--", color=ORANGE, label="q(z$_t$ | z$_{t−1}$), not to scale")
        self.z = curve(left, ":", color="black", linewidth=1, label="z$_t$")
        left.set(xlabel="z$_{t−1}$, z$_t$", ylabel="density", xlim=(-2.5, 2.5), ylim=(0, self.TOP))
        edges = np.append(self.scaled, self.scaled[-1] + 0.02) - 0.01
        look = {"fill": True, "color": SKY, "alpha": 0.6, "label": "q(z$_{t−1}$ | z$_t$)"}
        self.product = moves(right.stairs(0 * self.scaled, edges, **look))
        gaussian = np.exp(log_normal(self.scaled, 0, 1))
        moves(right.plot(self.scaled, gaussian, color=RED, label="Gaussian, same mean and variance")[0])
        right.set(xlabel="z$_{t−1}$: standard deviations from the mean", xlim=(-4, 4), ylim=(0, 1.1))
        for ax in (left, right):
            ax.legend(fontsize=8, loc="upper right")

    def __call__(self, beta: float, alpha: float, z: float) -> Figure:
        """One pixel's densities: q(z_t), q(z_{t−1}), the likelihood of z_t; and q(z_{t−1}|z_t) beside its Gaussian."""
        before = diffused(self.x, alpha)
        product = reverse(before, beta, z)
        mean, deviation = float(product.mean), float(np.sqrt(product.variance))
        self.before.set_data(self.grid, np.exp(before.log_density(self.grid)))
        self.after.set_data(self.grid, np.exp(diffused(before, 1 - beta).log_density(self.grid)))
        self.likelihood.set_data(self.grid, 1.2 * np.exp(-((z - np.sqrt(1 - beta) * self.grid) ** 2) / (2 * beta)))
        self.z.set_data([z, z], [0, self.TOP])
        self.product.set_data(deviation * np.exp(product.log_density(mean + deviation * self.scaled)))
        divergence = max(float(kl_to_gaussian(product)), 0.0)
        found = f"mean {mean:.3f}, deviation {deviation:.3g}, KL to a Gaussian {divergence:.2g} nats"
        self.title.set_text(f"β = {beta:.3g}, α at t − 1 = {alpha:g}, z at t = {z:g}: {found}")
        return self.figure
