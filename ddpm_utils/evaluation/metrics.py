"""Image quality and distribution distances: thin calls of piq and torchmetrics.

Images come in the project's range [−0.5, 0.5]; piq sees them in [0, 1]. FID and KID compare features (n, width),
so that one pass of a feature extractor serves FID, KID, floor and interval.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddpm_utils.data.checks import check_counts, check_images
from ddpm_utils.data.datasets import to_unit
from ddpm_utils.shapes import Images

Features = Float[Tensor, "n features"]
RealFeatures = Float[Tensor, "m features"]
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"  # of its file, URL_INCEPTION_V3
PROTOCOLS = ("corrected", "published")
PUBLISHED_BATCH = 512  # the report's RMSE is the root of the mean over a batch of so many images
RESAMPLES = 100  # of the fakes, for an interval of the FID


def stretch(images: Images) -> Images:
    """Each image min–max normalised by itself to [0, 1], as the report did; a constant image becomes 0."""
    check_images(images, "images", overshoot=True)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp(min=1e-12)


def wrapped(images: Images) -> Images:
    """Images cast to bytes without 0.5 being added first, as the report's FID saw its fakes; bytes as [−0.5, 0.5].

    −0.5 … −1/255 wraps to 129 … 255: the background becomes grey, soft edges white.
    """
    check_images(images, "images", overshoot=True)
    return (images * 255).int().remainder(256) / 255 - 0.5


def image_quality(restored: Images, target: Images, protocol: str = "corrected") -> dict[str, float]:
    """Mean RMSE, SSIM and PSNR between restored images and their targets, both in [−0.5, 0.5].

    RMSE: root mean squared error, 0 (equal) … 1. SSIM: structural similarity (Wang et al. 2004), −1 … 1 (equal).
    PSNR: peak signal-to-noise ratio in dB, higher is better.

    Args:
        restored: may leave the range, as outputs of a network do.
        protocol: "corrected": clamp to [0, 1], each metric per image, then averaged. "published": each image
            is stretched by itself first, and RMSE is the root over batches of 512.

    Raises:
        ValueError: if the protocol is unknown, the two do not hold the same number of images, or their values, type or
            shape are wrong.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}.")
    scores = {name: values.mean().item() for name, values in quality_of_each(restored, target, protocol).items()}
    if protocol == "published":
        squared = (stretch(restored) - stretch(target)).square().flatten(1).mean(1)
        scores["RMSE"] = torch.stack([part.mean().sqrt() for part in squared.split(PUBLISHED_BATCH)]).mean().item()
    return scores


def quality_of_each(restored: Images, target: Images, protocol: str = "corrected") -> dict[str, Float[Tensor, " n"]]:
    """RMSE, SSIM and PSNR of each image; arguments as for `image_quality`, RMSE per image by both protocols."""
    import piq  # here, since it imports torchvision, which takes seconds, as torchmetrics does

    check_images(restored, "restored", overshoot=True)
    check_images(target, "target")
    if restored.shape != target.shape:
        wrong = f"{len(restored)} restored images cannot be compared with {len(target)} targets"
        raise ValueError(f"{wrong}: their shapes are {tuple(restored.shape)} and {tuple(target.shape)}.")
    restored, target = (stretch(i) if protocol == "published" else to_unit(i) for i in (restored, target))
    return {
        "RMSE": (restored - target).square().flatten(1).mean(1).sqrt(),
        "SSIM": piq.ssim(restored, target, data_range=1.0, reduction="none"),
        "PSNR": piq.psnr(restored, target, data_range=1.0, reduction="none"),
    }


@torch.inference_mode()
def features(extractor: Callable[[Tensor], Tensor], images: Images, batch_size: int = 250) -> Features:
    """Features of images that are first clamped to [−0.5, 0.5], so that fakes and reals share one range.

    Raises:
        ValueError: if their values, type or shape are wrong.
    """
    check_images(images, "images", overshoot=True)
    return torch.cat([extractor(batch.clamp(-0.5, 0.5)) for batch in images.split(batch_size)])


