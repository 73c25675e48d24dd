"""Locks: whoever comes second is refused in a sentence that says who works in a folder, and changes nothing.

The other processes are real: each says when it holds a lock, and waits on a pipe until it is told to go on.
"""

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from ddpm_utils.__main__ import main
from ddpm_utils.batch.jobs import Event, Job, execute_chain
from ddpm_utils.batch.sweep import FIRST_MINUTE
from ddpm_utils.lab import panels
from ddpm_utils.lab.training import LiveTraining
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.files import write_json
from ddpm_utils.system.locks import check_unlocked, delete_runs, empty, locked
from ddpm_utils.system.places import PROJECT
from ddpm_utils.training.experiments import PUBLISHED, Experiment
from ddpm_utils.training.restorations import RestorationExperiment

VALUES = PUBLISHED["high β"] | {"network": "lean_unet", "run_name": "watched", "batch_size": 8, "epochs": 2}
FIRST = PUBLISHED["high β"] | {"run_name": FIRST_MINUTE, "batch_size": 8}
HOLD = """
import sys
from contextlib import ExitStack
from pathlib import Path
from ddpm_utils.system.locks import locked
sys.argv = ["ddpm", "sweep", "mine.yaml"]
stack = ExitStack()
for line in sys.stdin:
    kind, _, folder = line.strip().partition(" ")
    if kind == "release":
        stack.close()
    else:
        stack.enter_context(locked(Path(folder), shared=kind == "shared"))
    print(kind, flush=True)
"""
TRAIN = """
import json, sys
from contextlib import closing
from dataclasses import replace
from ddpm_utils import data
from ddpm_utils.training.experiments import Experiment
values = json.loads(sys.argv[1])
sys.argv = ["ddpm", "train", "T=200"]
experiment = Experiment(**values)
digits = data.load("mnist_5k")
few = replace(digits, train=digits.train[:32], validation=digits.validation[:20])
with closing(experiment.train(experiment.open_run(few), few)) as steps:
    next(steps)
    print("held", flush=True)
    sys.stdin.readline()
    print(next(steps).step, flush=True)
"""


