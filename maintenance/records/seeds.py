"""The networks behind the verdicts of notebooks 04 and 05, each with three seeds, and how they are trained.

Weights with seed 0 are shipped where the project ships them; all others stay in data/runs. Every training resumes.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from ddpm_utils import checkpoints
from ddpm_utils.networks.parameterisation import TARGETS, WEIGHTINGS
from ddpm_utils.system.files import read_json, write_json
from ddpm_utils.training.base import Decoder, TrainingSetup
from ddpm_utils.training.experiments import LEAN, PUBLISHED, Experiment
from ddpm_utils.training.restorations import RestorationExperiment
from maintenance.records import controls

SEEDS = (0, 1, 2)
DIVERGED = "diverged.json"
OFF_BY_ONE = {"schedule": "custom", "betas": [1 - 0.9**2] + 199 * [0.1], "T": 200}
"""The schedule on which the published code trained for β = 0.1: α_t = 0.9^(t+1), because its index is off by one."""
TRAINED_ON: dict[str, dict[str, Any]] = {**PUBLISHED, "high β, off by one": OFF_BY_ONE}


def decoder_of(network: str, trained_on: str, seed: int) -> Experiment:
    """Return the experiment of a network of the decomposition: the CNN with 50 epochs, or the lean U-Net with 36.

    Args:
        network: "cnn" or "lean_unet".
        trained_on: one of `TRAINED_ON`.
        seed: of the training.
    """
    how = LEAN if network == "lean_unet" else {"network": network, "epochs": 50}
    return Experiment(**TRAINED_ON[trained_on] | how, dataset="mnist", seed=seed)


DECOMPOSED = [
    decoder_of(network, schedule, seed)
    for seed in SEEDS
    for network, schedule in (
        *((network, schedule) for network in ("cnn", "lean_unet") for schedule in PUBLISHED),
        ("cnn", "high β, off by one"),
    )
]
"""CNN and lean U-Net on both published schedules, and the CNN trained with α off by one."""
EPOCHS = 3
"""Of the hot and cold networks that are compared with several seeds: equal training, ten minutes of one core."""
COMPARED = ("noise", "blur")
HOT_AND_COLD = [
    RestorationExperiment(name, dataset="mnist", epochs=EPOCHS, seed=seed, run_name=f"three-epochs-seed{seed}")
    for seed in SEEDS
    for name in COMPARED
]
"""One hot and one cold restoration: the same network, loss and training; only D differs."""
ROUNDED = [controls.RoundedExperiment("blur", dataset="mnist", epochs=EPOCHS, seed=seed) for seed in SEEDS]
"""Restorations from latents that are rounded to 256 grey levels."""
MORE_EPOCHS = RestorationExperiment(
    "blur", first_weights="shipped", dataset="mnist", epochs=7, learning_rate=1e-3, run_name="seven-more-epochs"
)
"""The control of the blurs with a little noise: as many more epochs as they had, without noise."""
PARAMETERISED = [
    Experiment(
        "cosine", T=1000, **LEAN | {"epochs": 7}, target=target, weighting=weighting, dataset="mnist", seed=seed,
        run_name=f"seven-epochs-seed{seed}",
    )
    for seed in SEEDS[:2]
    for target in TARGETS
    for weighting in WEIGHTINGS
]  # fmt: skip
"""Three targets and two weightings, with equal epochs and therefore equal time."""
RECEPTIVE = [
    Experiment("cosine", T=1000, network=network, dataset="mnist", epochs=1, seed=seed, run_name=f"one-epoch-{seed}",
               **controls.CNN_SETTINGS)
    for seed in SEEDS[:2]
    for network in ("cnn", controls.DILATED)
]  # fmt: skip
"""The report's CNN and a dilated one of the same size, with the same optimiser and the same epochs."""
ALL: list[TrainingSetup] = [*DECOMPOSED, *HOT_AND_COLD, MORE_EPOCHS, *ROUNDED, *RECEPTIVE, *PARAMETERISED]


def load(experiment: TrainingSetup) -> Decoder:
    """Return the decoder of one of these experiments: shipped for seed 0 where it is shipped, else of its own run."""
    return experiment.load_decoder("shipped" if _is_shipped(experiment) else "run")


def _is_shipped(experiment: TrainingSetup) -> bool:
    standard = experiment.seed == 0 and not experiment.run_name
    return standard and (experiment.shipped_folder / "weights.safetensors").exists()


def is_trained(experiment: TrainingSetup) -> bool:
    """Return whether `load` finds finished weights."""
    if _is_shipped(experiment):
        return True
    folder = experiment.run_folder
    return (folder / "best.safetensors").exists() and not (folder / "last.safetensors").exists()


def finish(experiment: TrainingSetup) -> None:
    """Round the best weights to 16 bits (part 1) or 8 bits, and delete what only resuming needs.

    What is measured later is then what is kept, and it is small enough to be carried to another machine.
    """
    folder = experiment.run_folder
    tensors, label = checkpoints.load(folder / "best.safetensors")
    rounded = checkpoints.compress(tensors, 16 if experiment in DECOMPOSED else 8)
    network = experiment.make_network()
    network.load_state_dict(checkpoints.expand(rounded))
    label[checkpoints.PROBE] = checkpoints.probe(network)
    checkpoints.save(folder / "best.safetensors", rounded, label)
    (folder / "last.safetensors").unlink()


def train(experiment: TrainingSetup) -> None:
    """Train one network to its end, or go on from where its run is. A divergence is kept: it is a result, too."""
    dataset = experiment.load_data()
    try:
        for _ in experiment.train(experiment.open_run(dataset), dataset):
            pass
        finish(experiment)
    except FloatingPointError as error:
        write_json(experiment.run_folder / DIVERGED, {"error": str(error)})


def divergence(experiment: TrainingSetup) -> str:
    """Return the sentence with which a training diverged; "" if it did not."""
    path = experiment.run_folder / DIVERGED
    return read_json(path)["error"] if path.exists() else ""


def train_all(
    experiments: Iterable[TrainingSetup] = ALL,
    *,
    workers: int = 1,
    then: Callable[[TrainingSetup], None] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Train what is not trained yet, in this order, so many at a time.

    Args:
        workers: processes, of one thread each if there are several. One GPU serves all of them.
        then: called in the same process after each training, also for networks that were trained before.
    """
    waiting = [e for e in experiments if not divergence(e) and (then or not is_trained(e))]
    if workers == 1:
        for experiment in waiting:
            _work(experiment, then, say)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=_one_thread, maxtasksperchild=1) as pool:
        started = time.perf_counter()
        jobs = [(e, pool.apply_async(_work, (e, then, None))) for e in waiting]
        for experiment, job in jobs:
            job.get()
            say(f"{time.perf_counter() - started:.0f} s: {experiment.title}, seed {experiment.seed}")


def _one_thread() -> None:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


def _work(
    experiment: TrainingSetup, then: Callable[[TrainingSetup], None] | None, say: Callable[[str], None] | None
) -> None:
    if not is_trained(experiment):
        train(experiment)
    if then:
        then(experiment)
    if say:
        say(f"{experiment.title}, seed {experiment.seed}")


def names(experiments: Sequence[TrainingSetup] = ALL) -> list[str]:
    """Return one line for each experiment, in order: what is trained, its seed, and whether it is done."""
    return [f"{e.run_folder.parent.name}/{e.run_folder.name}: {'done' if is_trained(e) else '-'}" for e in experiments]
