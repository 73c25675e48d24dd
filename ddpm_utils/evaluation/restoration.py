"""What one trained restoration can do: images restored from z_T in each way, new ones from each way to draw z_T."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_utils.cold import starts
from ddpm_utils.cold.degradations import Degradation, Separable
from ddpm_utils.cold.mixtures import GaussianFade, Mixture, draw_noise
from ddpm_utils.cold.restoration import default_rule, degrade, restore, visited
from ddpm_utils.data.checks import SMALLEST
from ddpm_utils.data.datasets import Dataset, Part
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.classifier import load_classifier
from ddpm_utils.randomness import generator_for
from ddpm_utils.shapes import Images, Network
from ddpm_utils.system.files import compute_always
from ddpm_utils.training.objectives import mean_loss
from ddpm_utils.training.restorations import RestorationExperiment

JITTERS = (0.003, 0.01, 0.03)  # of the uniform grey start, in the units of pixels
GREY, GAUSSIAN, OTHERS = "uniform grey, fitted level", "Gaussian mixture", "z_T of other digits"  # starts, by name


def ways(degradation: Degradation) -> dict[str, tuple[str, str]]:
    """The ways back that are compared: label → algorithm and rule."""
    rule = default_rule(degradation)
    found = {"direct R": ("direct", rule), "algorithm 1": ("1", rule), "algorithm 2": ("2", rule)}
    if isinstance(degradation, Mixture) and degradation.draw is draw_noise:
        found["algorithm 1, fresh ε"] = ("1", "fresh")
    return found


def beginnings(degradation: Degradation, images: Images, *, ablate: bool = False) -> dict[str, starts.Start]:
    """The ways to draw z_T for this degradation, by name (see `starts`).

    Args:
        images: to fit them to, clean.
        ablate: also one grey level for all, and jitter.
    """
    if isinstance(degradation, Mixture | GaussianFade):
        return {"a new context": starts.Forgotten(degradation, images)}
    if not isinstance(degradation, Separable):
        return {GAUSSIAN: starts.Fitted(degradation, images)}
    found = {GREY: starts.Grey(degradation, images)}
    if ablate:
        found["uniform grey, one level"] = starts.Grey(degradation, images, spread=0.0)
        for jitter in JITTERS:
            found[f"uniform grey, jitter {jitter:g}"] = starts.Grey(degradation, images, jitter=jitter)
    return found | {GAUSSIAN: starts.Fitted(degradation, images)}


def evaluate_restoration(
    experiment: RestorationExperiment,
    dataset: Dataset,
    network: nn.Module,
    *,
    images: int = 1000,
    calls: int = 100,
    calls_of_new: int = 25,
    ablate: bool = False,
    remember: Callable[[str, Callable[[], Any]], Any] = compute_always,
) -> dict:
    """All measurements of one restoration.

    Args:
        network: R(z, t/T), trained.
        images: test images to restore, and images to make from each start; FID and KID compare them with as many test
            images that come after these.
        calls, calls_of_new: at most so many steps to visit, in restoring and in making new images.
        ablate: also make new images from variants of the uniform grey start.
        remember: keeps each part of the result as soon as it is known (see `Ledger`).

    Returns:
        what JSON can hold; "restored" maps each way back (see `ways`) to its measurements, with "algorithm" and "rule",
        and z_T itself, "degraded", to its own; "new" lists the measurements of each "start" and "algorithm".

    Raises:
        ValueError: if the data set holds fewer than twice so many test images.
    """
    most = len(dataset.test) // 2
    if not SMALLEST <= images <= most:
        raise ValueError(f"images must be in {SMALLEST}…{most}, half of the test images, not {images}.")
    judge = Judge(dataset, images)
    degradation = experiment.process
    test = dataset.test.images
    loss, error = remember("loss", lambda: mean_loss(network, experiment.objective, test, seed=experiment.seed))
    all_restored = {"degraded": remember("restored, degraded", lambda: _degraded(experiment, judge))}
    for label, (algorithm, rule) in ways(degradation).items():
        restored = partial(_restored, experiment, network, judge, algorithm, rule, calls)
        about = {"algorithm": algorithm, "rule": rule}
        all_restored[label] = about | remember(f"restored, {label}", restored)
    drawn = beginnings(degradation, dataset.train.images[:10_000], ablate=ablate)
    all_new = []
    for name, start in {OTHERS: _of_others(degradation, dataset), **drawn}.items():
        for algorithm in ("1", "2"):
            new = partial(_new, experiment, network, judge, start, algorithm, calls_of_new)
            about = {"start": name, "algorithm": algorithm}
            all_new.append(about | remember(f"new, {name}, {algorithm}", new))
    return {
        "images": images,
        "calls": min(calls, degradation.T),
        "test loss": loss,
        "test loss standard error": error,
        "restored": all_restored,
        "new": all_new,
    }


class Judge:
    """The originals, other real images to compare distributions with, and the frozen digit classifier."""

    def __init__(self, dataset: Dataset, count: int):
        self.originals: Part = dataset.test[:count]
        self.classifier, _ = load_classifier()
        real = torch.cat([dataset.test.images[count : 2 * count], self.originals.images])
        self.real = metrics.features(self.classifier.embed, real)  # the others, then the originals for the floor

    def distances(self, images: Images) -> dict:
        """FID with interval and floor, and KID, on the digit classifier's features."""
        return metrics.distribution_quality(metrics.features(self.classifier.embed, images), self.real)

    @torch.inference_mode()
    def quality(self, images: Images) -> dict:
        """RMSE, SSIM and PSNR to the originals by both protocols, and the share whose digit is still the same."""
        labels = self.classifier(images.clamp(-0.5, 0.5)).argmax(1)
        kept = (labels == self.originals.labels).float().mean().item()
        x = self.originals.images
        return {p: metrics.image_quality(images, x, p) for p in metrics.PROTOCOLS} | {"class kept": kept}


def _degraded(experiment: RestorationExperiment, judge: Judge) -> dict:
    """Quality of the test images' z_T."""
    z, _ = degrade(experiment.process, judge.originals.images, sigma=experiment.sigma)
    return judge.quality(z) | judge.distances(z)


def _restored(
    experiment: RestorationExperiment, network: Network, judge: Judge, algorithm: str, rule: str, calls: int
) -> dict:
    """Quality of test images restored in one way."""
    degradation, sigma = experiment.process, experiment.sigma
    z, context = degrade(degradation, judge.originals.images, sigma=sigma)
    steps = visited(degradation.T, calls)
    images, _ = restore(network, degradation, z, context, algorithm, rule=rule, steps=steps, sigma=sigma)
    return judge.quality(images) | judge.distances(images)


def _new(
    experiment: RestorationExperiment, network: Network, judge: Judge, start: starts.Start, algorithm: str, calls: int
) -> dict:
    """FID and KID of images made from nothing but a drawn z_T."""
    degradation, sigma = experiment.process, experiment.sigma
    z, context = start(len(judge.originals), generator_for(0, "start"))
    if sigma:
        z = z + sigma * torch.randn(z.shape, generator=generator_for(0, "sigma"))
    steps = visited(degradation.T, calls)
    images, _ = restore(network, degradation, z, context, algorithm, steps=steps, sigma=sigma)
    return judge.distances(images) | {"calls": len(steps)}


def _of_others(degradation: Degradation, dataset: Dataset) -> starts.Start:
    """Return the reference for the other starts: z_T of validation digits. It gives reconstructions, not new digits."""

    def start(count: int, generator: torch.Generator) -> tuple[Images, Tensor]:
        return degrade(degradation, dataset.validation.images[:count], seed=1)

    return start
