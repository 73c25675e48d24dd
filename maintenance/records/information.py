"""Hot against cold at equal information: what z_t still tells about the digit, and how well each way back restores it.

`measure_restoration` restores test digits from several z_t, as they are and rounded to 8 bits, and draws new digits.
`measure_reader` trains a classifier to read the digit from z_t, which says how much information there is.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ddpm_utils.cold.degradations import Degradation
from ddpm_utils.cold.restoration import default_rule, degrade, restore, visited
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.classifier import load_classifier
from ddpm_utils.evaluation.neighbours import neighbours
from ddpm_utils.evaluation.restoration import GREY, beginnings
from ddpm_utils.evaluation.samples import classes, shuffled_test
from ddpm_utils.evaluation.statistics import precision_recall
from ddpm_utils.randomness import generator_for
from ddpm_utils.shapes import Images, Network
from ddpm_utils.system.files import to_text
from ddpm_utils.training.restorations import RestorationExperiment
from maintenance.records.controls import Rounded, to_8_bits
from maintenance.records.device import OnDevice, device, timed

LEVELS = (0.25, 0.5, 0.75, 1.0)  # t/T
SIZES = {"restored": 500, "calls": 10, "new": 1000, "calls of new": 20}
"""Test digits to restore and steps to visit; new digits of each start, and steps to visit."""
WAYS = {"direct R": "direct", "algorithm 1": "1", "algorithm 2": "2"}
FAINTEST = 2.0**-16  # well above the rounding errors of float32, which whitening would amplify
READ = {"steps": 500, "batch": 256, "learning rate": 2e-3, "width": 512}


class Referee:
    """The frozen digit classifier, and real digits: those to restore, others to compare with, and more for the floor.

    Test digits in a random order, because MNIST's first half is the easier one.
    """

    def __init__(self, dataset: Dataset, count: int):
        classifier, _ = load_classifier()
        self.classify, self.embed = OnDevice(classifier), OnDevice(classifier.embed)
        real = shuffled_test(dataset, 3 * count)
        self.originals, self.count, self.dataset = real[:count], count, dataset
        self.labels = classes(self.classify, self.originals)
        features = metrics.features(self.embed, real[count:])
        self.real, self.others = features[:count], features[count:]

    def restored(self, images: Images) -> dict[str, Any]:
        """FID to other digits, distance to the originals, and the share of digits that are still the same."""
        images = images.clamp(-0.5, 0.5)
        return {
            "FID": metrics.fid(metrics.features(self.embed, images), self.real),
            "RMSE": (images - self.originals).square().flatten(1).mean(1).sqrt().mean().item(),
            "class kept": (classes(self.classify, images) == self.labels).float().mean().item(),
        }

    def new(self, images: Images) -> dict[str, Any]:
        """FID to as many test digits with its interval, precision and recall, and the share of copies."""
        images = images.clamp(-0.5, 0.5)
        features = metrics.features(self.embed, images)
        precision, recall = precision_recall(features, self.real)
        return {
            "FID": metrics.fid(features, self.real),
            "FID interval": metrics.fid_interval(features, self.real),
            "precision": precision,
            "recall": recall,
            "copies": neighbours(images, self.dataset)["copies"],
        }

    @property
    def floor(self) -> float:
        """The FID of real digits against others, as many as are restored."""
        return metrics.fid(self.others, self.real)


def level_steps(T: int) -> list[int]:
    """Return the steps of `LEVELS`."""
    return [max(1, round(level * T)) for level in LEVELS]


def measure_restoration(
    experiment: RestorationExperiment,
    dataset: Dataset,
    network: Network,
    remember: Callable,
    *,
    levels: Sequence[int],
    sizes: dict[str, int] = SIZES,
) -> dict:
    """Restore digits from each level in each way, from latents as they are and rounded; and draw new digits.

    Algorithm 1 is left out for rounded latents, and where the context is estimated: there both algorithms are the same.

    Args:
        network: R(z, t/T).
        remember: keeps each part (see `Ledger`).
        levels: the steps to restore from.
        sizes: see `SIZES`.
    """
    judge, judge_new, D = Referee(dataset, sizes["restored"]), Referee(dataset, sizes["new"]), experiment.process
    plain = D.degradation if isinstance(D, Rounded) else D
    one = [] if default_rule(plain) == "estimated" else ["algorithm 1"]

    def restored(t: int, way: str, bits: str) -> dict:
        z, context = degrade(plain, judge.originals, t, sigma=experiment.sigma)
        z = to_8_bits(z) if bits == "8 bits" else z
        steps = visited(plain.T, sizes["calls"], t)
        images, _ = restore(network, plain, z, context, WAYS[way], steps=steps, sigma=experiment.sigma)
        return {"t": t, "way": way, "bits": bits} | judge.restored(images)

    def new(name: str, way: str) -> dict:
        z, context = starts[name](judge_new.count, generator_for(experiment.seed, "start"))
        z = z + experiment.sigma * torch.randn(z.shape, generator=generator_for(experiment.seed, "sigma"))
        steps = visited(plain.T, sizes["calls of new"])
        images, _ = restore(network, plain, z, context, WAYS[way], steps=steps, sigma=experiment.sigma)
        return {"start": name, "way": way} | judge_new.new(images) | {"pictures": to_text(images[:10])}

    ways = {"exact": ["direct R", *one, "algorithm 2"], "8 bits": ["direct R", "algorithm 2"]}
    rows = [
        remember(f"t = {t}, {way}, {bits}", lambda t=t, way=way, bits=bits: restored(t, way, bits))
        for t in levels
        for bits, several in ways.items()
        for way in several
    ]
    starts = beginnings(plain, dataset.train.images[:10_000])
    drawn = [(name, way) for name in starts for way in ([*one, "algorithm 2"] if name == GREY else ["algorithm 2"])]
    made = [remember(f"new, {name}, {way}", lambda name=name, way=way: new(name, way)) for name, way in drawn]
    return {"restored": rows, "new": made, "floor": judge.floor, "floor of new": judge_new.floor, "sizes": sizes}


class Whitening(nn.Module):
    """z → (Σ + vI)^(−1/2)·(z − μ) of one level's latents, so that a classifier sees faint detail, too.

    Args:
        latents: (n, 1, 28, 28), of training images.
        floor: v, the variance of the noise below which nothing can be read.
    """

    def __init__(self, latents: Images, floor: float):
        super().__init__()
        flat = latents.flatten(1).double()
        eigenvalues, vectors = torch.linalg.eigh(torch.cov(flat.T))
        scale = (eigenvalues.clamp(min=0) + floor).rsqrt()
        self.register_buffer("mean", flat.mean(0))
        self.register_buffer("root", vectors * scale @ vectors.T)

    def forward(self, z: Images) -> Images:
        """Whiten latents."""
        white = (z.flatten(1).double() - self.mean) @ self.root
        return white.float().reshape(z.shape)


def measure_reader(D: Degradation, dataset: Dataset, bits: str, *, seed: int = 0) -> dict:
    """Train a classifier for each of `LEVELS` to read the digit from z_t, and measure its accuracy on test digits.

    Latents are whitened. The whitening's floor is the variance of rounding to multiples of 1/255, or of `FAINTEST`.
    The accuracy is a lower bound on what can be read: a better classifier may read more.

    Args:
        D: the degradation.
        bits: "exact" or "8 bits".
    """
    found: dict[str, Any] = {"t": level_steps(D.T), "bits": bits, "test images": len(dataset.test)}
    with timed(found):
        found["accuracy"] = [_read(D, dataset, t, bits, seed) for t in level_steps(D.T)]
    return found


def _read(D: Degradation, dataset: Dataset, t: int, bits: str, seed: int) -> float:
    """Return the accuracy of one level's reader, a network with two hidden layers."""
    where, test, images, labels = device(), dataset.test, dataset.train.images, dataset.train.labels.long()

    def latents(x: Images, generator: torch.Generator, held_out: bool = False) -> Images:
        z = D(x, t, D.draw_context(len(x), generator, held_out))
        return to_8_bits(z) if bits == "8 bits" else z

    step = 1 / 255 if bits == "8 bits" else FAINTEST
    whiten = Whitening(latents(images[:10_000], generator_for(seed, "fit", t)), step**2 / 12).to(where)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        width = READ["width"]
        hidden = nn.Linear(784, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2)
        network = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10)).to(where)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, READ["learning rate"], total_steps=READ["steps"])
        for index in range(READ["steps"]):
            generator = generator_for(seed, "reader", t, index)
            which = torch.randint(len(images), (READ["batch"],), generator=generator)
            z = whiten(latents(images[which], generator).to(where))
            loss = F.cross_entropy(network(z), labels[which].to(where))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
    network.eval()
    z = latents(test.images, generator_for(seed, "test", t), held_out=True)
    with torch.inference_mode():
        named = torch.cat([network(whiten(part.to(where))).argmax(1).cpu() for part in z.split(500)])
    return (named == test.labels).float().mean().item()
