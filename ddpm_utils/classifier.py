"""The digit classifier on whose features FID and KID are measured: trained once, then frozen and shipped.

It learns from the same 48,000 images as the decoders, never from validation or test images.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.nn import functional as F

from ddpm_utils import checkpoints
from ddpm_utils.data import PROJECT, Dataset, Part
from ddpm_utils.networks import DigitClassifier
from ddpm_utils.training import generator_for

SHIPPED = PROJECT / "data" / "checkpoints" / "classifier" / "weights.safetensors"
EPOCHS = 6


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


def ship_classifier(dataset: Dataset, *, epochs: int = EPOCHS, path: Path = SHIPPED) -> dict:
    """Train a classifier from the seed and write what the project ships; returns its description."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DigitClassifier()
    for _ in train_classifier(network, dataset.train, epochs=epochs):
        pass
    description = {
        "network": "digit_classifier",
        "epochs": epochs,
        "train_images": len(dataset.train),
        "data_sha256": dataset.sha256,
        "validation_accuracy": accuracy(network, dataset.validation),
        "test_accuracy": accuracy(network, dataset.test),
    }
    checkpoints.save(path, network.state_dict(), description)
    return description


def load_classifier(path: Path = SHIPPED) -> tuple[DigitClassifier, dict]:
    """The frozen classifier, and its description (accuracy, training data, sha256 of the weights).

    Raises:
        CheckpointError: if the file is missing, damaged or of another network.
    """
    network = DigitClassifier()
    description = checkpoints.load_network(path, network, network="digit_classifier")
    return network.requires_grad_(False).eval(), description | {"sha256": checkpoints.digest(network.state_dict())}
