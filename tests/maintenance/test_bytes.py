"""Damaged files: the counting itself, and a few damages of each kind of file."""

import json
import random
from collections import Counter
from contextlib import ExitStack

import pytest

from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.places import PROJECT
from maintenance.reliability import bad_bytes
from maintenance.reliability.bad_bytes import EDGE, OUTCOMES, cut, examine, flipped, outcome, verdicts
from maintenance.reliability.kinds_of_files import Kind, kinds


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """All kinds of files but MNIST's, which take long to read."""
    with ExitStack() as stack:
        found, _ = kinds(tmp_path_factory.mktemp("files"), stack)
        yield {kind.name: kind for kind in found if not kind.name.startswith("MNIST")}


def kind_of(path, read) -> Kind:
    path.write_bytes(b"intact")
    return Kind("a kind", path, lambda: read(path.read_bytes()))


def refuse(error: Exception):
    """A reader that refuses all but the intact file."""

    def read(content: bytes) -> str:
        if content != b"intact":
            raise error
        return "content"

    return read


def test_a_flip_changes_one_byte_and_half_of_them_are_near_an_end():
    content, random_ = bytes(100_000), random.Random(0)
    places = []
    for _ in range(400):
        damaged = flipped(content, random_)
        assert len(damaged.strip(b"\0")) == 1
        places.append(len(damaged.rstrip(b"\0")) - 1)
    near = sum(place < EDGE or place >= len(content) - EDGE for place in places)
    assert 0.4 < near / len(places) < 0.7
    assert all(len(cut(content, random_)) < len(content) for _ in range(100))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CheckpointError("file is damaged: delete it."), "detected"),
        (ValueError("file is damaged: delete it."), "detected"),
        (CheckpointError("it is damaged"), "foreign error"),  # which one?
        (CheckpointError("file is\ndamaged"), "foreign error"),
        (KeyError("file"), "foreign error"),
        (json.JSONDecodeError("file", "", 0), "foreign error"),  # a ValueError, but not ours
    ],
)
def test_only_our_own_sentences_count_as_detected(tmp_path, error, expected):
    kind = kind_of(tmp_path / "file", refuse(error))
    kind.path.write_bytes(b"other")
    assert outcome(kind, "content")[0] == expected


def test_what_is_read_decides_between_harmless_and_unnoticed(tmp_path):
    blind = examine(kind_of(tmp_path / "file", lambda content: "content"), 20, 5)
    assert blind[:2] == (Counter(harmless=20), Counter(harmless=5))
    trusting = examine(kind_of(tmp_path / "file", lambda content: content.hex()), 20, 5)
    assert trusting[:2] == (Counter(unnoticed=20), Counter(unnoticed=5))
    assert (tmp_path / "file").read_bytes() == b"intact"


def test_the_verdict_adds_up():
    rows = [{f"{what}: {name}": 1 for what in ("flips", "cuts") for name in OUTCOMES} for _ in range(3)]
    (verdict,) = verdicts(rows)
    assert verdict.what == "24 damaged files of 3 kinds"
    assert verdict.measured == "6 detected, 6 harmless, 6 unnoticed, 6 foreign error"


def test_no_damage_goes_unnoticed(files):
    assert len(files) == 20
    assert not any(kind.path.is_relative_to(PROJECT) for kind in files.values())  # copies are damaged, nothing else
    for kind in files.values():
        flips, cuts, foreign = examine(kind, flips=6, cuts=2)
        assert foreign == []
        assert flips["unnoticed"] == cuts["unnoticed"] == 0, kind.name
        assert flips["detected"] + flips["harmless"] == 6


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("recorded results.json", b"0.31", b"0.32"),
        ("recorded losses.csv", b"0.0246", b"0.0146"),
        ("recorded calls.csv", b"2000", b"3000"),
        ("decoders.json", b"0.1", b"0.2"),
        ("table.json", b"12.5", b"12.6"),
        ("sweep's results.json, for the site", b"12.5", b"12.6"),
        ("executed notebook, for the site", b"FID", b"FIX"),
        ("ledger", b"0.31", b"0.32"),
    ],
)
def test_another_digit_is_noticed(files, name, old, new):
    kind = files[name]
    content, expected = kind.path.read_bytes(), kind.read()
    assert old in content
    kind.path.write_bytes(content.replace(old, new, 1))
    assert outcome(kind, expected)[0] == "detected"
    kind.path.write_bytes(content)


def test_another_grid_is_told_from_the_same_one(files):
    kind = files["grid"]
    text, expected = kind.path.read_text(encoding="utf-8"), kind.read()
    for changed in (text.replace("0.1]", "0.2]"), text.replace("Two", "Too")):
        kind.path.write_text(changed, encoding="utf-8")
        assert outcome(kind, expected) == ("harmless", "")
    kind.path.write_text(text, encoding="utf-8")


def test_a_reader_that_trusts_its_file_is_found_out(files, monkeypatch):
    """Without the seal a changed digit is not noticed: the report would say so."""
    monkeypatch.setattr(
        "ddpm_utils.system.files.fingerprint",
        lambda content: json.loads(files["decoders.json"].path.read_text())["sha256"],
    )
    flips, _, _ = examine(files["decoders.json"], flips=40, cuts=0)
    assert flips["unnoticed"] > 5


def test_the_note_says_how(tmp_path):
    text = bad_bytes.note(["MNIST is not there."], ["a kind: KeyError: x"])
    assert text.startswith("Seed 0. Each file is damaged 200 times")
    assert text.endswith("MNIST is not there.\n\na kind: KeyError: x")
