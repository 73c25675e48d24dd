"""The digit classifier on whose features FID and KID are measured: trained once, then frozen and shipped.

It learns from the same 48,000 images as the decoders, never from validation or test images.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_utils import checkpoints
from ddpm_utils.data.datasets import Dataset, Part
from ddpm_utils.randomness import generator_for
from ddpm_utils.system.places import RESOURCES

SHIPPED = RESOURCES / "data" / "checkpoints" / "classifier" / "weights.safetensors"
EPOCHS = 6


class DigitClassifier(nn.Module):
    """Ten digits from one image; its 128 pooled features are what FID and KID are measured on.

    Three pairs of 3×3 convolution, batch normalisation and ReLU at 28, 14 and 7 pixels, then a global mean.
    """

    features = 128

    def __init__(self):
        super().__init__()

        def pair(before: int, after: int) -> list[nn.Module]:
            layers = []
            for width in (before, after):
                layers += [nn.Conv2d(width, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            return layers

        self.embed = nn.Sequential(
            *pair(1, 32), nn.MaxPool2d(2),
            *pair(32, 64), nn.MaxPool2d(2),
            *pair(64, self.features), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(self.features, 10)

    def forward(self, x: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 10"]:
        """Logits of the ten digits; x in [−0.5, 0.5]."""
        return self.head(self.embed(x))


def train_classifier(
    network: DigitClassifier, part: Part, *, epochs: int = EPOCHS, batch_size: int = 128, seed: int = 0
) -> Iterator[tuple[int, float]]:
    """Cross-entropy, AdamW, one cycle of the learning rate up to 0.005; yields (epoch, mean training loss)."""
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01, fused=True)
    steps = len(part) // batch_size
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=epochs * steps)
    images, labels = part.images, part.labels.long()
    network.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        order = torch.randperm(len(part), generator=generator_for(seed, "order", epoch))
        for batch in order[: steps * batch_size].split(batch_size):
            loss = F.cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            total += loss.item()
        yield epoch, total / steps
    network.eval()


@torch.inference_mode()
def accuracy(network: DigitClassifier, part: Part) -> float:
    """The share of images whose digit the classifier names."""
    predicted = torch.cat([network(images).argmax(1) for images in part.images.split(500)])
    return (predicted == part.labels).float().mean().item()


def fitting_classifier(dataset: Dataset) -> tuple[DigitClassifier, dict] | None:
    """Return what `load_classifier` returns, if the classifier's features fit a data set: MNIST; otherwise None."""
    return load_classifier() if dataset.is_mnist else None


def withheld(name: str) -> str:
    """Return the sentence that stands in place of FID and KID for a data set that the classifier does not fit."""
    return f"FID and KID are withheld: they compare features of a digit classifier, which do not fit {name}."


def load_classifier(path: Path = SHIPPED) -> tuple[DigitClassifier, dict]:
    """The frozen classifier, and its description (accuracy, training data, sha256 of the weights).

    Raises:
        CheckpointError: if the file is missing, damaged or of another network.
    """
    network = DigitClassifier()
    description = checkpoints.load_network(path, network, arguments=1, network="digit_classifier")
    return network.requires_grad_(False).eval(), description | {"sha256": checkpoints.digest(network.state_dict())}
