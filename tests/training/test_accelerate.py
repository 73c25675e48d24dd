"""Training in two processes, in bfloat16, and logged to TensorBoard.

Two processes sum the gradient of a batch in another order than one does, so that losses agree up to float32's rounding,
6e-8 of a value; the tests allow 1e-5 after eight steps. Weights agree less: where a gradient is all but zero Adam
divides it by its size, rounding errors included, and a few weights differ by a hundredth of a step (2e-5, the learning
rate being 2e-3); the tests allow a tenth. A wrong share of the batch shows in the loss's second or third digit.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ddpm_utils import checkpoints, data
from ddpm_utils.__main__ import main
from ddpm_utils.networks.unets import LeanUNet
from ddpm_utils.system.locks import locked
from ddpm_utils.system.places import PROJECT
from ddpm_utils.training import loop
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.run import Run
from tests.few_digits import load_few
from tests.patience import PATIENCE, free_port

ON_FEW_DIGITS = str(Path(__file__).parents[1] / "few_digits.py")
TOGETHER = str(Path(__file__).with_name("together.py"))
CHOSEN = {"beta": 0.1, "T": 20, "dataset": "mnist_5k", "batch_size": 16, "learning_rate": 2e-3}  # 4 steps an epoch
OF_LOSSES = {"rtol": 1e-5, "atol": 0.0}
OF_WEIGHTS = {"rtol": 1e-3, "atol": 2e-4}


def arguments(network: str, epochs: int, **others) -> list[str]:
    """Of `ddpm train`, logged to TensorBoard."""
    values = CHOSEN | {"network": network, "epochs": epochs} | others
    return ["train", *(f"{name}={value}" for name, value in values.items()), "--tensorboard"]


def environment(output: Path, **others: str) -> dict[str, str]:
    """Of a process that trains on the CPU with one thread."""
    ours = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    return os.environ | ours | {"DDPM_OUTPUT": str(output)} | others


def launch(output: Path, *command: str) -> str:
    """Run a script under `accelerate launch` in two processes on the CPU; returns what they print."""
    options = ["--multi_gpu", "--num_processes=2", f"--main_process_port={free_port()}"]  # --cpu: one process
    line = [sys.executable, "-m", "accelerate.commands.launch", *options, *command]
    done = subprocess.run(
        line, env=environment(output), capture_output=True, encoding="utf-8", timeout=PATIENCE, cwd=PROJECT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_together(output: Path, commands: dict[str, list[str]]) -> list[dict[str, dict]]:
    """Run commands in two processes, with nothing beside them that would stop the other; returns what each tells."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [
        subprocess.Popen(
            [sys.executable, TOGETHER, str(output), json.dumps(commands)],
            env=environment(output, **shared, RANK=rank, LOCAL_RANK=rank),
            stderr=subprocess.PIPE,
            encoding="utf-8",
            cwd=PROJECT,
        )
        for rank in ("0", "1")
    ]
    try:
        errors = [process.communicate(timeout=PATIENCE)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], errors
    assert errors[1] == ""
    return [json.loads((output / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


def folder_of(network: str, **others) -> Path:
    return Experiment(network=network, **CHOSEN, **others).run_folder


def logged(folder: Path, name: str) -> dict[int, float]:
    """What TensorBoard would show: values by step."""
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    values = [(event.step, event.value) for event in events.Scalars(name)]
    assert len(dict(values)) == len(values), "a step was logged twice"
    return dict(values)


def assert_same_training(folder: Path, other: Path, steps: int) -> None:
    """The same losses of each step and epoch, weights and moments."""
    for name, count in {"train": steps, "validation": steps // 4}.items():
        curves = logged(folder, name), logged(other, name)
        assert list(curves[0]) == list(curves[1])
        assert len(curves[0]) == count
        torch.testing.assert_close(*(torch.tensor(list(curve.values())) for curve in curves), **OF_LOSSES)
    tensors, others = (checkpoints.load(f / "last.safetensors")[0] for f in (folder, other))
    torch.testing.assert_close(tensors, others, **OF_WEIGHTS)


# Two processes


def spoil(last: Path) -> None:
    """Make one of a run's weights undefined, as if it had been so when it was saved."""
    tensors, description = checkpoints.load(last)
    tensors["network.leave.bias"][0] = float("nan")
    network = LeanUNet()
    network.load_state_dict({n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")})
    checkpoints.save(last, tensors, description | {"probe": checkpoints.probe(network)})


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> dict:
    """What two processes make of commands, the last of which succeeds, and what is in the folders of the others."""
    output = tmp_path_factory.mktemp("together")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_OUTPUT", str(output))
        patch.setattr(data, "load", load_few)
        assert main(arguments("lean_unet", 1, run_name="spoiled")) == 0
        last, used = (folder_of("lean_unet", run_name=name) for name in ("spoiled", "used"))
        spoil(last / "last.safetensors")
        before = (last / "last.safetensors").read_bytes()
        commands = {
            "cannot be shared": ["train", "dataset=mnist_5k", "batch_size=15"],
            "in use": arguments("lean_unet", 1, run_name="used"),
            "not finite": arguments("lean_unet", 2, run_name="spoiled"),
            "trained": arguments("lean_unet", 1, run_name="two"),
        }
        with locked(used):
            processes = run_together(output, commands)
            left = sorted(path.name for path in used.iterdir())
    found = {name: [process[name] for process in processes] for name in commands}
    return found | {"output": output, "used": left, "untouched": (last / "last.safetensors").read_bytes() == before}


def errors_of_both(told: list[dict]) -> tuple[str, str]:
    """What two processes that failed printed to stderr."""
    assert [one["status"] for one in told] == [1, 1]
    first, second = (one["errors"] for one in told)
    return first, second


def test_two_processes_train_as_one_does_and_one_goes_on(together, few, monkeypatch):
    monkeypatch.setenv("DDPM_OUTPUT", str(together["output"]))
    assert [told["status"] for told in together["trained"]] == [0, 0]
    printed = "".join(told["output"] for told in together["trained"])
    assert "Processes: 2, device: cpu." in printed
    assert printed.count("Run folder") == printed.count("epoch 1") == 1
    assert main(arguments("lean_unet", 1, run_name="one")) == 0
    one, two = (folder_of("lean_unet", run_name=name) for name in ("one", "two"))
    assert_same_training(one, two, steps=4)
    assert sorted(path.name for path in two.iterdir()) == sorted(path.name for path in one.iterdir())
    assert len(list((two / "tensorboard").iterdir())) == 1
    for name in ("one", "two"):
        assert main(arguments("lean_unet", 2, run_name=name)) == 0
    assert_same_training(one, two, steps=8)


def test_launched_processes_go_on_from_one(few, output):
    """With the report's CNN: spectral convolutions, for which each process has just enough images."""
    assert main(arguments("cnn", 1)) == 0
    shutil.copytree(folder_of("cnn"), folder_of("cnn", run_name="two"))
    assert main(arguments("cnn", 2)) == 0
    printed = launch(output, ON_FEW_DIGITS, *arguments("cnn", 2, run_name="two"))
    assert "Processes: 2, device: cpu." in printed
    assert printed.count("Run folder") == printed.count("epoch 2") == 1
    assert_same_training(folder_of("cnn"), folder_of("cnn", run_name="two"), steps=8)


def test_a_loss_that_is_not_finite_ends_both(together):
    first, second = errors_of_both(together["not finite"])
    assert first.splitlines()[-1].startswith(
        "ddpm: training diverged: the loss became nan at step 5, while the answer 0"
    )
    assert second == ""
    assert together["untouched"]


def test_a_run_in_use_ends_both(together):
    """The main process alone takes the lock; the other one must not wait for it for ever."""
    first, second = errors_of_both(together["in use"])
    assert together["used"] == [".lock", ".lock.json"]
    assert re.search(rf"^ddpm: .* is in use by .*\(process {os.getpid()}, since .*$", first, re.MULTILINE)
    assert "in use" not in second


def test_a_batch_that_cannot_be_shared_ends_both(together):
    first, second = errors_of_both(together["cannot be shared"])
    assert first.splitlines()[-1] == "ddpm: batch_size = 15 is no multiple of 2 processes."
    assert second == ""


def test_refuses_processes_that_do_not_begin_alike(monkeypatch):
    """As on two machines that do not share the run folder: one would go on, the other begin."""
    monkeypatch.setattr(loop, "gather_object", lambda mine: [*mine, (4, 64)])
    experiment, dataset = Experiment(**CHOSEN), load_few("mnist_5k")
    with pytest.raises(ValueError, match=r"must share run folder and data, .* = \[\(0, 64\), \(4, 64\)\]"):
        next(experiment.train(Run(experiment.make_network()), dataset))


# Mixed precision


def losses_of_two_epochs() -> list[dict[str, float]]:
    experiment, dataset = Experiment(network="lean_unet", epochs=2, **CHOSEN), load_few("mnist_5k")
    dataset = replace(dataset, validation=dataset.validation[:16])
    run = Run(experiment.make_network(), learning_rate=experiment.learning_rate)
    return [progress.losses for progress in experiment.train(run, dataset)]


def test_bfloat16_follows_the_curve_of_float32(monkeypatch):
    """bfloat16 keeps 8 bits, 0.4 % of a value; the loss is a mean of many."""
    float32 = losses_of_two_epochs()
    assert float32[-1]["epoch_train"] < 0.5 * float32[3]["epoch_train"]  # there is a curve to follow
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    AcceleratorState._reset_state()  # which reads it once for each process
    try:
        bfloat16 = losses_of_two_epochs()
    finally:
        AcceleratorState._reset_state()
    for ours, theirs in zip(bfloat16, float32, strict=True):
        assert ours == pytest.approx(theirs, rel=0.03)
    assert bfloat16 != float32


# TensorBoard


def test_tensorboard_goes_on_at_the_right_step(few):
    """Also after a crash: what was logged since the last save is made again, and replaces what was there."""
    assert main(arguments("lean_unet", 1)) == 0
    folder = folder_of("lean_unet")
    last = (folder / "last.safetensors").read_bytes()
    assert main(arguments("lean_unet", 2)) == 0
    (folder / "last.safetensors").write_bytes(last)
    assert main(arguments("lean_unet", 2)) == 0
    train, epochs, validation = (logged(folder, name) for name in ("train", "epoch_train", "validation"))
    assert list(train) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert list(epochs) == list(validation) == [4, 8]
    assert epochs[8] == pytest.approx(sum(train[step] for step in (5, 6, 7, 8)) / 4)
    history = checkpoints.load(folder / "last.safetensors")[1]["history"]
    assert list(validation.values()) == pytest.approx([row[2] for row in history])


def test_without_tensorboard_one_sentence_says_what_to_install(few, monkeypatch, capsys):
    monkeypatch.setattr("accelerate.utils.is_tensorboard_available", lambda: False)
    assert main(arguments("lean_unet", 1)) == 1
    expected = "ddpm: --tensorboard needs a package that is not installed: pip install tensorboard.\n"
    assert capsys.readouterr().err == expected
    assert not folder_of("lean_unet").exists()


def test_nothing_is_logged_unless_asked_for(few):
    assert main(arguments("lean_unet", 1)[:-1]) == 0
    assert not (folder_of("lean_unet") / "tensorboard").exists()
