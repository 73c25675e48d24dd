"""Training and network calls on a CUDA device: how fast they are, and how far their numbers are from the CPU's."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from ddpm_utils import data
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.loop import Progress, train
from ddpm_utils.training.run import Run as TrainingRun
from maintenance.benchmarks.networks import BATCH
from maintenance.benchmarks.race import Run, rate_text, take_turns
from maintenance.report import Section, Verdict

NETWORKS = ("cnn", "lean_unet")
EPOCHS = 50
MINUTES = f"{EPOCHS} epochs, minutes"
FORMS = {"float32": ("no", False), "bfloat16": ("bf16", False), "torch.compile": ("no", True)}
"""Name → accelerate's mixed precision, and whether the network is compiled."""


class Sizes(NamedTuple):
    """How much is measured.

    Args:
        batch: images in a training step or network call.
        steps, calls: in each round.
        rounds: after one more, which is the warm-up.
        compared: the first training steps, whose losses are compared with the CPU's.
        images: to train on; None for all.
    """

    batch: int = BATCH
    steps: int = 90  # four times as many are fewer than MNIST's 375 an epoch: nothing is validated meanwhile
    calls: int = 100
    rounds: int = 3
    compared: int = 10
    images: int | None = None


FULL = Sizes()


def accelerator_on(device: str, precision: str = "no") -> Accelerator:
    """Return an accelerator for "cuda" or "cpu". Accelerate keeps one state per process, which is reset first."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device == "cpu", mixed_precision=precision)


def training(
    network: str, device: str, images: Tensor, batch: int = BATCH, form: str = "float32"
) -> Iterator[Progress]:
    """Train a new network without end; the accelerators of trainings before can no longer be used.

    Args:
        network: one of `NETWORKS`.
        device: "cuda" or "cpu".
        images: to train on, shape (n, 1, 28, 28).
        form: one of `FORMS`.
    """
    precision, compiled = FORMS[form]
    experiment = Experiment(network=network)
    model = experiment.make_network()
    if compiled:
        model.compile()
    return train(
        TrainingRun(model),
        experiment.objective,
        images,
        images[:batch],
        epochs=10**6,
        batch_size=batch,
        accelerator=accelerator_on(device, precision),
    )


def training_steps(network: str, device: str, form: str, images: Tensor, sizes: Sizes = FULL) -> Run:
    """Return a run of training steps; the arguments are those of `training`."""
    progress = training(network, device, images, sizes.batch, form)

    def run() -> int:
        for _ in itertools.islice(progress, sizes.steps):  # each waits for its loss
            pass
        return sizes.steps * sizes.batch

    return run


def network_calls(network: str, device: str, form: str, sizes: Sizes = FULL) -> Run:
    """Return a run of calls of the shipped network, without gradients; it ends when the device has done them all."""
    precision, compiled = FORMS[form]
    model = Experiment(network=network).load_decoder("shipped").network.to(device)
    if compiled:
        model.compile()
    z, time = inputs(sizes.batch, device)

    @torch.inference_mode()
    def run() -> int:
        wait_for(device)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            for _ in range(sizes.calls):
                model(z, time)
        wait_for(device)
        return sizes.calls * sizes.batch

    return run


def inputs(batch: int, device: str) -> tuple[Tensor, Tensor]:
    """Return z and t/T of one batch, drawn on the CPU."""
    z = torch.randn((batch, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    return z.to(device), torch.linspace(0, 1, batch).to(device)


def wait_for(device: str) -> None:
    """Wait until a CUDA device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def losses(network: str, device: str, images: Tensor, sizes: Sizes = FULL) -> Tensor:
    """Return the losses of the first training steps, shape (compared,)."""
    progress = itertools.islice(training(network, device, images, sizes.batch), sizes.compared)
    return torch.tensor([step.losses["train"] for step in progress])


@torch.inference_mode()
def answers(network: str, device: str, sizes: Sizes = FULL) -> Tensor:
    """Return the answers of the shipped network for one batch, on the CPU."""
    model = Experiment(network=network).load_decoder("shipped").network.to(device)
    return model(*inputs(sizes.batch, device)).cpu()


