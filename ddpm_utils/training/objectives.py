"""What a network is trained for: to estimate the noise (hot), or the clean image (cold); its loss on a fixed grid."""

import math
from operator import itemgetter
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from jaxtyping import Float, Int
from torch import Tensor, nn

from ddpm_utils.cold.degradations import Degradation
from ddpm_utils.data.checks import check_images
from ddpm_utils.diffusion.forward import diffuse
from ddpm_utils.diffusion.schedules import NoiseSchedule, gather
from ddpm_utils.networks.parameterisation import loss_weights
from ddpm_utils.randomness import generator_for
from ddpm_utils.shapes import Images, Network

LARGEST_SIGMA = 1000
VALIDATION_CHUNK = 256  # images that share one draw of noise on the validation grid: fixed, whatever the batch
EVALUATED = 128  # images at a time, so that validating takes no more memory than training


@runtime_checkable
class Objective(Protocol):
    """What a network is trained for. One call is one Monte Carlo estimate of the loss of each image."""

    T: int

    def draw(self, x: Images, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The randomness of one call apart from t: tensors of shape (batch, …)."""

    def __call__(self, network: Network, x: Images, t: Int[Tensor, " n"], *drawn: Any) -> Float[Tensor, " n"]:
        """The loss of each image at its own t in 1…T, a mean over pixels."""

    def loss_of_zero(self, images: Images) -> float:
        """Return the mean loss of a network that always answers 0: a network that has learned something is below."""


class NoisePrediction:
    """w_t·‖g(√α_t·x + √(1−α_t)·ε, t/T) − ε‖², averaged over pixels where equation 4 sums.

    Args:
        weighting: of the steps, "uniform" (w_t = 1) or "min_snr" (see `loss_weights`).
    """

    def __init__(self, schedule: NoiseSchedule, weighting: str = "uniform"):
        self.schedule = schedule
        self.T = schedule.T
        self.weights = None if weighting == "uniform" else loss_weights(schedule, weighting)

    def draw(self, x: Images, generator: torch.Generator) -> tuple[Images]:
        """ε ~ N(0, I)."""
        return (torch.randn(x.shape, generator=generator),)

    def __call__(self, network: Network, x: Images, t: Int[Tensor, " n"], noise: Images) -> Float[Tensor, " n"]:
        z = diffuse(x, t, noise, self.schedule)
        time = gather(self.schedule.time, t, z).flatten()
        loss = (network(z, time) - noise).square().flatten(1).mean(1)
        return loss if self.weights is None else gather(self.weights, t, loss) * loss

    def loss_of_zero(self, images: Images) -> float:
        """Return the variance of ε, 1, whatever the images are."""
        return 1.0


class Restoration:
    """|R(D(x, t, context) + σε, t/T) − x|, averaged over pixels: cold training (Bansal et al. 2022, eq. 3).

    Args:
        degradation: D.
        norm: 1 for the absolute error, as in the paper: R tends to each pixel's posterior median. 2 for the squared
            one, as in the coursework: R tends to the posterior mean.
        sigma: σ, noise on every z_t, t ≥ 1, in the units of pixels.

    Raises:
        ValueError: if the norm is neither, or σ is not in [0, 1000].
    """

    def __init__(self, degradation: Degradation, norm: int = 2, sigma: float = 0.0):
        check(norm, sigma)
        self.degradation, self.norm, self.sigma = degradation, norm, sigma
        self.T = degradation.T

    def draw(self, x: Images, generator: torch.Generator) -> tuple[Tensor, ...]:
        """A context for each image, and ε ~ N(0, I) if there is a σ."""
        context = self.degradation.draw_context(len(x), generator)
        return (context, torch.randn(x.shape, generator=generator)) if self.sigma else (context,)

    def __call__(
        self,
        network: Network,
        x: Images,
        t: Int[Tensor, " n"],
        context: Float[Tensor, "n ..."],
        noise: Images | None = None,
    ) -> Float[Tensor, " n"]:
        z = self.degradation(x, t, context)
        if noise is not None:
            z = z + self.sigma * noise
        error = network(z, (t / self.T).to(x)) - x
        return error.abs().pow(self.norm).flatten(1).mean(1)

    def loss_of_zero(self, images: Images) -> float:
        """Return the mean of |x| or x² (see `norm`) over all pixels, at most 0.5 or 0.25."""
        return torch.linalg.vector_norm(images, self.norm).item() ** self.norm / images.numel()


def check(norm: int = 2, sigma: float = 0.0) -> None:
    """Refuse a norm or a σ that `Restoration` cannot have.

    Raises:
        ValueError: if the norm is neither 1 nor 2, or σ is not in [0, 1000].
    """
    if norm not in (1, 2):
        raise ValueError(f"norm must be 1 or 2, not {norm!r}.")
    if not 0 <= sigma <= LARGEST_SIGMA:
        raise ValueError(f"sigma must be a number from 0 to {LARGEST_SIGMA}, not {sigma!r}.")


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
