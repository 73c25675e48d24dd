"""A training run to look at while it trains: its loss, and samples of the network as it learns."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.exact import identity_loss
from ddpm_utils.diffusion.samplers import sample, standard_start
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.diffusion.solvers import METHODS, fewest_calls
from ddpm_utils.lab.canvas import Rows, moves, moving_title
from ddpm_utils.plots.images import BLUE, ORANGE, styled
from ddpm_utils.randomness import START_SEED
from ddpm_utils.shapes import Images
from ddpm_utils.system.locks import delete_runs
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.loop import Progress
from ddpm_utils.training.run import close_other

CEILING = 3.0  # of the loss axis
SAMPLED = (0, 0.05, 0.1, 0.25, 0.5, 1)  # shares of the steps after which samples are drawn
SAMPLER = METHODS["ancestral, posterior σ²"]
WORKING: dict[Path, "Background"] = {}
"""What trains now, by run folder: a run must not be written by two."""


def loss_floor(schedule: NoiseSchedule, images: Images) -> float:
    """Where the loss axis begins: a tenth of the loss of ε̂ = z_t, the mean over t, rounded down to 1, 2 or 5 times 10ⁿ.

    A trained network's loss lies above: at β = 0.001, T = 2000 about 0.03, at β = 0.1, T = 200 about 0.003.
    """
    least = identity_loss(images, schedule.alpha[1:]).mean() / 10
    power = 10.0 ** np.floor(np.log10(least))
    return float(max(factor * power for factor in (1, 2, 5) if factor * power <= least))


class LiveTraining:
    """Trains an experiment's run, from where the run in its folder stands, and keeps a picture of it.

    Iterate over it to train: it yields `Progress` after each step. Leave the loop whenever you like: when the iterator
    is closed, the run is saved, and the next loop goes on from there. Call it for the picture as it is now. Whatever
    else trains the same run in this process is stopped first; another process that trains it is left alone, and the
    loop refused.

    Args:
        experiment: what to train, and for how many epochs in all.
        dataset: what `experiment.load_data` gave.
        columns: samples in a row. A row is drawn after each share of the steps in `SAMPLED`, with the same seeds.
        calls: network calls for each, at most T; more if the schedule needs more.
        resume: False refuses a folder that holds a run (see `TrainingSetup.open_run`).
    """

    def __init__(
        self,
        experiment: Experiment,
        dataset: Dataset,
        *,
        columns: int = 8,
        calls: int = 20,
        resume: bool = True,
    ):
        self.experiment, self.dataset, self.columns = experiment, dataset, columns
        self.calls = fewest_calls(experiment.noise_schedule, calls, [SAMPLER])
        self._stop_other()
        self._open(resume)
        self.epoch_steps = len(dataset.train) // experiment.batch_size
        self.total = self.epoch_steps * experiment.epochs
        self.stops = sorted({round(share * self.total) for share in SAMPLED})
        self.running = False
        self._build(len(self.stops))

    def _stop_other(self) -> None:
        if other := WORKING.get(self.experiment.run_folder):
            other.stop()

    def _open(self, resume: bool) -> None:
        self.run = self.experiment.open_run(self.dataset, resume=resume)
        self.first = self.run.step
        self.losses: dict[int, float] = {}  # by step, of those made since
        self.samples: dict[int, torch.Tensor] = {}
        self.seconds = 0.0  # per step, of late
        self.diverged = False

    def restart(self) -> None:
        """Delete the run, and begin a new one.

        Raises:
            CheckpointError: if another process trains it; nothing is deleted then.
        """
        folder = self.experiment.run_folder
        self._stop_other()
        close_other(folder)
        delete_runs([folder])
        self._open(resume=False)

    @styled()
    def _build(self, rows: int) -> None:
        layout = [["losses", "samples"]]
        self.figure, ax = plt.subplot_mosaic(layout, figsize=(9.4, 0.62 * rows + 0.9), width_ratios=[1, 1.15])
        self.title = moving_title(self.figure)
        self.batch = moves(ax["losses"].plot([], [], color=BLUE, linewidth=0.8, label="training, one batch")[0])
        self.validation = moves(ax["losses"].plot([], [], "o-", color=ORANGE, label="validation, fixed grid")[0])
        floor = loss_floor(self.experiment.noise_schedule, self.dataset.validation.images)
        ax["losses"].set(xlabel="step", ylabel="mean squared error of ε", yscale="log", ylim=(floor, CEILING))
        ax["losses"].set_xlim(0, max(self.total, 1))
        ax["losses"].legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12))  # where it covers no loss
        self.rows = Rows(ax["samples"], rows, self.columns, [f"step {stop}" for stop in self.stops])

    def __iter__(self) -> Generator[Progress]:
        if not self.run.is_current:  # another window has trained it, or begun again
            self._open(resume=True)
        self._draw_samples()
        self.running, before = True, time.monotonic()
        try:
            with closing(self.experiment.train(self.run, self.dataset)) as steps:
                for progress in steps:
                    self.losses[progress.step] = progress.losses["train"]
                    self._draw_samples()
                    now = time.monotonic()
                    self.seconds, before = 0.9 * (self.seconds or now - before) + 0.1 * (now - before), now
                    yield progress
        except FloatingPointError:
            self.diverged = True
            raise
        finally:
            self.running = False

    def _draw_samples(self) -> None:
        """A row of samples, if it is time for one and it has not been drawn."""
        if self.run.step not in self.stops or self.run.step in self.samples:
            return
        network = self.run.network.eval()
        device = next(network.parameters()).device  # where it was trained
        self.samples[self.run.step] = sample(
            SAMPLER.sampler,
            network,
            SAMPLER.subset(self.experiment.noise_schedule, self.calls),
            count=self.columns,
            seed=START_SEED,
            start=lambda noise: standard_start(noise).to(device),
        )
        network.train()

    def __call__(self) -> Figure:
        """The loss over the steps of a training run, and samples of the network as it learns, a row each time."""
        self.batch.set_data(list(self.losses), list(self.losses.values()))
        ends = [record.epoch * self.epoch_steps for record in self.run.history]
        self.validation.set_data(ends, [record.validation_loss for record in self.run.history])
        empty = torch.empty(0, 1, 28, 28)
        self.rows.show([self.samples.get(stop, empty) for stop in self.stops])
        self.title.set_text(self._sentence())
        return self.figure

    def _sentence(self) -> str:
        step = self.run.step
        done = f"step {step} of {self.total}"
        if self.diverged:
            return f"Diverged after {done}: lower the learning rate, and start over"
        if step >= self.total:
            return f"Trained: {done}, validation loss {self.run.history[-1].validation_loss:.3f}"
        if not self.running:
            return f"Stopped at {done}; the run is kept, and goes on from here" if step else f"Not begun: {done}"
        minutes, seconds = divmod(round(self.seconds * (self.total - step)), 60)
        return f"Training: {done}, loss {self.losses[step]:.3f}, {minutes} min {seconds:02} s left"


class Background:
    """Trains in a thread of its own, so that the notebook stays free, until it is done or told to stop.

    Args:
        training: what to iterate over.
        show: called between steps, every so often and at the end.
        ended: called at the end, with what went wrong if something did.
        every: seconds between two calls of `show`.
    """

    def __init__(
        self,
        training: LiveTraining,
        show: Callable[[], None],
        ended: Callable[[Exception | None], None],
        every: float = 1.0,
    ):
        self.training, self.show, self.ended, self.every = training, show, ended, every
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begin, or go on from where the run is."""
        WORKING[self.training.experiment.run_folder] = self
        self.thread.start()

    def stop(self) -> None:
        """Stop after the step that is being made, and wait until the run is saved."""
        self.stopping.set()
        self.thread.join()

    def _work(self) -> None:
        error, shown = None, -self.every
        try:
            with closing(iter(self.training)) as steps:
                for _ in steps:
                    if self.stopping.is_set():
                        break
                    if time.monotonic() - shown > self.every:
                        self.show()
                        shown = time.monotonic()
            self.show()
        except Exception as caught:  # a thread's error would go unseen
            error = caught
        WORKING.pop(self.training.experiment.run_folder, None)
        self.ended(error)
