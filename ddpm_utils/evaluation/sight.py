"""What a decoder sees: of the time, of the image's mean, of the border; and what a wrong start costs its samples."""

import copy

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddpm_utils import data
from ddpm_utils.data.checks import check_images
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.exact import AffineDecoder
from ddpm_utils.diffusion.forward import diffuse
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.classifier import load_classifier
from ddpm_utils.evaluation.decoder import STARTS, generate
from ddpm_utils.evaluation.losses import BATCH
from ddpm_utils.randomness import generator_for
from ddpm_utils.shapes import Images, Network
from ddpm_utils.system.files import to_text
from ddpm_utils.training.base import Decoder
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.parameters import find_network


def with_circular_padding(network: nn.Module) -> nn.Module:
    """A copy whose convolutions see no border: the image's opposite edges touch.

    Args:
        network: with plain `nn.Conv2d` layers.
    """
    copied = copy.deepcopy(network)
    for module in copied.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
    return copied


@torch.inference_mode()
def clock_response(decoder: Network, z: Images, *, low: float = 0.05, high: float = 0.95) -> float:
    """How much the output changes when only the clock does: ‖g(z, high) − g(z, low)‖/‖g(z, low)‖, over all of z."""
    early, late = (decoder(z, torch.full((len(z),), time)) for time in (low, high))
    return ((late - early).norm() / early.norm()).item()


@torch.inference_mode()
def shift_response(decoder: Network, z: Images, time: float, shift: float = 0.1) -> float:
    """d mean(ε̂)/dc for z + c: 0 if the decoder cannot see that an image has become brighter as a whole."""
    at = torch.full((len(z),), time)
    return ((decoder(z + shift, at) - decoder(z, at)).mean() / shift).item()


@torch.inference_mode()
def mean_error(decoder: Network, schedule: NoiseSchedule, images: Images, t: int, *, seed: int = 0) -> float:
    """The variance of mean(ε) over the pixels that the decoder's estimate leaves: 0 seen perfectly, 1 not at all.

    mean(ε̂) is compared as it is, so that a constant bias counts; a value above 1 is worse than no estimate.
    """
    check_images(images, "images")
    noise = torch.randn(images.shape, generator=generator_for(seed, "mean"))
    z = diffuse(images, t, noise, schedule)
    time = float(schedule.time[t])
    estimated = torch.cat([decoder(part, torch.full((len(part),), time)).mean((1, 2, 3)) for part in z.split(BATCH)])
    truth = noise.mean((1, 2, 3))
    return ((estimated - truth).square().mean() / truth.square().mean()).item()


def start_mismatch(images: Images, schedule: NoiseSchedule) -> dict[str, float]:
    """How z_T differs from N(0, I): its mean and standard deviation per pixel, over all pixels and at the border.

    The background is the frame of 2 pixels, black in nearly all of MNIST.
    """
    check_images(images, "images")
    alpha = schedule.alpha[-1]
    mean = np.sqrt(alpha) * images.mean(0)
    deviation = (alpha * images.var(0, correction=0) + 1 - alpha).sqrt()
    frame = background(mean[None])
    return {
        "mean": mean.mean().item(),
        "background mean": frame.mean().item(),
        "deviation": deviation.mean().item(),
        "background deviation": background(deviation[None]).mean().item(),
        "standard deviation of the image's mean": (
            (alpha * images.mean((1, 2, 3)).var(correction=0) + (1 - alpha) / images[0].numel()).sqrt().item()
        ),
    }


def background(images: Images) -> Float[Tensor, "n pixels"]:
    """The pixels of the frame, 2 wide, that is black in nearly all of MNIST."""
    inside = torch.zeros(images.shape[-2:], dtype=torch.bool)
    inside[2:-2, 2:-2] = True
    return images[:, 0, ~inside]


def sight(experiment: Experiment, dataset: Dataset, decoder: Decoder, *, images: int = 256) -> dict:
    """What a CNN sees of the clock and of the image's mean, with its zero padding and with circular padding.

    Returns:
        clock: the change of its output when only the clock does (`clock_response`), at α = ½.
        steps, alpha: a few t's; at each of them
        shift: d mean(ε̂)/dc for z + c (`shift_response`), and mean error: the part of the noise's mean that
            its estimate misses (`mean_error`), also of the best affine decoder.
    """
    schedule = experiment.noise_schedule
    plain = find_network(experiment.network)()
    plain.load_state_dict(decoder.network.state_dict())
    plain.requires_grad_(False).eval()
    networks = {"zero padding": plain, "circular padding": with_circular_padding(plain)}
    x = dataset.test.images[:images]
    noise = torch.randn(x.shape, generator=generator_for(0, "sight"))
    half = int((abs(schedule.alpha - 0.5)).argmin())
    z = diffuse(x, half, noise, schedule)
    steps = sorted({max(1, schedule.T * k // 20) for k in (0, 1, 2, 5, 10, 15, 20)})
    affine = AffineDecoder(dataset.train.images, schedule)
    decoders = networks | {"affine": affine}
    latents = [diffuse(x, t, noise, schedule) for t in steps]
    return {
        "clock": {name: clock_response(network, z[:64]) for name, network in networks.items()},
        "steps": steps,
        "alpha": schedule.alpha[steps].tolist(),
        "shift": {
            name: [shift_response(d, z[:64], t / schedule.T) for z, t in zip(latents, steps, strict=True)]
            for name, d in decoders.items()
        },
        "mean error": {name: [mean_error(d, schedule, x, t) for t in steps] for name, d in decoders.items()},
    }


def starts(experiment: Experiment, dataset: Dataset, decoder: Decoder, *, samples: int = 2000, calls: int = 30) -> dict:
    """What starting from N(0, I) costs: z_T's true mean and deviation, and grey levels and FID from both starts."""
    classifier, _ = load_classifier()
    schedule = experiment.noise_schedule
    real = torch.cat([dataset.test.images, dataset.validation.images])[: 2 * samples]
    features = metrics.features(classifier.embed, real)
    result: dict[str, dict] = {"z_T": start_mismatch(dataset.train.images, schedule), "from": {}}
    result["real"] = _greys(real[:samples])
    for start in STARTS:
        images = generate(experiment, dataset, decoder, samples, calls=calls, start=start)
        found = metrics.fid_quality(metrics.features(classifier.embed, images), features)
        result["from"][start] = found | _greys(images) | {"pictures": to_text(images[:10])}
    return result


def _greys(images: torch.Tensor) -> dict[str, float]:
    """Mean grey in [0, 1], over all pixels and of the background, of clamped images."""
    unit = data.to_unit(images)
    return {"mean grey": unit.mean().item(), "background": background(unit).mean().item()}
