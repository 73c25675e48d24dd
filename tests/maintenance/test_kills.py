"""The arithmetic of the kills and of the bad disks: what counts as a kill, as the same, as spoiled, as one sentence."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from ddpm_utils import checkpoints
from ddpm_utils.system.files import LEFT_OVER_SECONDS, SEAL, fingerprint
from ddpm_utils.system.places import PROJECT
from maintenance.reliability import bad_disk, kills, work
from maintenance.reliability.kills import Kind, Trial
from tests.patience import PATIENCE, outliving, wait_until

EMPTY = json.dumps({SEAL: fingerprint({})})  # a ledger without entries
TENSORS = {"weight": torch.tensor([1.0, 2.0])}


def state(folder, *, weight=2.0, seconds=1.0, loss=0.5, epochs=1):
    """What a training leaves."""
    folder.mkdir(exist_ok=True)
    history = [[epoch, 0.7, loss, seconds] for epoch in range(epochs)]
    description = {"history": history, "seconds": seconds}
    checkpoints.save(folder / "last.safetensors", {"weight": torch.tensor([1.0, weight])}, description)
    rows = [f"{epoch},0.7,{loss},{seconds}\n" for epoch in range(epochs)]
    (folder / "losses.csv").write_text("".join(["epoch,train_loss,validation_loss,seconds\n", *rows]))
    return folder


def test_runs_are_the_same_but_for_their_seconds(tmp_path):
    first = work.left(state(tmp_path / "first"))
    assert set(first) == {"last.safetensors", "losses.csv"}
    assert work.left(state(tmp_path / "later", seconds=2.0)) == first
    bit = 2.0000002384185791015625  # the next number in float32
    for number, change in enumerate([{"weight": bit}, {"loss": 0.25}, {"epochs": 2}]):
        other = work.left(state(tmp_path / str(number), **change))
        assert other["last.safetensors"] != first["last.safetensors"]
        assert ("weight" in change) == (other["losses.csv"] == first["losses.csv"])


def test_a_ledger_and_a_table_are_compared_byte_by_byte(tmp_path):
    for name in ("results-0.json", "results.csv"):
        (tmp_path / name).write_text("1.0")
        before = work.left(tmp_path)
        (tmp_path / name).write_text("1.00")
        assert work.left(tmp_path) != before


def test_spoiled_files_are_seen_and_temporary_ones_told_from_them(tmp_path):
    state(tmp_path)
    (tmp_path / "results-0.json").write_text(EMPTY)
    (tmp_path / ".last.safetensors.abcdefgh").write_bytes(b"half")
    (tmp_path / "02_training.unfinished.ipynb").write_text('{"half')
    (tmp_path / ".lock").touch()
    assert work.damaged(tmp_path) == []
    assert [path.name for path in work.temporary(tmp_path)] == [".last.safetensors.abcdefgh"]
    spoiled = {"last.safetensors": "x", "results-0.json": '{"half', "02_training.ipynb": "{", "results.csv": ""}
    for name, content in spoiled.items():
        (tmp_path / name).write_text(content)
    assert {path.name for path in work.damaged(tmp_path)} == set(spoiled)


def test_the_moments_of_a_training(tmp_path):
    assert kills.moment_of_training(tmp_path) == "before the first checkpoint"
    state(tmp_path)
    assert kills.moment_of_training(tmp_path) == "between two checkpoints"
    state(tmp_path, epochs=kills.EPOCHS)
    assert kills.moment_of_training(tmp_path) == "after the last checkpoint"


@pytest.mark.parametrize(
    ("count", "in_a_row", "expected"), [(3, 1, [1, 1, 1]), (5, 5, [5]), (7, 5, [5, 2]), (2, 5, [2])]
)
def test_kills_are_shared_out(count, in_a_row, expected):
    assert kills.lengths(count, in_a_row) == expected


def writer(kills: int, content: str) -> list[str]:
    """A process that writes a ledger; beside it, at first, a temporary file that it never renames.

    It waits to be killed, so many times, before it writes.
    """
    lines = [
        "import pathlib, signal, sys",
        "folder = pathlib.Path(sys.argv[1])",
        "temporary = folder / '.results-0.json.abcdefgh'",
        "temporary.exists() or temporary.touch()",
        "begun = folder / f'begun-{len(list(folder.glob(\"begun-*\")))}'",
        "begun.touch()",
        "(folder / 'log.txt').touch()",
        f"begun.name < 'begun-{kills}' and signal.pause()",
        f"(folder / 'results-0.json').write_text({content!r})",
    ]
    code = "\n".join(lines)
    return [sys.executable, "-c", code]


def kind(monkeypatch, kills_: int, content: str = EMPTY) -> Kind:
    """A kind of work that needs no start-up."""

    def start(command, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log.txt").unlink(missing_ok=True)
        process = subprocess.Popen([*command, str(folder)], start_new_session=True)
        wait_until((folder / "log.txt").exists, "the writer's start")
        return process

    monkeypatch.setattr(kills, "start", start)
    return Kind("writer", 2, 1, 1, lambda _: writer(kills_, content), kills.moment_of_sampling, kills.kill_alone)


def test_a_kill_counts_and_its_work_is_compared(tmp_path, monkeypatch):
    expected = {"results-0.json": hashlib.sha256(EMPTY.encode()).hexdigest()}
    waits = [0, 0]
    trial = kills.attempt(kind(monkeypatch, 2), tmp_path / "same", waits, expected)
    assert trial == Trial(["writing a file", "before the first part"], True, 0, 1, 1, 0)
    leftover = tmp_path / "same" / ".results-0.json.abcdefgh"
    assert time.time() - leftover.stat().st_mtime > LEFT_OVER_SECONDS
    other = kills.attempt(kind(monkeypatch, 1, f"{EMPTY} "), tmp_path / "other", waits[:1], expected)
    assert (len(other.moments), other.equal) == (1, False)


def test_a_process_that_has_ended_was_not_killed(tmp_path, monkeypatch):
    trial = kills.attempt(kind(monkeypatch, 0), tmp_path / "ended", [PATIENCE, PATIENCE], {})
    assert trial.moments == []
    assert not trial.equal


def test_all_that_a_process_started_is_killed():
    code = "import subprocess, sys; subprocess.run(['sleep', 'infinity'], start_new_session=True)"
    process = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: kills.descendants(process), "the child's start")
    started = kills.descendants(process)
    kills.kill_all(process)
    assert process.wait() == -signal.SIGKILL
    assert outliving(started) == []


def test_work_is_forked_killed_waited_for_and_resumed(tmp_path):
    """In a process of its own, since this one may have forked another kind of work already."""
    code = """
