"""Training as a generator: it yields (epoch, step, losses), and the caller owns progress bar and plots.

All randomness of a step is drawn from (seed, step), so a run that stops anywhere and resumes from its
last state continues exactly as if it had not stopped, and any number of processes sees the same batches.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from jaxtyping import Float
from torch import Tensor

from ddpm_utils.data.checks import check_images
from ddpm_utils.randomness import generator_for
from ddpm_utils.training.objectives import Objective, validate
from ddpm_utils.training.run import EpochRecord, Run

SAVE_SECONDS = 30  # at most so much work is lost when a run is killed
DIVERGED = 10  # times the first loss, or the loss of the answer 0, whichever is larger


def one_cycle(progress: float, warm_up: float = 0.05) -> float:
    """Up in a straight line, then down half a cosine: the learning rate over its peak (Loshchilov & Hutter 2017).

    A function of the progress alone, so that a run that resumes needs no scheduler's state.

    Args:
        progress: share of the training that is done, in [0, 1].
    """
    if progress < warm_up:
        return progress / warm_up
    return (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up))) / 2


LEARNING_RATES: dict[str, Callable[[float], float]] = {"constant": lambda progress: 1.0, "one_cycle": one_cycle}
"""How the learning rate changes over a training: its factor as a function of progress."""


class Progress(NamedTuple):
    """What `train` yields after each step. `validation` is there after the last step of an epoch."""

    epoch: int  # 1 … epochs
    step: int  # steps made since the run began
    losses: dict[str, float]  # "train": this batch; at an epoch's end also "epoch_train" and "validation"


def train(
    run: Run,
    objective: Objective,
    images: Float[Tensor, "n 1 28 28"],
    validation: Float[Tensor, "m 1 28 28"],
    *,
    epochs: int,
    batch_size: int = 128,
    seed: int = 0,
    lr_schedule: str = "constant",
    accelerator: Accelerator | None = None,
) -> Generator[Progress]:
    """Train to `epochs` epochs in all, from where the run is (algorithm 1 of the report; Ho et al. 2020).

    Each step draws a batch, t uniform on 1…T inclusive and the objective's noise, and takes one Adam step.
    Images that do not fill a batch are left out of an epoch (others in each epoch).

    Args:
        images: to train on, in [−0.5, 0.5]; the batch is the global one, shared by all processes.
        validation: measured after each epoch on a fixed grid of (t, noise).
        lr_schedule: "constant", or "one_cycle", over all epochs, whose peak is the run's learning rate.
        accelerator: device, mixed precision and processes; by default what `accelerate` finds. Each process trains on
            its share of the batch, and the main one alone writes.

    Yields:
        `Progress` after each step, the same in all processes.

    Raises:
        ValueError: if the images are not in the range (see `check_images`) or fewer than one batch holds, the processes
            cannot share a batch or do not begin alike, or the lr_schedule is unknown.
        FloatingPointError: if the run diverges: the loss of a batch or of the validation images is not finite, or more
            than 10 times both what it was at first and what the answer 0 has. What was saved before is kept.
    """
    accelerator = accelerator or Accelerator()
    steps = _steps_per_epoch(run, images, validation, batch_size, lr_schedule, accelerator)
    batches = _batches(images, objective, batch_size, seed, run.step, accelerator)
    take_step = _Stepper(run, objective, batches, accelerator, objective.loss_of_zero(images))
    take_step.network.train()
    saved = started = time.monotonic()
    while run.step < steps * epochs:
        factor = LEARNING_RATES[lr_schedule](run.step / (steps * epochs))
        losses = {"train": take_step(run.learning_rate * factor)}
        epoch = -(-run.step // steps)
        if run.step % steps == 0:
            losses["epoch_train"] = float(np.mean(run.epoch_losses))
            validated = validate(run.network, objective, validation, seed=seed, accelerator=accelerator)
            losses["validation"] = take_step.check(validated.mean().item(), "validation loss", run.step)
            seconds, started = time.monotonic() - started, time.monotonic()
            record = EpochRecord(epoch, losses["epoch_train"], losses["validation"], round(seconds, 1))
            run.finish_epoch(record, write=accelerator.is_main_process)
            saved = time.monotonic()
        elif time.monotonic() - saved > SAVE_SECONDS and accelerator.is_main_process:
            run.save()
            saved = time.monotonic()
        try:
            yield Progress(epoch, run.step, losses)
        except GeneratorExit:  # the caller has seen enough
            if accelerator.is_main_process:
                run.save()
            raise


def _batches(
    images: Tensor, objective: Objective, batch_size: int, seed: int, first: int, accelerator: Accelerator
) -> Iterator[list[Tensor]]:
    """Yield this process's share of each batch without end: images, t, and the objective's noise, on the device.

    The images lie on the device. The rest is drawn on the CPU for the whole batch: the numbers depend neither on the
    device nor on the number of processes.

    Args:
        first: step of the first batch, from 0.
    """
    images, steps = images.to(accelerator.device), len(images) // batch_size
    mine = slice(accelerator.process_index, None, accelerator.num_processes)
    for step in count(first):
        epoch, place = step // steps + 1, step % steps
        if place == 0 or step == first:
            order = torch.randperm(len(images), generator=generator_for(seed, "order", epoch))
        x = images[order[place * batch_size : (place + 1) * batch_size].to(accelerator.device)]
        generator = generator_for(seed, "step", step)
        t = torch.randint(1, objective.T + 1, (batch_size,), generator=generator)
        yield [value[mine].to(accelerator.device) for value in (x, t, *objective.draw(x, generator))]


def _steps_per_epoch(
    run: Run, images: Tensor, validation: Tensor, batch_size: int, lr_schedule: str, accelerator: Accelerator
) -> int:
    """Return how many full batches an epoch has; refuse what `train` cannot start with (see there)."""
    begun = sorted(set(gather_object([(run.step, len(images))])))  # now all have read the folder: one may write
    if len(begun) > 1:
        raise ValueError(f"the processes must share run folder and data, not begin with (step, images) = {begun}.")
    check_images(images, "images")
    check_images(validation, "validation")
    if batch_size > len(images):
        raise ValueError(f"batch_size = {batch_size} is larger than the {len(images)} training images.")
    if batch_size % accelerator.num_processes:
        raise ValueError(f"batch_size = {batch_size} is no multiple of {accelerator.num_processes} processes.")
    if lr_schedule not in LEARNING_RATES:
        raise ValueError(f"lr_schedule must be one of {', '.join(LEARNING_RATES)}, not {lr_schedule!r}.")
    return len(images) // batch_size


class _Stepper:
    """Take one optimisation step of a run at each call, and count it; each process takes its share of the batch.

    Args:
        batches: see `_batches`.
        zero: the loss of the answer 0.
    """

    def __init__(
        self, run: Run, objective: Objective, batches: Iterator[list[Tensor]], accelerator: Accelerator, zero: float
    ):
        self.run, self.objective, self.accelerator, self.zero = run, objective, accelerator, zero
        self.batches, self.batch = batches, next(batches)
        self.network, self.optimizer = accelerator.prepare(run.network, run.optimizer)

    def __call__(self, learning_rate: float) -> float:
        """Take one Adam step on the next batch.

        Returns:
            the batch's mean loss, over all processes.

        Raises:
            FloatingPointError: if it has diverged (see `check`).
        """
        run, accelerator = self.run, self.accelerator
        with accelerator.autocast():
            loss = self.objective(self.network, *self.batch).mean()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad()
        accelerator.backward(loss)
        self.optimizer.step()
        self.batch = next(self.batches)  # a GPU still computes this step: the loss, which waits for it, comes after
        value = self.check(accelerator.reduce(loss.detach(), "mean").item(), "loss", run.step + 1)
        run.step += 1
        run.epoch_losses.append(value)
        return value

    def check(self, value: float, what: str, step: int) -> float:
        """Stop a run that has diverged; all processes do, since the value is the same in each.

        Returns:
            the value.

        Raises:
            FloatingPointError: if the value is not finite, or too large (see `train`).
        """
        run = self.run
        most = DIVERGED * max(self.zero, value if run.first_loss is None else run.first_loss)
        if np.isfinite(value) and value <= most:
            return value
        kept = f"; the best weights, of epoch {run.best.epoch}, are kept" if run.best else ""
        raise FloatingPointError(
            f"training diverged: the {what} became {value:.3g} at step {step}, while the answer 0 has {self.zero:.3g}: "
            f"lower learning_rate, which is {run.learning_rate:g}{kept}."
        )