def differences(network: str, device: str, images: Tensor, sizes: Sizes = FULL) -> list[dict[str, str]]:
    """Compare a device's float32 numbers with the CPU's, with TF32 convolutions (PyTorch's default) and without.

    Returns:
        rows of the table: the largest relative difference of a loss, and the largest difference of an answer relative
        to the largest answer.
    """
    loss, answer = losses(network, "cpu", images, sizes), answers(network, "cpu", sizes)
    rows = []
    for form, allow_tf32 in {"float32": True, "float32 without TF32": False}.items():
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=allow_tf32):
            loss_here, answer_here = losses(network, device, images, sizes), answers(network, device, sizes)
        found = {
            f"losses of the first {sizes.compared} training steps": ((loss_here - loss).abs() / loss).max(),
            "answers for one batch": (answer_here - answer).abs().max() / answer.abs().max(),
        }
        rows += [
            {"network": network, "work": work, "form": form, "difference from the CPU": f"{value.item():.1e}"}
            for work, value in found.items()
        ]
    return rows


def speeds(
    network: str, device: str, images: Tensor, sizes: Sizes = FULL, forms: Sequence[str] = tuple(FORMS)
) -> list[dict[str, str]]:
    """Time training and calls in each form, one after the other.

    Returns:
        rows of the table: images per second, or why a form cannot run here.
    """
    setups: dict[str, Callable[[str], Run]] = {
        "training": lambda form: training_steps(network, device, form, images, sizes),
        "calls": lambda form: network_calls(network, device, form, sizes),
    }
    rows = []
    for (work, setup), form in itertools.product(setups.items(), forms):
        row = {"network": network, "work": work, "form": form}
        try:
            result = take_turns({form: setup(form)}, sizes.rounds)[form]
        except Exception as error:  # torch.compile without a C++ compiler, say: the others go on
            row["images/s"] = f"not run: {type(error).__name__}: {error}".splitlines()[0]
        else:
            row["images/s"] = rate_text(result)
            if work == "training":
                row[MINUTES] = f"{EPOCHS * len(images) * result.median / 60:.1f}"
        rows.append(row)
    return rows


def on_cuda(device: str = "cuda", sizes: Sizes = FULL, forms: Sequence[str] = tuple(FORMS)) -> Section:
    """Both networks on a CUDA device: training, calls, and their numbers beside the CPU's.

    Args:
        device: "cuda"; "cpu" tries this part out.
        forms: those of `FORMS` to time.

    Raises:
        RuntimeError: if there is no CUDA device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("there is no CUDA device.")
    images = data.load("mnist").train.images[: sizes.images]
    rows, summary = [], []
    try:
        for network in NETWORKS:
            timed = speeds(network, device, images, sizes, forms)
            minutes = ", ".join(f"{row['form']} {row[MINUTES]}" for row in timed if MINUTES in row)
            summary.append(f"{network}: {minutes} minutes ({len(images):,} images an epoch)")
            rows += timed + differences(network, device, images, sizes)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)  # the next training finds its device by itself
    name = torch.cuda.get_device_name() if device == "cuda" else "the CPU"
    note = (
        f"On {name}, batch {sizes.batch}: `train` without validation, calls without gradients, median and range of "
        f"{sizes.rounds} rounds. {MINUTES}: for {len(images):,} images an epoch at that rate. bfloat16: by autocast. "
        "All noise and weights are drawn on the CPU, so both devices compute the same up to rounding. Differences: of "
        "a loss relative to that loss, of an answer (shipped weights) relative to the largest answer, the largest of "
        "each. By default, PyTorch computes float32 convolutions on CUDA in TF32, which rounds factors to 10 bits."
    )
    verdict = Verdict(f"{EPOCHS} epochs on CUDA, cnn and lean_unet", "about 1 minute", "; ".join(summary))
    return Section("CUDA", pd.DataFrame(rows), note, (verdict,))