import pathlib, subprocess, sys
from maintenance.reliability.work import left, start
folder = pathlib.Path(sys.argv[1])
training = start(["train", "2"], folder / "killed")
try:
    training.wait(0)  # it takes far longer, on any machine
except subprocess.TimeoutExpired:
    training.kill()
print(training.wait(), start(["train", "2"], folder / "killed").wait(), start(["train", "2"], folder / "alone").wait())
print(left(folder / "killed") == left(folder / "alone") != {}, start(["train", "never"], folder / "wrong").wait())
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == ["-9", "0", "0", "True", "1"]
    assert "ddpm: epochs" in (tmp_path / "wrong" / work.LOG).read_text(encoding="utf-8")


def test_a_line_of_the_table_counts_kills_by_their_work():
    found = [Trial(["a", "b"], True, 0, 1, 0, 0), Trial(["a"], False, 2, 0, 0, 1), Trial([], True, 0, 0, 0, 0)]
    line = kills.row(kills.KINDS[0], found, 6.0)
    assert (line["kills"], line["the same bits"], line["moments"]) == (3, 2, "2 a, 1 b")
    assert (line["spoiled files"], line["temporary files"], line["processes left"]) == (2, 1, 1)


def test_fifty_kills():
    assert sum(kind.kills for kind in kills.KINDS) == 50


GOOD = {"exit status": 1, "one sentence": True, "untouched": True, "temporary files": 0}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"then": True}, True),
        ({"then": False}, False),
        ({"exit status": 0}, False),
        ({"exit status": -9}, False),
        ({"one sentence": False}, False),
        ({"untouched": False}, False),
        ({"temporary files": 1}, False),
    ],
)
def test_what_a_bad_disk_must_not_do(change, expected):
    assert bad_disk.holds(GOOD | change) is expected


def test_sentences():
    printed = "Traceback (most recent call last):\nddpm: no.\nFAILED      one / two, no.\nother\n"
    assert bad_disk.sentences(printed) == ["ddpm: no.", "FAILED      one / two, no."]


def test_where_nothing_can_be_mounted_nothing_is_tried(monkeypatch):
    def refused(command):
        raise OSError("mount: only root can do that.")

    monkeypatch.setattr(bad_disk, "_mount", refused)
    section = bad_disk.report()
    assert section.note == "not tried: no file system can be mounted here (mount: only root can do that.)"
    assert section.verdicts[0].measured == section.note


def test_a_full_disk_is_full():
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(bad_disk.small_disk())
        except OSError as error:
            pytest.skip(f"no file system can be mounted here: {error}")
        bad_disk.spoil("full", disk)
        with pytest.raises(OSError, match="No space left"):
            (disk / "more").write_bytes(bytes(10_000))
        bad_disk.mend("full", disk)
        (disk / "more").write_bytes(bytes(10_000))
        bad_disk.spoil("read-only", disk)
        with pytest.raises(OSError, match="Read-only"):
            (disk / "more").write_bytes(b"")
        bad_disk.mend("read-only", disk)
        os.unlink(disk / "more")
    assert not disk.exists()
