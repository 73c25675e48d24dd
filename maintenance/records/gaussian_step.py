"""A positive control of the Gaussian reverse step: chains through a known continuous density, over β and variance.

The density is an `ImageMixture` of MNIST's training images. Its decoder is exact, and chains start from exact z_T. So
what differs between their samples and exact samples comes from the reverse steps alone. `record_gaussian_step` writes
data/checkpoints/gaussian_step.json:

    fit           the mixture, and how close it is to MNIST
    floors        FID of exact samples against other exact samples, and their log density
    chains        for each β and variance the distances of samples to the density: FID, log density, shares, spread
    divergences   E KL(q(z_{t−1}|z_t) ‖ its Gaussian) in nats, summed over the steps t ≥ 2
    breaks        the smallest β from which on the FID lies above the floor, for each variance

All FIDs are those of 2,000 samples, on the digit classifier's features.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from ddpm_utils.diffusion.exact import ImageMixture
from ddpm_utils.diffusion.forward import posterior_tables
from ddpm_utils.diffusion.likelihood import VARIANCES
from ddpm_utils.diffusion.samplers import reverse_variance
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.classifier import load_classifier
from ddpm_utils.evaluation.samples import shuffled_test
from ddpm_utils.networks.cpu import processor
from ddpm_utils.randomness import generator_for
from ddpm_utils.system.files import Ledger, fingerprint, write_json
from ddpm_utils.system.places import RESOURCES, output
from ddpm_utils.training.experiments import PUBLISHED, Experiment
from maintenance.records.gaussian_chains import (
    FULL,
    Control,
    best_gaussian,
    chain_of,
    diffused,
    distances,
    draw,
    fitted_variance,
)
from maintenance.records.shipping import named_data, rounded

GAUSSIAN_STEP = RESOURCES / "data" / "checkpoints" / "gaussian_step.json"
BETAS = (0.5, 0.3, 0.2, 0.1, 0.03, 0.01, 0.003, 0.001)  # the quick ones first
SMALLEST_OF_FULL = 0.1  # the smallest β whose chains also run with the full covariance
SIZES = {"samples": 2000, "seeds": 3, "floors": 10, "alpha_T": 0.005, "dimensions": 40, "components": 50}
ONCE = (0.01, 0.003, 0.001)  # β's of the longest chains: one seed
LATE, LATE_ALPHA_T = (0.003, 0.001), 0.1  # the two longest start here; z_T is exact at any α_T
REFINED = (0.5, 0.3, 0.2, 0.1)  # β's of the chains whose last step is also taken in fine steps
POINTS = 24  # steps at which divergences are measured


def start_of(beta: float, sizes: dict) -> float:
    """Return α_T of the chains of β; the first α below it is where they start."""
    return LATE_ALPHA_T if beta in LATE else sizes["alpha_T"]


def measure_chain(control: Control, beta: float, variance: str, fine: bool, sizes: dict) -> dict[str, Any]:
    """Distances of the samples of one β and variance, over seeds."""
    started, seeds = time.perf_counter(), 1 if beta in ONCE else sizes["seeds"]
    schedule = chain_of(beta, start_of(beta, sizes), fine=fine)
    row: dict[str, Any] = {"beta": beta, "variance": variance, "fine last steps": fine, "steps": schedule.T}
    found = []
    for seed in range(seeds):
        y = draw(control, schedule, variance, sizes["samples"], seed)
        found.append(distances(control, y))
    row |= {"samples": sizes["samples"]} | {name: [each[name] for each in found] for name in found[0]}
    return row | {"seconds": round(time.perf_counter() - started, 1)}


def measure_floors(control: Control, sizes: dict) -> dict[str, Any]:
    """Distances of exact samples: what no chain can be below, but for chance."""
    started, found = time.perf_counter(), []
    for seed in range(1, sizes["floors"] + 1):
        y = control.plane.sample(sizes["samples"], generator_for(seed, "exact"))
        found.append(distances(control, y))
    floors = {name: [each[name] for each in found] for name in found[0]}
    return floors | {"seconds": round(time.perf_counter() - started, 1)}


def measure_divergences(control: Control, beta: float, sizes: dict) -> dict[str, Any]:
    """E KL(q(z_{t−1}|z_t) ‖ N) in the plane and outside of it, for each Gaussian, summed over t ≥ 2.

    Inside it is estimated at some steps from exact pairs, with Bayes' rule for q, and interpolated; outside, where
    q is a Gaussian with the posterior variance, it is known.
    """
    started, plane, count = time.perf_counter(), control.plane, sizes["samples"]
    schedule, generator = chain_of(beta, sizes["alpha_T"]), generator_for(0, "divergence", str(beta))
    posterior, fitted = posterior_tables(schedule)[2], fitted_variance(control, schedule, count)
    sigma = {name: reverse_variance(schedule, fitted if name == "optimal" else name) for name in VARIANCES}
    outside = len(control.mixture.center) - plane.shape[-1]
    steps = np.unique(np.geomspace(2, schedule.T, POINTS).round().astype(int))
    inside: dict[str, list[float]] = {name: [] for name in (*VARIANCES, FULL)}
    for t in steps:
        z_before = diffused(plane, schedule.alpha[t - 1], count, generator)[1]
        step = Normal((1 - beta) ** 0.5 * z_before, beta**0.5)
        z = torch.normal(step.mean, step.stddev, generator=generator)
        log_q = step.log_prob(z).flatten(1).sum(1) + plane.log_density(z_before, schedule.alpha[t - 1])
        log_q -= plane.log_density(z, schedule.alpha[t])
        step_mean, covariance = best_gaussian(plane, schedule, z, t)
        for name, values in sigma.items():
            log_p = Normal(step_mean, values[t] ** 0.5).log_prob(z_before.flatten(1)).sum(1)
            inside[name].append(divergence(log_q, log_p))
        log_p = MultivariateNormal(step_mean, covariance).log_prob(z_before.flatten(1))
        inside[FULL].append(divergence(log_q, log_p))
    every = np.arange(2, schedule.T + 1)
    ratios = {name: posterior[2:] / values[2:] for name, values in sigma.items()}
    return {
        "beta": beta,
        "inside": {name: float(np.interp(every, steps, values).sum()) for name, values in inside.items()},
        "outside": {name: float((r - 1 - np.log(r)).sum() * outside / 2) for name, r in ratios.items()},
        "seconds": round(time.perf_counter() - started, 1),
    }


def divergence(log_q: Tensor, log_p: Tensor) -> float:
    """KL(q ‖ p) from draws of q: the mean of p/q − 1 − log p/q, or of −log p/q if p/q varies much."""
    ratio = log_p - log_q
    return (ratio.expm1() - ratio if ratio.abs().max() < 1 else -ratio).mean().item()


def breaks(chains: list[dict], floors: dict) -> dict[str, float | None]:
    """The β from which on the mean FID is above the floor's mean + 2 standard deviations, for each variance."""
    found: dict[str, float | None] = {}
    for name in dict.fromkeys((row["variance"], row["fine last steps"]) for row in chains):
        found[f"{name[0]}, fine last steps" if name[1] else name[0]] = None
        for row in sorted(chains, key=lambda row: -row["beta"]):
            if (row["variance"], row["fine last steps"]) == name:
                if mean(row["FID"]) <= mean(floors["FID"]) + 2 * stdev(floors["FID"]):
                    break
                found[f"{name[0]}, fine last steps" if name[1] else name[0]] = row["beta"]
    return found


