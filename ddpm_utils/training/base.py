"""What every experiment shares: a network, data, a run folder, training, and the trained weights to be found again."""

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from ddpm_utils import checkpoints, data
from ddpm_utils.names import suggestion
from ddpm_utils.networks.cpu import convolution, keep_freed_memory
from ddpm_utils.networks.spectral import spectral_layers, use_convolution, with_spectral_convolutions
from ddpm_utils.shapes import Images
from ddpm_utils.system import places
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.training.loop import LEARNING_RATES, Progress, train
from ddpm_utils.training.parameters import find_network, one_of
from ddpm_utils.training.run import Run, close_other, exclusively
from ddpm_utils.training.weights import ALLOWED, WEIGHTS, absolute, is_allowed, load_file

ABSENT = {
    "auto": "there is neither a run of yours nor are there shipped weights",
    "run": "there is no run of yours",
    "shipped": "there are no shipped weights",
}
SNAPSHOT_EPOCHS = (1, 5, 15, 30, 45)
RateSchedule = Annotated[str, one_of(LEARNING_RATES)]


@dataclass(frozen=True)
class Decoder:
    """A trained network, frozen, and what is known of it. It is called as its network: decoder(z, t/T).

    Args:
        network: g(z, t/T), which estimates ε, or R(z, t/T), which estimates x.
        description: of the run that it comes from: schedule, data, epoch, losses.
        source: one line for the reader that says where the weights come from.
    """

    network: nn.Module
    description: dict
    source: str

    def __call__(self, z: Images, time: Float[Tensor, " n"]) -> Images:
        """The network's estimate, of z's shape."""
        return self.network(z, time)


