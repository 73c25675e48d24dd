"""One validated set of parameters → schedule, network, data set and folders.

A notebook hands its parameters to `Experiment`, which refuses a bad one with a sentence before any work starts.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any

from pydantic import field_validator
from torch import nn

from ddpm_utils import checkpoints
from ddpm_utils.cold import degradations
from ddpm_utils.cold.degradations import Degradation
from ddpm_utils.cold.mixtures import DEGRADATIONS
from ddpm_utils.diffusion import betas as noise
from ddpm_utils.diffusion import schedules
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.names import suggestion
from ddpm_utils.training import objectives, parameters
from ddpm_utils.training.base import RateSchedule, TrainingSetup
from ddpm_utils.training.objectives import NoisePrediction, Restoration
from ddpm_utils.training.parameters import Info, checked, concerning_several, one_of

SCHEDULES: dict[str, tuple[Callable[..., NoiseSchedule], tuple[str, ...]]] = {
    "constant": (schedules.constant, ("beta", "T")),
    "linear": (schedules.linear, ("beta_min", "beta_max", "T")),
    "cosine": (schedules.cosine, ("T",)),
    "custom": (schedules.from_betas, ("betas",)),
}
"""What the notebooks' `schedule` parameter may be: the function, and the parameters that it uses."""
PUBLISHED: dict[str, dict[str, Any]] = {"low β": {"beta": 0.001, "T": 2000}, "high β": {"beta": 0.1, "T": 200}}
"""The report's two runs, by the names it gives them."""
LEAN = {"network": "lean_unet", "batch_size": 64, "learning_rate": 2e-3, "lr_schedule": "one_cycle", "epochs": 36}
"""The decoder made for CPUs, and how the shipped one was trained; seven epochs give good samples, too."""


@checked
class Experiment(TrainingSetup):
    """The parameters of one experiment, checked.

    Args:
        schedule: "constant" (uses beta), "linear" (beta_min, beta_max), "cosine" or "custom" (betas).
        beta, beta_min, beta_max: noise per step, in (0, 1).
        betas: β_1 … β_T of a custom schedule, as a list, tuple, array or 1-D tensor; empty for the other schedules.
        T: number of steps; a custom schedule has as many as it has betas, whatever is given.
        network: "cnn", "cnn_plane_norm" or "cnn_no_norm" (see `cnn.CNN`), "lean_unet" or "unet" (see `unets`); or one
            of your own, "my_module:MyNetwork", of a module that you trust in the current folder or on Python's path
            (see `parameters.find_network`).
        dataset: "mnist", "mnist_5k", "fashion_mnist", … or a folder of images (see `data.load`).
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
    betas: parameters.Betas = ()
    T: parameters.Integer = 2000
    network: parameters.Network = "cnn"
    dataset: parameters.DatasetName = "mnist_5k"
    epochs: parameters.Count = 4
    batch_size: parameters.Count = 128
    learning_rate: parameters.LearningRate = 2e-4
    lr_schedule: RateSchedule = "constant"
    seed: parameters.Seed = 0
    run_name: parameters.RunName = ""

    @field_validator("beta", "beta_min", "beta_max", "betas", "T")
    @classmethod
    def _check_schedule(cls, value: Any, info: Info) -> Any:
        """Check what the schedule uses; with the last of it, also that it can be built, if the rest is right."""
        name, values = str(info.field_name), info.data | {str(info.field_name): value}
        schedule = values.get("schedule")
        build, used = SCHEDULES.get(schedule, (None, ()))
        if name == "T":
            value = values[name] = len(values.get("betas", ())) or noise.check_T(value)
        elif name == "betas" and value and schedule not in (None, "custom"):
            what = f"betas must be empty for the schedule {schedule!r}"
            raise ValueError(f'{what}, not {len(value)} numbers: leave them out, or take schedule="custom".')
        elif name != "betas" and name in used:
            noise.check_beta(name, value)
        if used[-1:] == (name,) and build and values.keys() >= set(used):
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
    def _used(self) -> dict[str, Any]:
        """The parameters that the schedule uses; of betas their digest, since names and tables hold it."""
        if self.betas:
            return {"T": self.T, "betas": noise.digest(self.betas)}
        return {name: getattr(self, name) for name in SCHEDULES[self.schedule][1]}

    @property
    def title(self) -> str:
        """The schedule, and the network if it is not the report's, as a figure's title names them."""
        names = {"beta": "β", "beta_min": "β_min", "beta_max": "β_max", "T": "T"}
        values = [f"β from {min(self.betas):g} to {max(self.betas):g}"] if self.betas else []
        values += [f"{names[name]} = {value}" for name, value in self._used.items() if name in names]
        other = ([] if self.network == "cnn" else [self.network]) + list(self.other_data.values())
        return f"{self.schedule} schedule, {', '.join(values + other)}"

    @property
    def _slug(self) -> str:
        short = {"beta": "beta", "beta_min": "min", "beta_max": "max", "betas": "", "T": "T"}
        return "-".join([self.schedule, *(f"{short[n]}{v}" for n, v in self._used.items()), self.network_slug])

    @property
    def _identity(self) -> dict:
        return {"schedule": self.schedule} | self._used | {"network": self.network}


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
    T: parameters.Integer = 0
    severity: parameters.Number = 1.0
    norm: parameters.Integer = 2
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
        objectives.check(**{str(info.field_name): value})  # type: ignore[arg-type]
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
        return ", ".join([*words, *self.other_data.values()])

    @property
    def _slug(self) -> str:
        words = [self.degradation, f"T{self.T}"]
        words += [f"severity{self.severity:g}"] if self.severity != 1 else []
        words += [f"L{self.norm}"] if self.norm != 2 else []
        words += [f"sigma{self.sigma:g}"] if self.sigma else []
        return "-".join([*words, self.network_slug])

    @property
    def _identity(self) -> dict:
        return {name: getattr(self, name) for name in ("degradation", "T", "severity", "norm", "sigma", "network")}


def make_experiment(values: dict) -> TrainingSetup:
    """An `Experiment` from named values, or a `RestorationExperiment` if a degradation is among them.

    Raises:
        ParameterError: if a name is unknown or a value not allowed.
    """
    restores = any(name == "degradation" or suggestion(str(name), ["degradation"]) for name in values)
    kind = RestorationExperiment if restores else Experiment
    return kind(**{str(name): value for name, value in values.items()})
