"""Records like those that notebook 04 shows, with made-up numbers: for tests of what reads them."""

from typing import Any

from ddpm_utils import data
from ddpm_utils.system.files import to_text
from maintenance.records.decomposition import CELLS, VARIANCES
from maintenance.records.decomposition_results import ALPHAS

SAMPLED, UNSAMPLED = "CNN, high β", "U-Net, low β, fine, N(0, I)"
"""A cell that is measured, and one that is not measured yet."""


def fid(cell: str, variance: str, seed: int) -> float:
    """Return the FID of a cell: each is another one."""
    return (2 + 3 * list(CELLS).index(cell)) * (1 + 0.5 * VARIANCES.index(variance)) * (1 + 0.1 * seed)


def loss(trained_on: str, seed: int) -> list[float]:
    """Return a network's loss at each α; at high β it is (seed + 2) times the loss at low β."""
    return [0.02 * (1 + place) * (seed + 2 if trained_on == "high β" else 1) for place in range(len(ALPHAS))]


def decomposition() -> dict[str, Any]:
    """Return cells as `maintenance.records.decomposition_results` measures them.

    One cell has no samples yet, the lean U-Net has two seeds, and its third one is trained on high β only.
    """
    digits, cells = data.load("mnist_5k").test.images, {}
    for place, (name, cell) in enumerate(CELLS.items()):
        cells[name] = cell._asdict() | {variance: {} for variance in VARIANCES}
        if name == UNSAMPLED:
            continue
        for variance in VARIANCES:
            for seed in range(2 if cell.network == "lean_unet" else 3):
                score = fid(name, variance, seed)
                cells[name][variance][str(seed)] = {"FID": score, "FID interval": [0.9 * score, 1.1 * score]}
        cells[name]["pictures"] = to_text(digits[8 * place : 8 * place + 8])
    missing = "lean_unet, low β, seed 2"
    networks = {
        f"{network}, {trained_on}, seed {seed}": {
            "losses at α": {"alpha": ALPHAS.tolist(), "loss": loss(trained_on, seed), "error": [1e-3] * len(ALPHAS)}
        }
        for network in ("cnn", "lean_unet")
        for trained_on in ("low β", "high β", "high β, off by one")
        for seed in range(3)
    }
    kept = {name: found for name, found in networks.items() if name != missing}
    return {"samples": 2000, "floor": {"FID": 0.4}, "cells": cells, "networks": kept, "differences": []}


def gaussian_step() -> dict[str, Any]:
    """Return chains as `maintenance.records.gaussian_step` measures them, with β from high to low."""
    factors = {"beta": 4, "posterior": 3, "optimal": 2, "full covariance": 1}
    chains = [
        {"beta": beta, "variance": variance, "fine last steps": fine, "FID": [factor * beta, 3 * factor * beta]}
        for beta in (0.5, 0.1, 0.2)
        for variance, factor in factors.items()
        for fine in (False, True)
    ]
    for row in chains:
        row["FID"] = [value / 10 for value in row["FID"]] if row["fine last steps"] else row["FID"]
    return {"floors": {"FID": [0.1, 0.2, 0.3]}, "chains": chains}