class TrainingSetup(ABC):
    """A frozen dataclass of an experiment's parameters, checked; a subclass says what is trained for."""

    network: str
    dataset: str
    epochs: int
    batch_size: int
    learning_rate: float
    lr_schedule: str
    seed: int
    run_name: str

    objective: Any  # what the network is trained for, an `Objective`

    @property
    @abstractmethod
    def title(self) -> str:
        """What is trained, as a figure's title names it."""

    @property
    @abstractmethod
    def _slug(self) -> str:
        """The slug without the data set."""

    @property
    @abstractmethod
    def _identity(self) -> dict:
        """The identity without the data set."""

    @cached_property
    def data_label(self) -> str:
        """The data set's name in tables and in the names of folders (see `data.label`)."""
        return data.label(self.dataset)

    @cached_property
    def other_data(self) -> dict[str, str]:
        """The data set's label by "dataset", if it is not MNIST."""
        return {} if data.is_mnist(self.dataset) else {"dataset": self.data_label}

    @property
    def slug(self) -> str:
        """A folder's name for what is trained: process and network, and the data set if it is not MNIST."""
        return "-".join([self._slug, *self.other_data.values()])

    @property
    def network_slug(self) -> str:
        """The network's name in the names of folders, where ":" is not allowed on Windows."""
        return self.network.replace(":", ".")

    @property
    def identity(self) -> dict:
        """What two sets of weights must share: process and network, and the data set if it is not MNIST."""
        return self._identity | self.other_data

    @property
    def description(self) -> dict:
        """What two runs must share for one to continue the other, apart from their data."""
        names = ["batch_size", "seed"]
        if self.lr_schedule != "constant":
            names += ["lr_schedule", "epochs"]  # a cycle cannot be extended
        return self.identity | {name: getattr(self, name) for name in names}

    @property
    def run_folder(self) -> Path:
        """Where training keeps this run."""
        return places.output() / "data" / "runs" / self.slug / (self.run_name or f"{self.data_label}-seed{self.seed}")

    @property
    def figures_folder(self) -> Path:
        """Where the notebooks save figures."""
        return places.output() / "data" / "runs" / self.slug / "figures"

    @property
    def table_path(self) -> Path:
        """Where notebook 04 or 05 leaves its results."""
        return places.output() / "data" / "runs" / self.slug / "table.json"

    @property
    def shipped_folder(self) -> Path:
        """Where the project keeps weights and recorded results for this schedule and network, if it has any."""
        return places.RESOURCES / "data" / "checkpoints" / self.slug

    def with_values(self, **changes) -> "TrainingSetup":
        """A copy with other values, checked again."""
        return replace(self, **changes)  # type: ignore[type-var]

    def load_data(self) -> data.Dataset:
        """The data set (see `data.load`)."""
        return data.load(self.dataset)

    def make_network(self) -> nn.Module:
        """The network with its first weights, drawn from the seed without touching torch's global generator.

        On the CPU its 7×7 convolutions take the form that is faster on this machine: the same numbers up to rounding
        (see `networks.cpu.convolution`).
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = with_spectral_convolutions(find_network(self.network)())
        if spectral_layers(network):
            use_convolution(network, convolution())
        return network

    def first_network(self) -> nn.Module:
        """The network that a new run begins with."""
        return self.make_network()

    def open_run(self, dataset: data.Dataset, *, resume: bool = True) -> Run:
        """The run in `run_folder`, new or to be continued; an interrupted training of it in this process is closed.

        Args:
            dataset: what `load_data` gave, which offline is not what `dataset` names; the run is labelled with it.
            resume: False refuses a folder that holds a run.

        Raises:
            CheckpointError: if the folder holds another run, is damaged, or resume is False and it is not new.
        """
        close_other(self.run_folder)
        if not resume and (self.run_folder / "last.safetensors").exists():
            raise CheckpointError(
                f"{self.run_folder} already holds a run: resume it, choose another seed, or delete the folder."
            )
        return Run(
            self.first_network(),
            learning_rate=self.learning_rate,
            folder=self.run_folder,
            description=self.description | {"dataset": dataset.name, "data_sha256": dataset.sha256},
            snapshots=SNAPSHOT_EPOCHS,
        )

    def train(self, run: Run, dataset: data.Dataset, *, accelerator: Accelerator | None = None) -> Generator[Progress]:
        """Train a run on a data set for this experiment's epochs (see `loop.train`).

        Keep the memory that tensors free, for the rest of the process (see `keep_freed_memory`).

        Raises:
            CheckpointError: at the first step, if another process works in the run's folder, or has changed it.
        """
        keep_freed_memory()
        accelerator = accelerator or Accelerator()
        steps = train(
            run,
            self.objective,
            dataset.train.images,
            dataset.validation.images,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seed,
            lr_schedule=self.lr_schedule,
            accelerator=accelerator,
        )
        return exclusively(run, steps, accelerator)

    def load_decoder(self, weights: str | Path = "auto") -> Decoder:
        """The trained decoder: of the own run, shipped with the project, of a file, or trained here and now.

        Args:
            weights: "run", the best weights in `run_folder`; "shipped", those in `shipped_folder`; "auto", the
                first of these two that exists. What does not exist is trained first, for `epochs` epochs. Or the path
                of a file of your own, with the network's state dict (see `weights`).

        Raises:
            ValueError: if weights is none of these.
            CheckpointError: if the file is damaged, or of another network or schedule.
        """
        if not is_allowed(weights):
            raise ValueError(f"weights must be {ALLOWED}, not {str(weights)!r}.{suggestion(str(weights), WEIGHTS)}")
        weights = absolute(weights)
        if weights not in WEIGHTS:
            network = self.make_network()
            found, source = load_file(Path(weights), network, self.identity)
            return Decoder(network.requires_grad_(False).eval(), found, source)
        own, shipped = self.run_folder / "best.safetensors", self.shipped_folder / "weights.safetensors"
        candidates = {"auto": [own, shipped], "run": [own], "shipped": [shipped]}[weights]
        path = next((path for path in candidates if path.exists()), None)
        if path is None:
            path, origin = own, f"trained here just now, since {ABSENT[weights]} for {self.title}"
            dataset = self.load_data()
            for _ in self.train(self.open_run(dataset), dataset):
                pass
        else:
            origin = "from your own run" if path == own else "shipped with the project"
        network = self.make_network()
        found = checkpoints.load_network(path, network, **self.identity)
        epochs = f"{found['epoch']} epoch{'s' if found['epoch'] > 1 else ''}"
        source = f"Weights {origin}: {epochs} on {found['dataset']}, validation loss {found['validation_loss']:.4f}."
        return Decoder(network.requires_grad_(False).eval(), found, source)
