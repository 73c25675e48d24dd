"""Training as a generator: it yields (epoch, step, losses), and the caller owns progress bar and plots.

All randomness of a step is drawn anew from (seed, step), so a run that stops anywhere and resumes from its
last state continues exactly as if it had not stopped, and any number of processes sees the same batches.
"""

import csv
import io
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ddpm_utils import checkpoints
from ddpm_utils.forward import diffuse
from ddpm_utils.schedules import NoiseSchedule, gather

VALIDATION_CHUNK = 256  # images that share one draw of noise on the validation grid: fixed, whatever the batch
SAVE_SECONDS = 30  # at most so much work is lost when a run is killed


@runtime_checkable
class Objective(Protocol):
    """What a network is trained for. One call is one Monte Carlo estimate of the loss of each image."""

    T: int

    def draw(self, x: Float[Tensor, "batch 1 28 28"], generator: torch.Generator) -> Tensor:
        """The randomness of one call, of shape (batch, …), apart from t."""

    def __call__(
        self, network: nn.Module, x: Float[Tensor, "batch 1 28 28"], t: Int[Tensor, " batch"], drawn: Tensor
    ) -> Float[Tensor, " batch"]:
        """The loss of each image at its own t in 1…T, a mean over pixels."""


class NoisePrediction:
    """‖g(√α_t·x + √(1−α_t)·ε, t/T) − ε‖², averaged over pixels where equation 4 sums."""

    def __init__(self, schedule: NoiseSchedule):
        self.schedule = schedule
        self.T = schedule.T

    def draw(self, x: Float[Tensor, "batch 1 28 28"], generator: torch.Generator) -> Tensor:
        """ε ~ N(0, I)."""
        return torch.randn(x.shape, generator=generator)

    def __call__(
        self, network: nn.Module, x: Float[Tensor, "batch 1 28 28"], t: Int[Tensor, " batch"], drawn: Tensor
    ) -> Float[Tensor, " batch"]:
        z = diffuse(x, t, drawn, self.schedule)
        time = gather(self.schedule.time, t, z).flatten()
        return (network(z, time) - drawn).square().flatten(1).mean(1)


class Restoration:
    """|R(D(x, t), t/T) − x|, averaged over pixels: cold training (Bansal et al. 2022, eq. 3).

    Args:
        degrade: D(x, t) for a batch of different t, with its number of steps T.
        norm: 1 for the absolute error, as in the paper; 2 for the squared one, as in the coursework.
    """

    def __init__(self, degrade: Callable[[Tensor, Tensor], Tensor], norm: int = 1):
        if norm not in (1, 2):
            raise ValueError(f"norm must be 1 or 2, not {norm!r}.")
        self.degrade, self.norm = degrade, norm
        self.T = degrade.T

    def draw(self, x: Float[Tensor, "batch 1 28 28"], generator: torch.Generator) -> Tensor:
        """Nothing: D is deterministic. An empty tensor of shape (batch, 0)."""
        return torch.empty(len(x), 0)

    def __call__(
        self, network: nn.Module, x: Float[Tensor, "batch 1 28 28"], t: Int[Tensor, " batch"], drawn: Tensor
    ) -> Float[Tensor, " batch"]:
        error = network(self.degrade(x, t), (t / self.T).to(x)) - x
        return error.abs().pow(self.norm).flatten(1).mean(1)


class Progress(NamedTuple):
    """What `train` yields after each step. `validation` is there after the last step of an epoch."""

    epoch: int  # 1 … epochs
    step: int  # steps made since the run began
    losses: dict[str, float]  # "train": this batch; at an epoch's end also "epoch_train" and "validation"


class EpochRecord(NamedTuple):
    """One row of losses.csv."""

    epoch: int
    train_loss: float
    validation_loss: float
    seconds: float


