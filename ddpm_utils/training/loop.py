"""Training as a generator: it yields (epoch, step, losses), and the caller owns progress bar and plots.

All randomness of a step is drawn from (seed, step), so a run that stops anywhere and resumes from its
last state continues exactly as if it had not stopped, and any number of processes sees the same batches.
"""

import math
import time
from collections.abc import Callable, Generator
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from jaxtyping import Float, Int
from torch import Tensor, nn

from ddpm_utils.data.checks import check_images
from ddpm_utils.randomness import generator_for
from ddpm_utils.training.objectives import Objective
from ddpm_utils.training.run import EpochRecord, Run

VALIDATION_CHUNK = 256  # images that share one draw of noise on the validation grid: fixed, whatever the batch
EVALUATED = 128  # images at a time, so that validating takes no more memory than training
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
    take_step = _Stepper(run, objective, seed, accelerator, objective.loss_of_zero(images))
    saved = started = time.monotonic()
    for epoch in range(run.step // steps + 1, epochs + 1):
        order = torch.randperm(len(images), generator=generator_for(seed, "order", epoch))
        take_step.network.train()
        for batch in order[: steps * batch_size].split(batch_size)[run.step % steps :]:
            factor = LEARNING_RATES[lr_schedule](run.step / (steps * epochs))
            losses = {"train": take_step(images[batch], run.learning_rate * factor)}
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
        zero: the loss of the answer 0.
    """

    def __init__(self, run: Run, objective: Objective, seed: int, accelerator: Accelerator, zero: float):
        self.run, self.objective, self.seed, self.accelerator, self.zero = run, objective, seed, accelerator, zero
        self.network, self.optimizer = accelerator.prepare(run.network, run.optimizer)

    def __call__(self, x: Float[Tensor, "batch 1 28 28"], learning_rate: float) -> float:
        """Draw t and the objective's noise for the whole batch, and take one Adam step.

        Returns:
            the batch's mean loss, over all processes.

        Raises:
            FloatingPointError: if it has diverged (see `check`).
        """
        run, accelerator = self.run, self.accelerator
        generator = generator_for(self.seed, "step", run.step)
        t = torch.randint(1, self.objective.T + 1, (len(x),), generator=generator)
        drawn = self.objective.draw(x, generator)
        mine = slice(accelerator.process_index, None, accelerator.num_processes)
        share = [value[mine].to(accelerator.device) for value in (x, t, *drawn)]
        with accelerator.autocast():
            loss = self.objective(self.network, *share).mean()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad()
        accelerator.backward(loss)
        self.optimizer.step()
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


def validate(
    network: nn.Module,
    objective: Objective,
    images: Float[Tensor, "n 1 28 28"],
    *,
    seed: int = 0,
    accelerator: Accelerator | None = None,
) -> Float[Tensor, " n"]:
    """The loss of each image on a fixed grid: t spread evenly over 1…T, noise drawn from the seed.

    The grid does not depend on the network, so that the losses of two epochs or networks differ by nothing else.

    Args:
        accelerator: shares the images between its processes, each of which gets all losses.
    """
    check_images(images, "images")
    training = network.training
    network.eval()
    device = next(network.parameters()).device
    t = validation_steps(len(images), objective.T, seed=seed)
    index, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    losses = []
    for chunk in range(index, math.ceil(len(images) / VALIDATION_CHUNK), processes):
        part = slice(chunk * VALIDATION_CHUNK, (chunk + 1) * VALIDATION_CHUNK)
        drawn = objective.draw(images[part], generator_for(seed, "validation", chunk))
        for few in zip(*(value.split(EVALUATED) for value in (images[part], t[part], *drawn)), strict=True):
            with torch.inference_mode():
                losses.append((chunk, objective(network, *(value.to(device) for value in few)).cpu()))
    network.train(training)
    if accelerator:  # not in inference mode, which PyTorch 2.5 cannot gather in
        losses = sorted(gather_object(losses), key=itemgetter(0))  # those of one chunk stay in order
    return torch.cat([some for _, some in losses])


def mean_loss(
    network: nn.Module, objective: Objective, images: Float[Tensor, "n 1 28 28"], *, seed: int = 0
) -> tuple[float, float]:
    """The mean of `validate`'s losses, and its standard error over the images."""
    losses = validate(network, objective, images, seed=seed)
    return losses.mean().item(), (losses.std() / len(losses) ** 0.5).item()


def validation_steps(count: int, T: int, *, seed: int = 0) -> Int[Tensor, " count"]:
    """The t of each image on the validation grid: spread evenly over 1…T, in an order drawn from the seed."""
    t = 1 + torch.arange(count) * T // count
    return t[torch.randperm(count, generator=generator_for(seed, "validation t"))]
