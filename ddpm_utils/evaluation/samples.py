"""What samples and reconstructions of one trained decoder show, as what JSON can hold: measurements of notebook 04."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from ddpm_utils.data.checks import check_images
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.exact import AffineDecoder, ExactDecoder, optimal_variance
from ddpm_utils.diffusion.likelihood import VARIANCES
from ddpm_utils.diffusion.samplers import Latent, MatchedStart, ancestral, estimate, remove, sample
from ddpm_utils.diffusion.schedules import NoiseSchedule
from ddpm_utils.evaluation import losses, metrics
from ddpm_utils.evaluation.classifier import load_classifier
from ddpm_utils.evaluation.decoder import degrade, generate, reconstruct
from ddpm_utils.evaluation.losses import BATCH, Images, Sizes, steps_by_signal
from ddpm_utils.evaluation.neighbours import nearest
from ddpm_utils.randomness import RESTORE_SEED, START_SEED, Noise, generator_for
from ddpm_utils.shapes import Network
from ddpm_utils.system.files import to_text
from ddpm_utils.training.base import Decoder
from ddpm_utils.training.experiments import Experiment


def reverse_steps(schedule: NoiseSchedule, dataset: Dataset, decoder: Decoder, sizes: Sizes) -> list[dict]:
    """FID of ancestral sampling with each decoder and reverse variance: is the Gaussian reverse step at fault?

    All from the matched start, with the same noise and the same even subset of the steps. The last rows take the
    network in coarse steps of β = 0.1, if there is a chain of them that is coarser than the schedule.
    """
    few = schedule.subset(min(sizes.calls, schedule.T))
    seen = dataset.train.images
    start = MatchedStart(seen, schedule)
    decoders: dict[str, tuple[Network, NoiseSchedule]] = {
        "exact": (ExactDecoder(seen[: sizes.exact], schedule), few),
        "affine": (AffineDecoder(seen, schedule), few),
        "network": (decoder, few),
    }
    coarse = steps_of(0.1, schedule)
    if len(coarse) < schedule.T / 2:
        decoders["network, steps of β = 0.1"] = decoder, schedule.subset(coarse)
    rows = []
    for name, (which, chain) in decoders.items():
        known = (seen[: sizes.exact] if name == "exact" else dataset.validation.images)[: sizes.profile // 4]
        optimal = fitted_variances(which, schedule, chain, known, sizes.points)
        for variance in VARIANCES:
            sigma = optimal if variance == "optimal" else variance
            row = {"decoder": name, "variance": variance, "calls": chain.T, "T": schedule.T}
            rows.append(row | _quality(which, chain, sigma, start, dataset, sizes))
    return rows


def steps_of(beta: float, schedule: NoiseSchedule) -> list[int]:
    """The t's of a chain through the schedule whose steps add about β each, ending at T."""
    wanted = (1 - beta) ** np.arange(1, np.log(schedule.alpha[-1]) / np.log(1 - beta) - 0.5)
    steps = {int(abs(schedule.alpha[1:] - alpha).argmin()) + 1 for alpha in wanted}
    return sorted(steps | {schedule.T})


def fitted_variances(which, schedule: NoiseSchedule, few: NoiseSchedule, images: Tensor, points: int) -> np.ndarray:
    """σ*² at the visited steps, from the decoder's loss at some steps, interpolated over log SNR."""
    steps = steps_by_signal(schedule, points)
    measured = losses.loss_profile(which, schedule, images, steps).double().mean(1).numpy()
    known = np.interp(-np.log(few.snr[1:]), -np.log(schedule.snr[steps]), np.log(measured.clip(1e-30)))
    return optimal_variance(np.append(0.0, np.exp(known)), few)


def shuffled_test(dataset: Dataset, count: int) -> Tensor:
    """Test images in a random order: MNIST's first half is the easier one."""
    order = torch.randperm(len(dataset.test), generator=generator_for(0, "test order"))
    return dataset.test[order[:count]].images


def _quality(
    decoder: Network,
    chain: NoiseSchedule,
    variance: str | np.ndarray,
    start: MatchedStart,
    dataset: Dataset,
    sizes: Sizes,
) -> dict:
    """FID of ancestral samples from a start, their distance to training images, and a few of them."""
    classifier, _ = load_classifier()
    images = sample(ancestral, decoder, chain, count=sizes.samples, seed=START_SEED, start=start, variance=variance)
    real = metrics.features(classifier.embed, shuffled_test(dataset, 2 * sizes.samples))
    distance, _ = nearest(images[:200].clamp(-0.5, 0.5), dataset.train.images)
    return {
        **metrics.fid_quality(metrics.features(classifier.embed, images), real),
        "nearest training image": distance.mean().item(),
        "pictures": to_text(images[:16]),
    }


def reconstruction(experiment: Experiment, dataset: Dataset, decoder: Decoder, sizes: Sizes) -> list[dict]:
    """Test images degraded to z_t and restored, over t: error, and whether the digit is still the same."""
    classifier, _ = load_classifier()
    digits = dataset.test[: sizes.reconstructions]
    schedule = experiment.noise_schedule
    original = classes(classifier, digits.images)
    unrelated = metrics.image_quality(digits.images.roll(1, 0), digits.images)
    by_chance = (original == original.roll(1)).float().mean().item()
    rows = []
    for t in steps_by_signal(schedule, 12):
        restored = reconstruct(experiment, decoder, digits.images, calls=sizes.reconstruction_calls, t=t)
        rows.append(
            {
                "t": t,
                "alpha": float(schedule.alpha[t]),
                **metrics.image_quality(restored, digits.images),
                "same digit": (classes(classifier, restored) == original).float().mean().item(),
                "unrelated": unrelated | {"same digit": by_chance},
                "images": len(digits),
            }
        )
    return rows