class Run:
    """One training run: the network, its optimiser, its history, and the folder that keeps them.

    The folder holds `last.safetensors` (everything to resume), `best.safetensors` (the weights with the lowest
    validation loss so far), `epoch<n>.safetensors` (the weights after a snapshot epoch) and `losses.csv`.

    Args:
        folder: where to keep the run; None keeps it in memory only.
        description: what the run is (schedule, data, …); a folder with another description is refused.
        snapshots: epochs after which to keep the weights.
        ema_horizon: average the weights over about so many steps (exponentially), well under the run's length;
            None does not average.

    Raises:
        CheckpointError: if the folder's state is damaged or of another run.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        learning_rate: float = 2e-4,
        ema_horizon: int | None = None,
        folder: Path | None = None,
        description: dict | None = None,
        snapshots: Sequence[int] = (),
    ):
        self.network = network
        self.snapshots = set(snapshots)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
        average = get_ema_multi_avg_fn(1 - 1 / ema_horizon) if ema_horizon else None
        self.average = AveragedModel(network, multi_avg_fn=average) if average else None
        self.folder = folder and Path(folder)
        self.description = {"ema_horizon": ema_horizon, "learning_rate": learning_rate, **(description or {})}
        self.step = 0
        self.epoch_losses: list[float] = []
        self.history: list[EpochRecord] = []
        if self.folder and (self.folder / "last.safetensors").exists():
            self._load()

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept: the average if there is one."""
        return self.average.module if self.average else self.network

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with the lowest validation loss so far."""
        return min(self.history, key=lambda record: record.validation_loss, default=None)

    def finish_epoch(self, record: EpochRecord, *, write: bool = True) -> None:
        """Append to the history; then write the state, and the weights if they are the best so far."""
        self.history.append(record)
        self.epoch_losses = []
        if not write:
            return
        kept = {"best"} if self.best is record else set()
        if record.epoch in self.snapshots:
            kept.add(f"epoch{record.epoch}")
        for name in kept if self.folder else ():
            weights = self.evaluated.state_dict()
            description = self.description | record._asdict()
            checkpoints.save(self.folder / f"{name}.safetensors", weights, description)
        self.save()

    def save(self) -> None:
        """Write what is needed to resume, and the history as losses.csv."""
        if not self.folder:
            return
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        if self.average:
            tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        state = {"step": self.step, "epoch_losses": self.epoch_losses, "history": self.history}
        checkpoints.save(self.folder / "last.safetensors", tensors, {"run": self.description} | state)
        checkpoints.write_bytes(self.folder / "losses.csv", losses_csv(self.history).encode())

    def _load(self) -> None:
        path = self.folder / "last.safetensors"
        tensors, state = checkpoints.load(path)
        for name, value in self.description.items():
            if state["run"].get(name) != value:
                raise checkpoints.CheckpointError(
                    f"{self.folder} holds a run with {name} = {state['run'].get(name)!r}, not {value!r}: "
                    "delete the folder, or choose another one."
                )

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        self.network.load_state_dict(part("network."))
        optimizer = self.optimizer.state_dict()
        for name, value in part("optimizer.").items():
            index, field = name.split(".")
            optimizer["state"].setdefault(int(index), {})[field] = value
        self.optimizer.load_state_dict(optimizer)
        if self.average:
            self.average.load_state_dict(part("average."))
        self.step, self.epoch_losses = state["step"], state["epoch_losses"]
        self.history = [EpochRecord(*row) for row in state["history"]]


def train(
    run: Run,
    objective: Objective,
    images: Float[Tensor, "n 1 28 28"],
    validation: Float[Tensor, "m 1 28 28"],
    *,
    epochs: int,
    batch_size: int = 128,
    seed: int = 0,
    accelerator: Accelerator | None = None,
) -> Iterator[Progress]:
    """Train to `epochs` epochs in all, from where the run is (algorithm 1 of the report; Ho et al. 2020).

    Each step draws a batch, t uniform on 1…T inclusive and the objective's noise, and takes one Adam step.
    Images that do not fill a batch are left out of an epoch (others in each epoch).

    Args:
        images: to train on, in [−0.5, 0.5]; the batch is the global one, shared by all processes.
        validation: measured after each epoch on a fixed grid of (t, noise).
        accelerator: device, mixed precision and processes; by default what `accelerate` finds.

    Yields:
        `Progress` after each step.

    Raises:
        ValueError: if there are fewer images than one batch holds, or the processes cannot share a batch.
        FloatingPointError: if the loss is not finite; the last saved state is kept.
    """
    accelerator = accelerator or Accelerator()
    steps = len(images) // batch_size
    if steps < 1:
        raise ValueError(f"batch_size = {batch_size} is larger than the {len(images)} training images.")
    if batch_size % accelerator.num_processes:
        raise ValueError(f"batch_size = {batch_size} is no multiple of {accelerator.num_processes} processes.")
    mine = slice(accelerator.process_index, None, accelerator.num_processes)
    network, optimizer = accelerator.prepare(run.network, run.optimizer)
    if run.average:
        run.average.to(accelerator.device)
    saved = started = time.monotonic()
    for epoch in range(run.step // steps + 1, epochs + 1):
        order = torch.randperm(len(images), generator=generator_for(seed, "order", epoch))
        network.train()
        for batch in order[: steps * batch_size].split(batch_size)[run.step % steps :]:
            generator = generator_for(seed, "step", run.step)
            t = torch.randint(1, objective.T + 1, (batch_size,), generator=generator)
            x = images[batch]
            drawn = objective.draw(x, generator)
            x, t, drawn = (value[mine].to(accelerator.device) for value in (x, t, drawn))
            with accelerator.autocast():
                loss = objective(network, x, t, drawn).mean()
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            if run.average:
                run.average.update_parameters(accelerator.unwrap_model(network))
            value = accelerator.reduce(loss.detach(), "mean").item()
            if not np.isfinite(value):
                raise FloatingPointError(f"the loss became {value} at step {run.step + 1}: lower learning_rate.")
            run.step += 1
            run.epoch_losses.append(value)
            losses = {"train": value}
            if run.step % steps == 0:
                losses["epoch_train"] = float(np.mean(run.epoch_losses))
                losses["validation"] = validate(run.evaluated, objective, validation, seed=seed).mean().item()
                seconds = time.monotonic() - started
                started = time.monotonic()
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


@torch.inference_mode()
def validate(
    network: nn.Module, objective: Objective, images: Float[Tensor, "n 1 28 28"], *, seed: int = 0
) -> Float[Tensor, " n"]:
    """The loss of each image on a fixed grid: t spread evenly over 1…T, noise drawn from the seed.

    The grid does not depend on the network, so that the losses of two epochs or networks differ by nothing else.
    """
    training = network.training
    network.eval()
    device = next(network.parameters()).device
    t = validation_steps(len(images), objective.T, seed=seed)
    losses = []
    for chunk, start in enumerate(range(0, len(images), VALIDATION_CHUNK)):
        part = slice(start, start + VALIDATION_CHUNK)
        drawn = objective.draw(images[part], generator_for(seed, "validation", chunk))
        values = (value.to(device) for value in (images[part], t[part], drawn))
        losses.append(objective(network, *values).cpu())
    network.train(training)
    return torch.cat(losses)


def validation_steps(count: int, T: int, *, seed: int = 0) -> Int[Tensor, " count"]:
    """The t of each image on the validation grid: spread evenly over 1…T, in an order drawn from the seed."""
    t = 1 + torch.arange(count) * T // count
    return t[torch.randperm(count, generator=generator_for(seed, "validation t"))]


def generator_for(seed: int, *key: int | str) -> torch.Generator:
    """An independent random stream for each (seed, key): NumPy's SeedSequence seeds torch's generator."""
    words = [int.from_bytes(k.encode(), "big") if isinstance(k, str) else k for k in (seed, *key)]
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state & np.uint64(2**63 - 1)))


def losses_csv(history: list[EpochRecord]) -> str:
    """The history as CSV with the columns epoch, train_loss, validation_loss, seconds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(EpochRecord._fields)
    writer.writerows(history)
    return text.getvalue()
