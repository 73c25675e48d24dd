"""Hot against cold at equal information: what z_t still tells about the digit, and how well each way back restores it.

`measure_restoration` and `measure_ddpm` restore test digits from several z_t, as they are and rounded to 8 bits.
`measure_reader` trains a classifier to read the digit from z_t, which says how much information there is.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_utils.cold.degradations import Degradation
from ddpm_utils.cold.restoration import degrade, restore, visited
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.samplers import sample
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.classifier import DigitClassifier, load_classifier
from ddpm_utils.evaluation.decoder import degrade as diffused
from ddpm_utils.evaluation.decoder import reverse
from ddpm_utils.evaluation.restoration import beginnings
from ddpm_utils.evaluation.samples import classes, shuffled_test
from ddpm_utils.randomness import RESTORE_SEED, START_SEED, generator_for
from ddpm_utils.shapes import Images, Network
from ddpm_utils.system.files import to_text
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.restorations import RestorationExperiment
from maintenance.records.controls import Rounded, to_8_bits
from maintenance.records.device import OnDevice, device, timed

LEVELS = (0.25, 0.5, 0.75, 1.0)  # t/T
IMAGES, CALLS = 1000, 25
WAYS = {"direct R": "direct", "algorithm 1": "1", "algorithm 2": "2"}
FAINTEST = 2.0**-16  # well above the rounding errors of float32, which whitening would amplify
READ = {"steps": 1500, "batch": 256, "learning rate": 5e-3}


class Referee:
    """The frozen digit classifier, and real digits: those to restore, others to compare with, and more for the floor.

    Test digits in a random order, because MNIST's first half is the easier one.
    """

    def __init__(self, dataset: Dataset, count: int = IMAGES):
        classifier, _ = load_classifier()
        self.classify, self.embed = OnDevice(classifier), OnDevice(classifier.embed)
        real = shuffled_test(dataset, 3 * count)
        self.originals, self.count = real[:count], count
        self.labels = classes(self.classify, self.originals)
        self.real = metrics.features(self.embed, real[count:])

    def __call__(self, images: Images) -> dict[str, Any]:
        """FID to other digits, distance to the originals, and the share of digits that are still the same."""
        images = images.clamp(-0.5, 0.5)
        return {
            "FID": self.fid(images),
            "RMSE": (images - self.originals).square().flatten(1).mean(1).sqrt().mean().item(),
            "class kept": (classes(self.classify, images) == self.labels).float().mean().item(),
        }

    def fid(self, images: Images) -> float:
        """FID to other digits, as many."""
        return metrics.fid(metrics.features(self.embed, images), self.real[: self.count])

    @property
    def floor(self) -> float:
        """The FID of real digits against others, as many as are restored."""
        return metrics.fid(self.real[self.count :], self.real[: self.count])


def level_steps(T: int) -> list[int]:
    """Return the steps of `LEVELS`."""
    return [max(1, round(level * T)) for level in LEVELS]


def measure_restoration(
    experiment: RestorationExperiment, dataset: Dataset, network: Network, remember: Callable, calls: int = CALLS
) -> dict:
    """Restore from each level in each way, as it is and rounded; and draw new digits from each start.

    Args:
        network: R(z, t/T).
        remember: keeps each part (see `Ledger`).
    """
    referee, D = Referee(dataset), experiment.process
    plain = D.degradation if isinstance(D, Rounded) else D

    def restored(t: int, way: str, bits: str) -> dict:
        z, context = degrade(plain, referee.originals, t, sigma=experiment.sigma)
        z = to_8_bits(z) if bits == "8 bits" else z
        steps = visited(plain.T, calls, t)
        images, _ = restore(network, plain, z, context, WAYS[way], steps=steps, sigma=experiment.sigma)
        pictures = {"pictures": to_text(images[:8])} if t == plain.T else {}
        return {"t": t, "way": way, "bits": bits} | referee(images) | pictures

    def new(name: str, way: str) -> dict:
        z, context = starts[name](referee.count, generator_for(experiment.seed, "start"))
        z = z + experiment.sigma * torch.randn(z.shape, generator=generator_for(experiment.seed, "sigma"))
        steps = visited(plain.T, calls)
        images, _ = restore(network, plain, z, context, WAYS[way], steps=steps, sigma=experiment.sigma)
        return {"start": name, "way": way, "FID": referee.fid(images)}

    levels = [plain.T] if experiment.sigma else level_steps(plain.T)
    rows = [
        remember(f"t = {t}, {way}, {bits}", lambda t=t, way=way, bits=bits: restored(t, way, bits))
        for t in levels
        for bits in ("exact", "8 bits")
        for way in WAYS
    ]
    starts = beginnings(plain, dataset.train.images[:10_000])
    made = [
        remember(f"new, {name}, {way}", lambda name=name, way=way: new(name, way))
        for name in starts
        for way in ("algorithm 1", "algorithm 2")
    ]
    return {"restored": rows, "new": made, "floor": referee.floor, "images": referee.count, "calls": calls}


def measure_ddpm(
    experiment: Experiment, dataset: Dataset, network: Network, remember: Callable, calls: int = CALLS
) -> dict:
    """Restore from each level by ancestral sampling, as it is and rounded; and draw new digits from N(0, I)."""
    referee, schedule = Referee(dataset), experiment.noise_schedule
    last = int((schedule.alpha >= 1e-4).nonzero()[0][-1])

    def walk(t: int, **options) -> Tensor:
        sampler, chain = reverse(schedule.subset(range(1, t + 1)), calls)
        return sample(sampler, network, chain, batch_size=250, **options)

    def restored(t: int, bits: str) -> dict:
        z = diffused(experiment, referee.originals, t)
        images = walk(t, z=to_8_bits(z) if bits == "8 bits" else z, seed=RESTORE_SEED)
        pictures = {"pictures": to_text(images[:8])} if t == last else {}
        return {"t": t, "way": "ancestral", "bits": bits} | referee(images) | pictures

    def new() -> dict:
        images = walk(last, count=referee.count, seed=START_SEED + experiment.seed * referee.count)
        return {"start": "N(0, I)", "way": "ancestral", "FID": referee.fid(images)}

    levels = [min(t, last) for t in level_steps(schedule.T)]
    rows = [
        remember(f"t = {t}, {bits}", lambda t=t, bits=bits: restored(t, bits))
        for t in levels
        for bits in ("exact", "8 bits")
    ]
    made = [remember("new", new)]
    return {"restored": rows, "new": made, "floor": referee.floor, "images": referee.count, "calls": calls}


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
    """Train one classifier to read the digit from z_t at all `LEVELS`, and measure its accuracy on test digits.

    Latents are whitened for each level. The whitening's floor is the variance of rounding to multiples of 1/255, or of
    `FAINTEST`. The accuracy is a lower bound on what can be read: a better classifier may read more.

    Args:
        D: the degradation.
        bits: "exact" or "8 bits".
    """
    where, found = device(), {}
    with timed(found):
        train, labels = dataset.train.images, dataset.train.labels.long()
        step = 1 / 255 if bits == "8 bits" else FAINTEST

        def latents(images: Images, t: int, generator: torch.Generator, held_out: bool = False) -> Images:
            z = D(images, t, D.draw_context(len(images), generator, held_out))
            return to_8_bits(z) if bits == "8 bits" else z

        levels = level_steps(D.T)
        fit = [latents(train[:10_000], t, generator_for(seed, "fit", t)) for t in levels]
        whiten = [Whitening(z, step**2 / 12).to(where) for z in fit]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = DigitClassifier().to(where)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, READ["learning rate"], total_steps=READ["steps"])
        for step_index in range(READ["steps"]):
            generator = generator_for(seed, "reader", step_index)
            which = torch.randint(len(train), (READ["batch"],), generator=generator)
            parts = zip(levels, whiten, which.chunk(len(levels)), strict=True)
            z = torch.cat([white(latents(train[some], t, generator).to(where)) for t, white, some in parts])
            loss = F.cross_entropy(network(z), labels[which].to(where))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
        network.eval()
        test, right = dataset.test, []
        with torch.inference_mode():
            for t, white in zip(levels, whiten, strict=True):
                z = latents(test.images, t, generator_for(seed, "test", t), held_out=True)
                named = torch.cat([network(white(part.to(where))).argmax(1).cpu() for part in z.split(500)])
                right.append((named == test.labels).float().mean().item())
        found |= {"t": levels, "accuracy": right, "bits": bits, "test images": len(test)}
    return found