def switches(schedule: NoiseSchedule, dataset: Dataset, decoder: Decoder, sizes: Sizes) -> dict:
    """Three traps, each switched on: min–max per image, fakes and reals in different ranges, α off by one.

    FIDs are those of samples, and of real test digits that go the same way: what a perfect model would score.
    """
    classifier, _ = load_classifier()
    count = sizes.samples
    real = shuffled_test(dataset, 2 * count)
    reference = metrics.features(classifier.embed, real[:count])
    few = dense_at_the_end(schedule, sizes)
    start = MatchedStart(dataset.train.images, few)
    known = dataset.train.images[: sizes.exact]
    exact = ExactDecoder(known, schedule)

    def draw(sampler, which) -> Tensor:
        return sample(sampler, which, few, count=count, seed=START_SEED, start=start)

    def fid(images: Tensor) -> float:
        return metrics.fid(metrics.features(classifier.embed, images), reference)

    generated = draw(ancestral, decoder)
    changes = {
        "as they are": lambda images: images,
        "each min–max normalised": lambda images: metrics.stretch(images) - 0.5,
        "cast to bytes from [−0.5, 0.5]": metrics.wrapped,
    }
    rows = [
        {"switch": name, "samples": fid(change(generated)), "real digits": fid(change(real[count:]))}
        | {"pictures": to_text(torch.cat([change(generated[:4]), change(real[count : count + 4])]))}
        for name, change in changes.items()
    ]
    if schedule.T < 2:
        return {"ranges": rows, "α off by one": []}
    off = []
    for name, sampler in {"right": ancestral, "off by one": one_step_short}.items():
        images = draw(sampler, exact)
        of_network = generated if sampler is ancestral else draw(sampler, decoder)
        origin = known[nearest(images, known)[1]]
        signal = (images * origin).mean() / origin.square().mean()
        off.append(
            {
                "α": name,
                "network FID": fid(of_network),
                "exact FID": fid(images),
                "signal": signal.item(),
                "noise left": (images - signal * origin).std().item(),
                "pictures": to_text(images[:8]),
            }
        )
    return {"ranges": rows, "α off by one": off}


def dense_at_the_end(schedule: NoiseSchedule, sizes: Sizes) -> NoiseSchedule:
    """A subset that is even, but visits every step at the end of sampling, where an α off by one counts."""
    even = np.linspace(1, schedule.T, min(sizes.calls, schedule.T)).round().astype(int).tolist()
    return schedule.subset(sorted({*range(1, min(sizes.consecutive, schedule.T) + 1), *even}))


def off_by_one_table(experiment: Experiment, dataset: Dataset, decoder: Decoder, sizes: Sizes) -> list[dict]:
    """Reconstructions from z_T with α right and off by one, by both protocols; none for T = 1."""
    x = dataset.test.images[: sizes.samples]
    schedule = dense_at_the_end(experiment.noise_schedule, sizes)
    rows = []
    for name, sampler in {"right": ancestral, "off by one": one_step_short}.items() if schedule.T > 1 else ():
        restored = sample(sampler, decoder, schedule, z=degrade(experiment, x), seed=RESTORE_SEED)
        rows.append(
            {"α": name, "images": len(x)} | {p: metrics.image_quality(restored, x, p) for p in metrics.PROTOCOLS}
        )
    return rows


def one_step_short(network, schedule: NoiseSchedule, z: Tensor, noise: Noise) -> Iterator[Latent]:
    """Ancestral sampling with α_t taken for α_{t+1}, as in published code.

    With such an α step t does what step t+1 should, so that the last one arrives at z_1 instead of x. It adds no noise.
    """
    beta, deviation = schedule.beta[2], np.sqrt(1 - schedule.alpha[2])
    for latent in ancestral(network, schedule, z, noise):
        if latent.t < 2:
            break
        z = latent.z
    g = estimate(network, z, schedule.time[2])
    x_hat = remove(z, g, deviation, np.sqrt(schedule.alpha[2]))
    yield Latent(0, remove(z, g, beta / deviation, np.sqrt(1 - beta)), x_hat)


def samples(experiment: Experiment, dataset: Dataset, decoder: Decoder, sizes: Sizes) -> dict:
    """Class histogram of samples, and the distance to their nearest training images, beside those of test digits."""
    classifier, _ = load_classifier()
    train = dataset.train.images
    images = generate(experiment, dataset, decoder, sizes.generated, calls=sizes.reconstruction_calls, start="matched")
    images = images.clamp(-0.5, 0.5)
    distance, index = nearest(images, train)
    real, _ = nearest(dataset.test.images[: sizes.generated], train)
    named = classes(classifier, images)
    closest = distance.argsort()[:8]
    return {
        "count": len(images),
        "classes": torch.bincount(named, minlength=10).tolist(),
        "classes of training images": torch.bincount(dataset.train.labels.long(), minlength=10).tolist(),
        "distances": [round(value, 4) for value in distance.tolist()],
        "distances of test digits": [round(value, 4) for value in real.tolist()],
        "closest": to_text(images[closest]),
        "their neighbours": to_text(train[index[closest]]),
    }


@torch.inference_mode()
def classes(classifier: nn.Module, images: Images) -> Int[Tensor, " n"]:
    """The digit that the classifier names for each image, clamped to [−0.5, 0.5]."""
    check_images(images, "images", overshoot=True)
    return torch.cat([classifier(part.clamp(-0.5, 0.5)).argmax(1) for part in images.split(BATCH)])
