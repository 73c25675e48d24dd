"""One validated set of parameters → degradation, restoration network, data set and folders: part 2's `Experiment`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from ddpm_utils import checkpoints, mixtures
from ddpm_utils.degradations import Degradation, DownSampling, GaussianBlur, HeatBlur, RowColumnAveraging
from ddpm_utils.objectives import Restoration
from ddpm_utils.partners import load_partners
from ddpm_utils.training_setup import TrainingSetup

DEGRADATIONS: dict[str, tuple[Callable[..., Degradation], int]] = {
    "noise": (mixtures.noise, 1000),
    "flow": (mixtures.flow, 100),
    "morph": (lambda T, severity: mixtures.morph(lambda: load_partners()[:2], T, severity), 100),
    "blur": (GaussianBlur, 100),
    "heat": (HeatBlur, 100),
    "downsampling": (DownSampling, 27),
    "averaging": (RowColumnAveraging, 50),
    "fade": (mixtures.GaussianFade, 50),
}
"""The degradations by name, what the notebook's `degradation` parameter may be, and the T of each by default."""

FIRST_WEIGHTS = ("random", "shipped")


@dataclass(frozen=True)
class RestorationExperiment(TrainingSetup):
    """The parameters of one experiment of cold diffusion, checked.

    Args:
        degradation: one of `DEGRADATIONS`.
        T: number of steps; 0 for the degradation's own.
        severity: how far D goes; 1 is as far as it can, for the blurs the variance of each step in pixels².
        norm: 2 for squared errors, 1 for absolute ones.
        sigma: noise on each z_t, in the units of pixels; 0 for none.
        first_weights: what training begins with: "random" weights, or fine-tuning of the "shipped" ones without σ.
        network, dataset, epochs, batch_size, learning_rate, lr_schedule, seed, run_name: see `Experiment`.

    Raises:
        ValueError: if a value is not allowed; the sentence names the parameter, the value and what is.
    """

    choices = {"degradation": DEGRADATIONS, "first_weights": FIRST_WEIGHTS}  # noqa: RUF012

    degradation: str = "blur"
    T: int = 0
    severity: float = 1.0
    norm: int = 2
    sigma: float = 0.0
    first_weights: str = "random"
    network: str = "lean_unet"
    dataset: str = "mnist_5k"
    epochs: int = 2
    batch_size: int = 64
    learning_rate: float = 2e-3
    lr_schedule: str = "one_cycle"
    seed: int = 0
    run_name: str = ""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "T", self.T or DEGRADATIONS[self.degradation][1])
        self.objective  # noqa: B018  (its construction checks T, severity, norm and sigma)

    @cached_property
    def process(self) -> Degradation:
        """D, built."""
        return DEGRADATIONS[self.degradation][0](T=self.T, severity=self.severity)

    @cached_property
    def objective(self) -> Restoration:
        """To restore the clean image."""
        return Restoration(self.process, self.norm, self.sigma)

    @property
    def description(self) -> dict:
        """What two runs must share for one to continue the other, apart from their data."""
        if self.first_weights == "random":
            return super().description
        return super().description | {"first_weights": checkpoints.digest(self.first_network().state_dict())}

    def first_network(self) -> nn.Module:
        """The network that a new run begins with.

        Raises:
            CheckpointError: if it is to be fine-tuned, and nothing is shipped for it.
        """
        network = self.make_network()
        if self.first_weights == "shipped":
            clean = self.with_values(sigma=0.0)
            checkpoints.load_network(clean.shipped_folder / "weights.safetensors", network, **clean.identity)
        return network

    @property
    def title(self) -> str:
        """What is restored, as a figure's title names it."""
        words = [f"{self.degradation}, T = {self.T}"]
        words += [f"severity {self.severity:g}"] if self.severity != 1 else []
        words += [f"L{self.norm}"] if self.norm != 2 else []
        words += [f"σ = {self.sigma:g}"] if self.sigma else []
        words += [self.network] if self.network != "lean_unet" else []
        return ", ".join(words)

    @property
    def slug(self) -> str:
        """A folder's name for what is restored, and by which network."""
        words = [self.degradation, f"T{self.T}"]
        words += [f"severity{self.severity:g}"] if self.severity != 1 else []
        words += [f"L{self.norm}"] if self.norm != 2 else []
        words += [f"sigma{self.sigma:g}"] if self.sigma else []
        return "-".join([*words, self.network])

    @property
    def identity(self) -> dict:
        """What two sets of weights must share to be of the same degradation and network."""
        return {name: getattr(self, name) for name in ("degradation", "T", "severity", "norm", "sigma", "network")}