def inception_extractor(weights: str | Path) -> Callable[[Tensor], Tensor]:
    """torchmetrics' Inception-v3, 2048 features; images are repeated to three channels and cast to bytes.

    The library loads weights with pickle, which could run any code: no other file than torch-fidelity's gets there.

    Args:
        weights: "download" for torch-fidelity's weights (downloaded once, then cached), or a local file of them.

    Raises:
        OSError: if they cannot be downloaded or read, or their sha256 is another; the sentence says why.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    from torchmetrics.image.fid import NoTrainInceptionV3

    path = Path(weights)
    if weights == "download":
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
    try:
        if weights == "download" and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), progress=False)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        origin = "downloaded" if weights == "download" else f"read from {weights}"
        reason = getattr(error, "reason", error)  # of a URLError, what it was raised for
        raise OSError(f"Inception's weights cannot be {origin}: {getattr(reason, 'strerror', reason)}.") from error
    if found != INCEPTION_SHA256:
        remedy = ": delete it" if weights == "download" else ""
        raise OSError(f"{path} does not hold torch-fidelity's Inception weights (its sha256 is another){remedy}.")
    network = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path))

    def extract(images: Images) -> Features:
        return network((to_unit(images) * 255).byte().expand(-1, 3, -1, -1))[0]

    return extract


class _Given(nn.Module):
    """Hands torchmetrics features that were computed before."""

    def __init__(self, width: int):
        super().__init__()
        self.num_features = width

    def forward(self, features: Features) -> Features:
        return features


def check_features(**sets: Tensor) -> None:
    """Raise a ValueError for too few features, and for features that are not finite, which would crash LAPACK."""
    check_counts(**sets)
    for name, features in sets.items():
        if bad := (~features.isfinite().all(1)).sum().item():
            raise ValueError(
                f"{bad} of {len(features)} {name} images have features that are not finite: a chain diverges if its "
                "network has been trained too little for its schedule; train longer, or take a smaller beta or T."
            )


def fid(fake: Features, real: RealFeatures) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features (Heusel et al. 2017), lower is better.

    It is biased upward for few images (Chong & Forsyth 2020): compare only values at the same count, and
    beside the floor, which is the FID of real images against other real ones.

    Raises:
        ValueError: if there are features that are not finite, or fewer than `SMALLEST` on either side.
    """
    check_features(fake=fake, real=real)
    return _fids([fake], real)[0]


def _fids(fakes: Iterable[Features], real: RealFeatures) -> list[float]:
    """Return the FID of each set of fakes; the moments of the real features are computed once."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(_Given(real.shape[1]), reset_real_features=False).set_dtype(torch.float64)
    metric.update(real.double(), real=True)

    def distance(fake: Features) -> float:
        metric.reset()  # of the fakes only
        metric.update(fake.double(), real=False)
        return metric.compute().item()

    return [distance(fake) for fake in fakes]


def fid_interval(
    fake: Features, real: RealFeatures, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return a 95 % confidence interval of the FID over the draw of the fakes: FID ± 1.96 · bootstrap deviation.

    The deviation is the standard deviation of the FID over resamples of the fakes; the reals stay fixed.
    The interval is for the expected FID at this count, which includes the FID's bias. The low end is at least 0.

    Raises:
        ValueError: as `fid` does, or if there are fewer than two resamples.
    """
    check_features(fake=fake, real=real)
    if resamples < 2:
        raise ValueError(f"resamples must be at least 2 (got {resamples}).")
    generator = torch.Generator().manual_seed(seed)
    draws = (torch.randint(len(fake), (len(fake),), generator=generator) for _ in range(resamples))
    deviation = torch.tensor(_fids((fake[draw] for draw in draws), real), dtype=torch.float64).std().item()
    value = fid(fake, real)
    return max(0.0, value - 1.96 * deviation), value + 1.96 * deviation


def kid(fake: Features, real: RealFeatures, *, seed: int = 0, subsets: int = 50) -> tuple[float, float]:
    """Kernel distance (Bińkowski et al. 2018), mean and standard deviation over subsets; unbiased, near 0 is best.

    Raises:
        ValueError: if there are features that are not finite, or fewer than `SMALLEST` on either side.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    check_features(fake=fake, real=real)
    size = min(len(fake), len(real), 1000) // 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save all extracted features")
        metric = KernelInceptionDistance(_Given(fake.shape[1]), subsets=subsets, subset_size=size)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mean, deviation = metric.compute()
    return mean.item(), deviation.item()


def fid_quality(fake: Features, real: RealFeatures, *, seed: int = 0) -> dict[str, float | list[float] | int]:
    """FID with its interval and its floor, of generated images against as many real ones.

    Args:
        real: at least twice as many as the fakes: one half to compare with, the other for the floor.

    Raises:
        ValueError: if there are fewer than `SMALLEST` samples, or too few images for them.
    """
    count = len(fake)
    check_counts(fake=fake)
    if len(real) < 2 * count:
        raise ValueError(f"{count} FID samples need at least {2 * count} real images, but there are {len(real)}.")
    reference, other = real[:count], real[count : 2 * count]
    return {
        "FID": fid(fake, reference),
        "FID interval": list(fid_interval(fake, reference, resamples=RESAMPLES, seed=seed)),
        "FID floor": fid(other, reference),
        "samples": count,
    }


def distribution_quality(fake: Features, real: RealFeatures, *, seed: int = 0) -> dict[str, float | list[float] | int]:
    """What `fid_quality` measures, and KID; arguments and errors as for `fid_quality`."""
    distances = fid_quality(fake, real, seed=seed)
    return distances | dict(zip(("KID", "KID deviation"), kid(fake, real[: len(fake)], seed=seed), strict=True))