class Other:
    """Another process, which holds locks."""

    def __init__(self, script: str, output: Path, *arguments: str):
        environment = os.environ | {"DDPM_OUTPUT": str(output), "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", script, *arguments], env=environment, **pipes)

    def say(self, line: str = "") -> None:
        print(line, file=self.process.stdin, flush=True)

    def hear(self) -> str:
        return self.process.stdout.readline().strip()

    def hold(self, folder: Path, kind: str = "alone") -> None:
        self.say(f"{kind} {folder}")
        assert self.hear() == kind

    def end(self, *, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@contextmanager
def other(script: str, output: Path, *arguments: str):
    """A process that ends with the test."""
    process = Other(script, output, *arguments)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.end(kill=True)


def contents(folder: Path) -> dict[str, str]:
    """The sha256 of all files in a folder, but the notes and locks of processes that were refused."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".lock")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """Another process in the middle of an epoch of `VALUES`, and its output folder, which has other runs, too."""
    folder = tmp_path_factory.mktemp("output")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_OUTPUT", str(folder))
        runs = [Experiment(**PUBLISHED[name]).with_values(run_name=FIRST_MINUTE) for name in PUBLISHED]
        for run in runs:
            run.run_folder.mkdir(parents=True)
            run.run_folder.joinpath("losses.csv").write_text("kept", encoding="utf-8")
            run.table_path.write_text("kept", encoding="utf-8")
    with other(TRAIN, folder, json.dumps(VALUES)) as process:
        assert process.hear() == "held"
        yield folder, process.process.pid


@pytest.fixture(scope="module")
def waiting(tmp_path_factory):
    with other(HOLD, tmp_path_factory.mktemp("holder")) as process:
        yield process


@pytest.fixture
def holder(waiting):
    """Another process that holds what it is told to, until the end of the test."""
    yield waiting
    waiting.hold(Path(), "release")


@pytest.fixture
def beside(training, monkeypatch):
    """The output folder and the sentence that names the other process; at the end nothing has changed."""
    folder, pid = training
    monkeypatch.setenv("DDPM_OUTPUT", str(folder))
    before = contents(folder)
    assert len(before) == 4
    yield folder, rf"in use by ddpm train T=200 \(process {pid}, since \d{{4}}-\d\d-\d\d \d\d:\d\d\): wait for its end"
    assert contents(folder) == before
    plt.close("all")


@pytest.fixture
def few(digits):
    return replace(digits, train=digits.train[:32], validation=digits.validation[:20])


# Beside a training


@pytest.mark.parametrize("more", [[], ["--tensorboard"], ["epochs=50"]])
def test_a_second_training_is_refused(more, beside, capsys):
    values = [f"{name}={value}" for name, value in (VALUES | {"dataset": "mnist_5k"}).items()]
    assert main(["train", *values, *more]) == 1
    assert re.search(rf"^ddpm: .*/watched is {beside[1]}", capsys.readouterr().err, re.MULTILINE)


def test_a_training_before_decoding_is_refused(beside):
    with pytest.raises(CheckpointError, match=beside[1]):
        Experiment(**VALUES, dataset="mnist_5k").load_decoder("run")


def test_a_second_window_says_who_trains(beside, few):
    panel = panels.training(training := LiveTraining(Experiment(**VALUES), few))
    buttons, picture = panel.children
    train, again = buttons.children
    for _ in range(2):
        train.value = True
        while train.value:
            pass
        assert re.search(beside[1], picture.error)
    again.click()
    assert re.search(beside[1], picture.error)
    with pytest.raises(CheckpointError, match=beside[1]):
        list(training)


def test_clean_is_refused(beside, capsys):
    assert main(["clean"]) == 1
    assert re.search(rf"/watched is {beside[1]}", capsys.readouterr().err)


def test_run_is_refused_while_its_run_is_trained(beside, capsys, holder):
    """Of the two published schedules the second is in use: the first is not deleted either."""
    holder.hold(Experiment(**FIRST).run_folder)
    assert main(["run"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(rf"{FIRST_MINUTE} is in use by ddpm sweep mine.yaml \(process {holder.process.pid}, ", error)


# Beside other work


def test_clean_is_refused_beside_a_sweep(output, capsys, holder):
    """Between two experiments, too, when none of them is locked."""
    grid = output / "data" / "runs" / "mine"
    with locked(grid, shared=True):
        holder.hold(grid, "shared")
        kept = grid / "one" / "04_evaluation.ipynb"
        kept.parent.mkdir()
        kept.touch()
        assert main(["clean"]) == 1
        either = f"({holder.process.pid}|{os.getpid()})"
        assert re.search(rf"/mine is in use by .*\(process {either}, since", capsys.readouterr().err)
        assert kept.exists()
        holder.hold(Path(), "release")
        assert len(list(grid.glob(".lock-*"))) == 2  # this process's, with its note
    assert [path.name for path in grid.iterdir()] == ["one"]
    assert main(["clean"]) == 0
    assert not grid.exists()
    assert main(["clean"]) == 0


@pytest.mark.parametrize("place", ["data/runs", "data/runs/mine/one", "data/runs/mine/one/data/runs/constant/deep"])
def test_clean_sees_locks_at_any_depth(place, output, capsys, holder):
    """Of `ddpm run`, of an experiment in a sweep, and of a training in there."""
    holder.hold(output / place)
    assert main(["clean"]) == 1
    assert f"{output / place} is in use by ddpm sweep mine.yaml" in capsys.readouterr().err
    holder.hold(Path(), "release")
    assert main(["clean"]) == 0
    assert [path.name for path in (output / "data" / "runs").iterdir()] == [".lock"]


def test_an_experiment_of_two_sweeps_says_who_executes_it(output, monkeypatch, holder):
    monkeypatch.setattr("ddpm_utils.batch.jobs.LOCK_SECONDS", 0)
    job = Job("01_forward_process", {}, output / "one", output / "one", {"beta": 0.1, "T": 3})
    events: list[Event] = []
    holder.hold(job.folder)
    execute_chain([job], 1, events.append)
    assert events[0].message.startswith(f"{job.folder} is in use by ddpm sweep mine.yaml (process ")
    holder.hold(Path(), "release")
    holder.hold(trained := job.folder / "data" / "runs" / "constant" / "mnist-seed0")  # as a killed worker's kernel
    execute_chain([job], 1, events.append)
    assert events[1].message.startswith(f"{trained} is in use by ddpm sweep mine.yaml (process ")
    assert [event.state for event in events] == ["failed", "failed"]


def test_a_second_run_deletes_nothing_and_the_first_has_its_results(output, monkeypatch, capfd):
    """The second is started when the first has executed half of its notebooks."""
    experiments = [Experiment(**published) for published in PUBLISHED.values()]

    def pretend(chains, workers, threads):
        for experiment in experiments:
            write_json(experiment.table_path, {"rows": [{"schedule": experiment.title, "FID": 1.5}]})
            if experiment is experiments[0]:
                second = [sys.executable, "-m", "ddpm_utils", "run"]
                ended = subprocess.run(second, capture_output=True, encoding="utf-8", cwd=PROJECT, check=False)
                assert ended.returncode == 1
                assert re.fullmatch(rf"ddpm: .*/runs is in use by .*\(process {os.getpid()}, .*\n", ended.stderr)
        yield from (Event(job.folder.name, job.notebook, "done", seconds=1.0) for chain in chains for job in chain)

    monkeypatch.setattr("ddpm_utils.batch.engines.on_processes", pretend)
    assert main(["run"]) == 0
    rows = (output / "data" / "runs" / "results.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + len(experiments)


def test_run_deletes_nothing_before_its_values_are_checked(output, unchecked):
    kept = [Experiment(**PUBLISHED["low β"]).with_values(run_name=FIRST_MINUTE).run_folder / "losses.csv"]
    kept.append(Experiment(**PUBLISHED["low β"]).table_path)
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert main(["run", "betta=1"]) == 1
    assert all(path.exists() for path in kept)


# The lock


def test_a_killed_process_lets_go_and_its_note_misleads_nobody(tmp_path):
    with other(HOLD, tmp_path) as process:
        process.hold(tmp_path)
        process.end(kill=True)
    note = tmp_path / ".lock.json"
    assert json.loads(note.read_text(encoding="utf-8"))["process"] == process.process.pid
    with locked(tmp_path):
        assert json.loads(note.read_text(encoding="utf-8"))["process"] == os.getpid()
        with pytest.raises(CheckpointError, match=rf"\(process {os.getpid()}, since "), locked(tmp_path):
            pass
    assert not note.exists()
    check_unlocked(tmp_path)


@pytest.mark.parametrize("note", [None, "", "{}", '{"process": 1, "sha256": "0"}'])
def test_a_lock_without_a_proper_note_is_still_a_lock(note, tmp_path):
    with locked(tmp_path):
        tmp_path.joinpath(".lock.json").unlink()
        if note is not None:
            tmp_path.joinpath(".lock.json").write_text(note, encoding="utf-8")
        with pytest.raises(CheckpointError, match="is in use by another process: wait for its end"), locked(tmp_path):
            pass


@pytest.mark.parametrize("place", ["a file", "a file/below", "locked/read only"])
def test_a_folder_that_cannot_be_written_is_one_sentence(place, output, few, monkeypatch):
    def refused(lock):
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    output.joinpath("a file").touch()
    if "read only" in place:
        monkeypatch.setattr("filelock.FileLock.acquire", refused)
    with (
        pytest.raises(CheckpointError, match=r"cannot be written \(.*\); nothing was changed\."),
        locked(output / place),
    ):
        pass
    monkeypatch.setattr(Experiment, "run_folder", output / place)
    experiment = Experiment(**VALUES)
    with pytest.raises(CheckpointError, match="cannot be written"):
        next(experiment.train(experiment.open_run(few), few))


def test_a_full_disk_takes_the_note_but_not_the_lock(tmp_path, monkeypatch):
    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ddpm_utils.system.files.os.fsync", no_space)
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
        with pytest.raises(CheckpointError, match="another process"), locked(tmp_path):
            pass


def test_empty_keeps_the_lock_and_what_links_lead_to(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "mine").touch()
    (folder / "link").symlink_to(elsewhere)
    with locked(folder):
        empty(folder)
    assert [path.name for path in folder.iterdir()] == [".lock"]
    assert (elsewhere / "mine").exists()
    delete_runs([tmp_path / "nowhere"])
    assert not (tmp_path / "nowhere").exists()


# Within one process


@pytest.mark.parametrize("kind", [Experiment, RestorationExperiment])
def test_a_cell_that_was_interrupted_hands_its_run_over(kind, output, few):
    """The first loop still exists, as after an error in its body; it has saved what it made."""
    experiment = kind(batch_size=8, epochs=1, network="lean_unet", run_name="again")
    first = experiment.train(experiment.open_run(few), few)
    next(first)
    with closing(experiment.train(experiment.open_run(few), few)) as second:
        assert next(second).step == 2
    assert list(first) == []


def test_a_picture_goes_on_in_another_loop_and_after_another_window(output, few):
    experiment = Experiment(**VALUES)
    window, other_window = LiveTraining(experiment, few), LiveTraining(experiment, few)
    interrupted = iter(window)
    next(interrupted)
    again = iter(window)
    assert next(again).step == 2
    again.close()
    assert next(iter(other_window)).step == 3


def test_a_run_that_was_opened_too_early_overwrites_nothing(output, few):
    experiment = Experiment(**VALUES)
    early, late = experiment.open_run(few), experiment.open_run(few)
    for _ in experiment.with_values(epochs=1).train(late, few):
        pass
    before = contents(output)
    with pytest.raises(CheckpointError, match="was changed after this run was opened: open the run again"):
        next(experiment.train(early, few))
    assert contents(output) == before
    assert next(experiment.train(late, few)).step == 5
    empty(experiment.run_folder)
    with pytest.raises(CheckpointError, match="was changed after this run was opened"):
        next(experiment.train(late, few))


def test_a_finished_training_is_free_again(output, few):
    experiment = Experiment(**VALUES)
    with other(TRAIN, output, json.dumps(VALUES)) as process:
        assert process.hear() == "held"
        process.say()
        assert process.hear() == "2"
        process.end()
    run = experiment.open_run(few)
    assert run.step == 2
    losses = [progress.losses["train"] for progress in experiment.train(run, few)]
    alone = experiment.with_values(run_name="alone")
    expected = [progress.losses["train"] for progress in alone.train(alone.open_run(few), few)]
    torch.testing.assert_close(losses, expected[2:])
