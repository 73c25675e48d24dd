"""One training run on disk: what it needs to go on as if it had never stopped, and one training at a time in it."""

import csv
import io
from collections.abc import Generator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from ddpm_utils import checkpoints
from ddpm_utils.networks.spectral import spectral_layers, use_convolution
from ddpm_utils.system import files
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.locks import locked

CONVOLUTION = "convolution"
"""The entry of a run's description that says which form its 7×7 convolutions take on a CPU; a resumed run keeps it."""
OPEN: WeakValueDictionary[Path, Generator] = WeakValueDictionary()
"""The trainings of this process by run folder, such as one that a cell has left when it was interrupted."""


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

    Raises:
        CheckpointError: if the folder's state is damaged or of another run, or the network's code has changed.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        learning_rate: float = 2e-4,
        folder: Path | None = None,
        description: dict | None = None,
        snapshots: Sequence[int] = (),
    ):
        self.network = network
        self.snapshots = set(snapshots)
        self.learning_rate = learning_rate
        self.optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
        self.folder = folder and Path(folder)
        self.description = {"learning_rate": learning_rate, **(description or {})}
        if layers := spectral_layers(network):
            self.description[CONVOLUTION] = layers[0].form
        self.step = 0
        self.epoch_losses: list[float] = []
        self.history: list[EpochRecord] = []
        self.stamp = self._stamp()
        if self.folder and (self.folder / "last.safetensors").exists():
            self._load(self.folder / "last.safetensors")

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with the lowest validation loss so far."""
        return min(self.history, key=lambda record: record.validation_loss, default=None)

    @property
    def first_loss(self) -> float | None:
        """The loss that the run began with: of its first batch, or of its first epoch once that is over."""
        return self.history[0].train_loss if self.history else next(iter(self.epoch_losses), None)

    def finish_epoch(self, record: EpochRecord, *, write: bool = True) -> None:
        """Append to the history; then write the state, and the weights if they are the best so far."""
        self.history.append(record)
        self.epoch_losses = []
        if not write or not self.folder:
            return
        kept = {"best"} if self.best is record else set()
        if record.epoch in self.snapshots:
            kept.add(f"epoch{record.epoch}")
        for name in kept:
            weights = self.network.state_dict()
            description = self.description | record._asdict() | {checkpoints.PROBE: checkpoints.probe(self.network)}
            checkpoints.save(self.folder / f"{name}.safetensors", weights, description)
        self.save()

    def save(self) -> None:
        """Write the history as losses.csv, and what is needed to resume.

        In this order: a run that is killed in between makes its last epoch again, and losses.csv, too.
        """
        if not self.folder:
            return
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        state = {"step": self.step, "epoch_losses": self.epoch_losses, "history": self.history}
        state[checkpoints.PROBE] = checkpoints.probe(self.network)
        files.write_bytes(self.folder / "losses.csv", losses_csv(self.history).encode())
        checkpoints.save(self.folder / "last.safetensors", tensors, {"run": self.description} | state)
        self.stamp = self._stamp()

    def _stamp(self) -> tuple[int, ...] | None:
        """What tells the state in the folder from a later one; None if there is none."""
        try:
            found = (self.folder / "last.safetensors").stat() if self.folder else None
        except OSError:
            return None
        return found and (found.st_ino, found.st_size, found.st_mtime_ns)

    @property
    def is_current(self) -> bool:
        """Whether the folder holds what this run has read or saved last."""
        return self.stamp == self._stamp()

    def _load(self, path: Path) -> None:
        tensors, state = checkpoints.load(path)
        if form := state["run"].get(CONVOLUTION):  # of the run's beginning: the same numbers to the last bit
            use_convolution(self.network, form)
            self.description[CONVOLUTION] = form
        for name, value in self.description.items():
            if state["run"].get(name) != value:
                raise CheckpointError(
                    f"{self.folder} holds a run with {name} = {state['run'].get(name)!r}, not {value!r}: "
                    "delete the folder, or choose another one."
                )

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        self.network.load_state_dict(part("network."))
        checkpoints.check_probe(path, self.network, state.get(checkpoints.PROBE))
        optimizer = self.optimizer.state_dict()
        parameters = list(self.network.parameters())
        for name, value in part("optimizer.").items():
            index, field = name.split(".")
            if value.shape == parameters[int(index)].shape:  # laid out in memory as the parameter: fused Adam needs it
                value = torch.empty_like(parameters[int(index)], requires_grad=False).copy_(value)
            optimizer["state"].setdefault(int(index), {})[field] = value
        self.optimizer.load_state_dict(optimizer)
        self.step, self.epoch_losses = state["step"], state["epoch_losses"]
        self.history = [EpochRecord(*row) for row in state["history"]]


def read_history(folder: Path) -> list[EpochRecord]:
    """The history of the run in a folder, as its state tells it; losses.csv is for people, and never read.

    Raises:
        CheckpointError: if there is no run, or its state is damaged.
    """
    _, state = checkpoints.load(folder / "last.safetensors")
    return [EpochRecord(*row) for row in state["history"]]


def losses_csv(history: list[EpochRecord]) -> str:
    """The history as CSV with the columns epoch, train_loss, validation_loss, seconds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(EpochRecord._fields)
    writer.writerows(history)
    return text.getvalue()


def exclusively(run: Run, steps: Generator, accelerator: Accelerator) -> Generator:
    """Iterate over the steps of a run while no other training writes to its folder.

    Of several processes that train together, the main one holds the lock. Closing this releases it.

    Args:
        steps: what `loop.train` returned for this run.

    Raises:
        CheckpointError: at the first step, if another process works in the folder, or has changed it since the run
            was opened. Nothing was changed then.
    """
    if run.folder is None:
        return steps
    close_other(run.folder)
    OPEN[run.folder] = training = _with_lock(run, run.folder, steps, accelerator)
    return training


def _with_lock(run: Run, folder: Path, steps: Generator, accelerator: Accelerator) -> Generator:
    with ExitStack() as stack:
        refused = ""
        if accelerator.is_main_process:
            try:
                stack.enter_context(locked(folder))
                if not run.is_current:
                    raise CheckpointError(f"{folder} was changed after this run was opened: open the run again.")
            except CheckpointError as error:
                refused = str(error)
        sentences = [sentence for sentence in gather_object([refused]) if sentence]  # all stop, none waits for another
        if sentences:
            raise CheckpointError(sentences[0])
        yield from steps


def close_other(folder: Path) -> None:
    """Save and close a training of this process in a folder that nobody iterates over at this moment."""
    if other := OPEN.pop(folder, None):
        with suppress(ValueError):  # it is making a step, in another thread: it goes on, and keeps the lock
            other.close()
