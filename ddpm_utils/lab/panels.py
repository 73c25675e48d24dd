"""The lab's panels: which controls belong to which picture. The notebooks and the stand-alone page share them."""

import ipywidgets

from ddpm_utils.cold.samplers import ALGORITHMS
from ddpm_utils.lab import widgets
from ddpm_utils.lab.densities import EvidenceBound, LatentModelPicture, PosteriorPicture, ReverseStep
from ddpm_utils.lab.images import (
    SAMPLERS,
    CausesPicture,
    EstimatesPicture,
    NoisyDigits,
    RoundTripPicture,
    TrajectoryPicture,
)
from ddpm_utils.lab.precomputed import ETAS, FRACTIONS
from ddpm_utils.lab.training import Background, LiveTraining
from ddpm_utils.lab.widgets import Panel

PRESETS = {
    "low β: 0.001, T = 2000": {"T": 2000, "beta": 0.001, "t": 200},
    "high β: 0.1, T = 200": {"T": 200, "beta": 0.1, "t": 20},
}
"""The report's two schedules, each at a tenth of its way."""


def latent_model(draw: LatentModelPicture) -> Panel:
    """Notebook 02: σ."""
    return widgets.panel(draw, sigma=widgets.log_slider(0.05, 1.5, 0.2, "σ, deviation of x given z"))


def evidence_bound(draw: EvidenceBound) -> Panel:
    """Notebook 02: x, and the mean and deviation of q."""
    return widgets.panel(
        draw,
        x=widgets.slider([round(0.1 * k, 1) for k in range(-20, 21)], 0.5, "x, the datum"),
        mean=widgets.slider([round(0.1 * k, 1) for k in range(-28, 29)], 0.2, "mean of q"),
        deviation=widgets.log_slider(0.05, 1.0, 0.1, "deviation of q"),
    )


def posterior(draw: PosteriorPicture) -> Panel:
    """Notebook 01: t and x of one pixel."""
    T = draw.schedule.T
    return widgets.panel(
        draw,
        t=widgets.int_slider(1, T, min(3, T), "t, steps"),
        x=widgets.slider([round(0.1 * k, 1) for k in range(-5, 6)], 0.5, "x, grey from −0.5 to 0.5"),
    )


def forward(draw: NoisyDigits) -> Panel:
    """Notebook 01: β, T and t of a constant schedule, with the two published ones as presets."""
    T, t = widgets.int_slider(1, 2000, 200, "T, steps in all"), widgets.int_slider(0, 200, 20, "t, steps done")
    ipywidgets.dlink((T, "value"), (t, "max"))
    beta = widgets.log_slider(1e-4, 0.3, 0.01, "β, variance added per step")
    return widgets.panel(draw, PRESETS, beta=beta, T=T, t=t)


def reverse_step(draw: ReverseStep) -> Panel:
    """Notebook 01: β, α_{t−1} and z_t of one pixel."""
    alphas = [0.01, 0.02, 0.05, *(round(0.1 * k, 1) for k in range(1, 10)), 0.95, 0.99]
    return widgets.panel(
        draw,
        beta=widgets.log_slider(1e-4, 0.6, 0.1, "β, variance added in step t"),
        alpha=widgets.slider(alphas, 0.9, "α at t − 1, signal left before"),
        z=widgets.slider([round(0.05 * k, 2) for k in range(-24, 25)], 0.0, "z at t, grey"),
    )


def estimates(draw: EstimatesPicture) -> Panel:
    """Notebook 02: t."""
    steps = list(draw.found)
    return widgets.panel(draw, t=widgets.slider(steps, steps[len(steps) // 3], "t, steps"))


def trajectory(draw: TrajectoryPicture) -> Panel:
    """Notebook 03: sampler, calls, η, start, seed; t scrubs along the trajectory."""
    choices = list(draw.found)

    def every(name: str) -> list:
        return list(dict.fromkeys(getattr(choice, name) for choice in choices))

    starts, calls, seeds = every("start"), every("calls"), every("seed")
    steps = sorted({round(draw.T * k / 40) for k in range(41)})
    return widgets.panel(
        draw,
        sampler=widgets.menu(["DDIM", *(name for name in SAMPLERS if name in every("sampler"))], "DDIM", "sampler"),
        calls=widgets.slider(calls, calls[-1], "network calls"),
        eta=widgets.slider(ETAS, 0.0, "η, fresh noise (DDIM only)"),
        start=widgets.menu(starts, starts[-1], "start"),
        seed=widgets.slider(seeds, 0, "seed"),
        t=widgets.slider(steps, steps[len(steps) // 4], "t, steps left"),
    )


def causes(draw: CausesPicture) -> Panel:
    """Notebook 04: the factors of one cell, and the reverse variance."""
    cells = list(draw.cells)
    menus = {
        factor: widgets.menu(list(dict.fromkeys(cell[k] for cell in cells)), cells[0][k], factor.replace("_", " "))
        for k, factor in enumerate(draw.FACTORS)
    }
    return widgets.panel(draw, **menus, variance=widgets.menu(["beta", "posterior"], "beta", "reverse variance"))


def round_trip(draw: RoundTripPicture) -> Panel:
    """Notebook 05: degradation, how far, which way back, and the digit."""
    names = list(dict.fromkeys(name for name, *_ in draw.found))
    digits = next(iter(draw.found.values())).there.shape[1]
    return widgets.panel(
        draw,
        degradation=widgets.menu(names, names[0], "degradation"),
        fraction=widgets.slider(FRACTIONS, 0.5, "t / T, how far"),
        algorithm=widgets.menu(list(ALGORITHMS), "2", "way back, algorithm"),
        digit=widgets.slider(range(digits), 0, "digit"),
    )


def training(training: LiveTraining) -> Panel:
    """Notebook 02: a button that trains and stops (the run stays resumable), and one that starts over."""
    picture = widgets.Picture(training.__call__.__doc__ or "")
    train = ipywidgets.ToggleButton(description="Train", icon="play", tooltip="train, or stop and keep the run")
    again = ipywidgets.Button(description="Start over", icon="undo", tooltip="delete this run and begin a new one")
    work: list[Background] = []

    def show() -> None:
        picture.show(training())

    def ended(error: Exception | None) -> None:
        work.clear()
        picture.quiet = False
        show()
        if error:
            picture.fail(error)
        train.value = False

    def toggle(change) -> None:
        train.description, train.icon = ("Stop", "stop") if change.new else ("Train", "play")
        if change.new:
            picture.quiet = True  # or a screen reader would be told of every second
            work.append(Background(training, show, ended))
            work[0].start()
        else:
            for background in list(work):
                background.stop()

    def start_over(_button) -> None:
        try:
            training.restart()
        except Exception as error:
            picture.fail(error)
        else:
            show()

    train.observe(toggle, names="value")
    again.on_click(start_over)
    show()
    return Panel([ipywidgets.HBox([train, again]), picture])
