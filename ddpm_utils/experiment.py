"""One validated set of parameters → schedule, network, data set and folders.

A notebook hands its parameters to `Experiment`, which refuses a bad one with a sentence before any work starts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from ddpm_utils import schedules
from ddpm_utils.objectives import NoisePrediction
from ddpm_utils.schedules import NoiseSchedule
from ddpm_utils.training_setup import TrainingSetup

SCHEDULES: dict[str, tuple[Callable[..., NoiseSchedule], tuple[str, ...]]] = {
    "constant": (schedules.constant, ("beta", "T")),
    "linear": (schedules.linear, ("beta_min", "beta_max", "T")),
    "cosine": (schedules.cosine, ("T",)),
}
"""What the notebooks' `schedule` parameter may be: the function, and the parameters that it uses."""

PUBLISHED = {"low β": {"beta": 0.001, "T": 2000}, "high β": {"beta": 0.1, "T": 200}}
"""The report's two runs, by the names it gives them."""
LEAN = {"network": "lean_unet", "batch_size": 64, "learning_rate": 2e-3, "lr_schedule": "one_cycle", "epochs": 36}
"""The decoder made for CPUs, and how the shipped one was trained; seven epochs give good samples, too."""


@dataclass(frozen=True)
class Experiment(TrainingSetup):
    """The parameters of one experiment, checked.

    Args:
        schedule: "constant" (uses beta), "linear" (beta_min, beta_max) or "cosine".
        beta, beta_min, beta_max: noise per step, in (0, 1).
        T: number of steps.
        network: "cnn", "cnn_plane_norm" or "cnn_no_norm" (see `networks.CNN`), "lean_unet" or "unet" (see `unets`).
        dataset: "mnist", "mnist_5k" or "fashion_mnist" (see `data.load`).
        epochs, batch_size, learning_rate: of Adam.
        lr_schedule: "constant", or "one_cycle": the learning rate rises and falls over the epochs.
        seed: of the weights, the batches, t and the noise.
        run_name: the run folder's name, letters, digits and -_. only; by default the data set and the seed.

    Raises:
        ValueError: if a value is not allowed; the sentence names the parameter, the value and what is.
    """

    choices = {"schedule": SCHEDULES}  # noqa: RUF012

    schedule: str = "constant"
    beta: float = 0.001
    beta_min: float = 1e-4
    beta_max: float = 0.02
    T: int = 2000
    network: str = "cnn"
    dataset: str = "mnist_5k"
    epochs: int = 4
    batch_size: int = 128
    learning_rate: float = 2e-4
    lr_schedule: str = "constant"
    seed: int = 0
    run_name: str = ""

    def __post_init__(self):
        super().__post_init__()
        self.noise_schedule  # noqa: B018  (its construction checks beta, beta_min, beta_max and T)

    @cached_property
    def noise_schedule(self) -> NoiseSchedule:
        """The schedule, built."""
        build, names = SCHEDULES[self.schedule]
        return build(**{name: getattr(self, name) for name in names})

    @cached_property
    def objective(self) -> NoisePrediction:
        """To estimate the noise."""
        return NoisePrediction(self.noise_schedule)

    @property
    def title(self) -> str:
        """The schedule, and the network if it is not the report's, as a figure's title names them."""
        names = {"beta": "β", "beta_min": "β_min", "beta_max": "β_max", "T": "T"}
        values = [f"{names[name]} = {getattr(self, name)}" for name in SCHEDULES[self.schedule][1]]
        other = [] if self.network == "cnn" else [self.network]
        return f"{self.schedule} schedule, {', '.join(values + other)}"

    @property
    def slug(self) -> str:
        """A folder's name for this schedule and network."""
        short = {"beta": "beta", "beta_min": "min", "beta_max": "max", "T": "T"}
        values = [f"{short[name]}{getattr(self, name)}" for name in SCHEDULES[self.schedule][1]]
        return "-".join([self.schedule, *values, self.network])

    @property
    def identity(self) -> dict:
        """What two sets of weights must share to be of the same schedule and network."""
        names = ("schedule", *SCHEDULES[self.schedule][1], "network")
        return {name: getattr(self, name) for name in names}
