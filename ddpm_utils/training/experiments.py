"""One validated set of parameters → schedule, network, data set and folders.

A notebook hands its parameters to `Experiment`, which refuses a bad one with a sentence before any work starts.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any

from pydantic import field_validator
from torch import nn

from ddpm_utils.diffusion import betas as noise
from ddpm_utils.diffusion import schedules
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.networks.parameterisation import TARGETS, WEIGHTINGS, NoiseFrom
from ddpm_utils.training import parameters
from ddpm_utils.training.base import RateSchedule, TrainingSetup
from ddpm_utils.training.objectives import NoisePrediction
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
        target: what the network outputs: "noise", "image" or "velocity" (see `networks.parameterisation`).
        weighting: of the steps in the loss, "uniform" or "min_snr".
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
    target: Annotated[str, one_of(TARGETS)] = "noise"
    weighting: Annotated[str, one_of(WEIGHTINGS)] = "uniform"
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
        return NoisePrediction(self.noise_schedule, self.weighting)

    def make_network(self) -> nn.Module:
        """See `TrainingSetup`. A network that outputs x̂ or v̂ is put into a decoder that converts them to ε̂."""
        network = super().make_network()
        return network if self.target == "noise" else NoiseFrom(network, self.target, self.noise_schedule)

    @property
    def _variant(self) -> dict[str, str]:
        """Target and weighting, if they are not the report's."""
        return {n: v for n in ("target", "weighting") if (v := getattr(self, n)) not in ("noise", "uniform")}

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
        other = ([] if self.network == "cnn" else [self.network]) + list((self._variant | self.other_data).values())
        return f"{self.schedule} schedule, {', '.join(values + other)}"

    @property
    def _slug(self) -> str:
        short = {"beta": "beta", "beta_min": "min", "beta_max": "max", "betas": "", "T": "T"}
        return "-".join(
            [
                self.schedule,
                *(f"{short[n]}{v}" for n, v in self._used.items()),
                self.network_slug,
                *self._variant.values(),
            ]
        )

    @property
    def _identity(self) -> dict:
        return {"schedule": self.schedule} | self._used | {"network": self.network} | self._variant
