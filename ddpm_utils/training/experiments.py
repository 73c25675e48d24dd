"""One validated set of parameters → schedule, network, data set and folders.

A notebook hands its parameters to `Experiment`, which refuses a bad one with a sentence before any work starts.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Annotated

from pydantic import field_validator
from torch import nn

from ddpm_utils import checkpoints
from ddpm_utils.cold import degradations, mixtures
from ddpm_utils.cold.degradations import Degradation, DownSampling, GaussianBlur, HeatBlur, RowColumnAveraging
from ddpm_utils.diffusion import schedules
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.training import objectives, parameters
from ddpm_utils.training.base import RateSchedule, TrainingSetup
from ddpm_utils.training.objectives import NoisePrediction, Restoration
from ddpm_utils.training.parameters import Info, checked, concerning_several, one_of

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


@checked
class Experiment(TrainingSetup):
    """The parameters of one experiment, checked.

    Args:
        schedule: "constant" (uses beta), "linear" (beta_min, beta_max) or "cosine".
        beta, beta_min, beta_max: noise per step, in (0, 1).
        T: number of steps.
        network: "cnn", "cnn_plane_norm" or "cnn_no_norm" (see `cnn.CNN`), "lean_unet" or "unet" (see `unets`); or one
            of your own, "my_module:MyNetwork", of a module that you trust in the current folder or on Python's path
            (see `parameters.find_network`).
        dataset: "mnist", "mnist_5k" or "fashion_mnist" (see `data.load`).
        epochs, batch_size, learning_rate: of Adam.
        lr_schedule: "constant", or "one_cycle": the learning rate rises and falls over the epochs.
        seed: of the weights, the batches, t and the noise.
        run_name: the run folder's name, letters, digits and -_. only; by default the data set and the seed.

    Raises:
        ParameterError: if a value is not allowed; each sentence names the parameter, the value and what is.
    """

    schedule: Annotated[str, one_of(SCHEDULES)] = "constant"
    beta: parameters.Number = 0.001
    beta_min: parameters.Number = 1e-4
    beta_max: parameters.Number = 0.02
    T: int = 2000
    network: parameters.Network = "cnn"
    dataset: parameters.DatasetName = "mnist_5k"
    epochs: parameters.Count = 4
    batch_size: parameters.Count = 128
    learning_rate: parameters.LearningRate = 2e-4
    lr_schedule: RateSchedule = "constant"
    seed: parameters.Seed = 0
    run_name: parameters.RunName = ""

    @field_validator("beta", "beta_min", "beta_max", "T")
    @classmethod
    def _check_schedule(cls, value: float, info: Info) -> float:
        """Check what the schedule uses; with T, the last of it, also that it can be built, if the rest is right."""
        name, values = info.field_name, info.data | {info.field_name: value}
        build, used = SCHEDULES.get(info.data.get("schedule"), (None, ()))
        if name == "T":
            schedules.check_T(value)
        elif name in used:
            schedules.check_beta(**{name: value})
        if name == "T" and build and values.keys() >= set(used):
            with concerning_several():
                build(**{name: values[name] for name in used})
        return value

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
        return "-".join([self.schedule, *values, self.network_slug])

    @property
    def identity(self) -> dict:
        """What two sets of weights must share to be of the same schedule and network."""
        names = ("schedule", *SCHEDULES[self.schedule][1], "network")
        return {name: getattr(self, name) for name in names}


DEGRADATIONS: dict[str, tuple[Callable[..., Degradation], int]] = {
    "noise": (mixtures.noise, 1000),
    "flow": (mixtures.flow, 100),
    "morph": (lambda T, severity: mixtures.morph(lambda: mixtures.load_partners()[:2], T, severity), 100),
    "blur": (GaussianBlur, 100),
    "heat": (HeatBlur, 100),
    "downsampling": (DownSampling, 27),
    "averaging": (RowColumnAveraging, 50),
    "fade": (mixtures.GaussianFade, 50),
}
"""The degradations by name, what the notebook's `degradation` parameter may be, and the T of each by default."""
FIRST_WEIGHTS = ("random", "shipped")


@checked
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
        ParameterError: if a value is not allowed; each sentence names the parameter, the value and what is.
    """

    degradation: Annotated[str, one_of(DEGRADATIONS)] = "blur"
    T: int = 0
    severity: parameters.Number = 1.0
    norm: int = 2
    sigma: parameters.Number = 0.0
    first_weights: Annotated[str, one_of(FIRST_WEIGHTS)] = "random"
    network: parameters.Network = "lean_unet"
    dataset: parameters.DatasetName = "mnist_5k"
    epochs: parameters.Count = 2
    batch_size: parameters.Count = 64
    learning_rate: parameters.LearningRate = 2e-3
    lr_schedule: RateSchedule = "one_cycle"
    seed: parameters.Seed = 0
    run_name: parameters.RunName = ""

    @field_validator("T")
    @classmethod
    def _check_T(cls, T: int, info: Info) -> int:
        """Check T; in place of 0, put the degradation's own."""
        degradations.check(T or 1, 1.0)
        return T or DEGRADATIONS.get(info.data.get("degradation"), (None, 0))[1]

    @field_validator("severity")
    @classmethod
    def _check_process(cls, severity: float, info: Info) -> float:
        """Check that D can be built, if the degradation and T are right by themselves."""
        if info.data.keys() >= {"degradation", "T"}:
            with concerning_several():
                DEGRADATIONS[info.data["degradation"]][0](T=info.data["T"], severity=severity)
        return severity

    @field_validator("norm", "sigma")
    @classmethod
    def _check_loss(cls, value: float, info: Info) -> float:
        objectives.check(**{info.field_name: value})
        return value

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
        return "-".join([*words, self.network_slug])

    @property
    def identity(self) -> dict:
        """What two sets of weights must share to be of the same degradation and network."""
        return {name: getattr(self, name) for name in ("degradation", "T", "severity", "norm", "sigma", "network")}


def make_experiment(values: dict) -> TrainingSetup:
    """An `Experiment` from named values, or a `RestorationExperiment` if a degradation is among them.

    Raises:
        ParameterError: if a name is unknown or a value not allowed.
    """
    kind = RestorationExperiment if "degradation" in values else Experiment
    return kind(**{str(name): value for name, value in values.items()})