def plan() -> list[tuple[float, str, bool]]:
    """β, variance and whether the last step is fine, of all chains; the quick ones first."""
    rows = [(beta, variance, fine) for beta in BETAS for fine in (False, True) for variance in (*VARIANCES, FULL)]
    fine_ones = [row for row in rows if not row[2] or row[0] in REFINED]
    affordable = [row for row in fine_ones if row[1] != FULL or row[0] >= SMALLEST_OF_FULL]
    return [row for row in affordable if row[:2] != (min(BETAS), "optimal")]  # between "posterior" and "beta"


@torch.inference_mode()
def record_gaussian_step(on_progress: Callable[[str], None] = print) -> Path:
    """Measure the control and write data/checkpoints/gaussian_step.json; 40 minutes of one busy core, resumable.

    Set OMP_NUM_THREADS=1 if other processes compute at the same time: two threads then take many times longer.

    Returns:
        the file.
    """
    dataset = named_data(Experiment(**PUBLISHED["high β"], dataset="mnist"))
    started = time.perf_counter()
    shape = {name: SIZES[name] for name in ("dimensions", "components")}
    mixture = ImageMixture.fit(dataset.train.images, **shape)
    fit = {"images": len(dataset.train), **shape, "seconds": round(time.perf_counter() - started, 1)}
    control = Control(mixture, SIZES["samples"])
    depends = {"sizes": SIZES, "classifier sha256": load_classifier()[1]["sha256"], "data sha256": dataset.sha256}
    key = fingerprint([depends, mixture.weights.tolist()])
    ledger = Ledger(output() / "data" / "runs" / "gaussian_step" / f"measured-{key[:16]}.json")

    def remember(name: str, compute: Callable[[], Any]) -> Any:
        on_progress(name)
        return ledger(name, compute)

    real = metrics.features(control.embed, shuffled_test(dataset, 2 * SIZES["samples"]))
    fit["FID to test digits"] = metrics.fid(control.reference, real[: SIZES["samples"]])
    fit["FID of other test digits"] = metrics.fid(real[SIZES["samples"] :], real[: SIZES["samples"]])
    floors = remember("floors", partial(measure_floors, control, SIZES))
    divergences = [remember(f"divergences, β = {b}", partial(measure_divergences, control, b, SIZES)) for b in BETAS]
    chains = [
        remember(f"chain, β = {beta}, {variance}{', fine' * fine}", partial(measure_chain, control, *row, SIZES))
        | {"alpha_T": start_of(beta, SIZES)}
        for row in plan()
        for beta, variance, fine in [row]
    ]
    parts = [fit, floors, *divergences, *chains]
    found = {
        **depends,
        "exceptions": f"β in {ONCE}: one seed; β in {LATE}: from α_T = {LATE_ALPHA_T}; β = {min(BETAS)}: not optimal",
        "fit": fit,
        "floors": floors,
        "chains": chains,
        "divergences": divergences,
        "breaks": breaks(chains, floors),
        "device": f"{processor()}, {torch.get_num_threads()} thread(s), not alone",
        "seconds": round(sum(part["seconds"] for part in parts), 1),
    }
    write_json(GAUSSIAN_STEP, rounded(found))
    return GAUSSIAN_STEP
