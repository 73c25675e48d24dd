"""The parameters of one experiment of cold diffusion: degradation, network, data set and folders."""

from functools import cached_property
from typing import Annotated

from pydantic import field_validator
from torch import nn

from ddpm_utils import checkpoints
from ddpm_utils.cold import degradations
from ddpm_utils.cold.degradations import Degradation
from ddpm_utils.cold.mixtures import DEGRADATIONS
from ddpm_utils.training import objectives, parameters
from ddpm_utils.training.base import RateSchedule, TrainingSetup
from ddpm_utils.training.objectives import Restoration
from ddpm_utils.training.parameters import Info, checked, concerning_several, one_of

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
