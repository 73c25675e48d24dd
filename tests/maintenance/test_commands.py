"""The maintainers' command: what it lists, refuses, and writes into the README."""

import errno
import os
import re

import pytest

from ddpm_utils.evaluation.recorded_tables import readme_tables, recorded_table
from ddpm_utils.system.places import PROJECT
from ddpm_utils.training.base import TrainingSetup
from maintenance.__main__ import main


def test_lists_its_commands(capsys):
    names = ("notebooks", "benchmarks", "reliability", "records")
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 0
    listed = capsys.readouterr().out
    assert all(f"\n    {name}" in listed for name in names)


def test_contributing_lists_the_commands_of_records(capsys):
    """And no other, which would be refused."""
    with pytest.raises(SystemExit):
        main(["records", "--help"])
    offered = set(re.findall(r"^    ([a-z-]+)(?:  |$)", capsys.readouterr().out, re.MULTILINE))
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"python -m maintenance records ([a-z-]+)", text))
    assert listed == offered
    assert {"seeds", "decomposition", "information", "parameterisation", "gaussian-step"} <= offered


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["records", "measure", "dataset=mnist_5k", "samples=many"], "samples must be an integer, not 'many'."),
        (["records", "measure", "degradation=blur", "images=many"], "images must be an integer, not 'many'."),
        (["records", "ship", "betta=0.1"], "there is no parameter 'betta'; there are schedule, beta"),
        (["benchmarks", "speed"], "there is no part 'speed'; there are training, calls"),
        (["reliability", "strain"], "command must be one of stress, determinism, mutants, soak, not 'strain'."),
        (["reliability", "stress", "soak"], "there is no part 'soak' of stress; there are kills"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, capsys, unchecked):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"python -m maintenance: {sentence}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("what", "parameters"),
    [
        ("measure", ["run_name=mistyped"]),  # of weights that are shipped
        ("measure", ["beta=0.5", "T=3"]),  # of none
        ("measure", ["network=lean_unet", "run_name=mistyped", "seed=1"]),
        ("measure", ["degradation=blur", "run_name=mistyped"]),
        ("measure", ["degradation=blur", "T=7"]),
        ("ship", ["run_name=mistyped"]),
        ("ship", ["degradation=fade", "seed=3"]),
        ("samplers", ["run_name=mistyped"]),
        ("samplers", ["beta=0.5", "T=3"]),
        ("explain", ["run_name=mistyped"]),
        ("explain", ["schedule=linear"]),
    ],
)
def test_what_was_never_trained_is_refused(what, parameters, output, monkeypatch, capsys):
    monkeypatch.setattr(TrainingSetup, "train", lambda *_: pytest.fail("it began to train"))
    assert main(["records", what, *parameters]) == 1
    error = capsys.readouterr().err
    assert re.search(r"holds no run|there is no checkpoint|there are no shipped weights", error)
    assert error.count("\n") == 1
    assert list(output.rglob("*")) == []


def test_readme_shows_the_recorded_tables():
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert f"<!-- results -->\n{recorded_table()}\n<!-- end of results -->" in readme
    assert f"<!-- restorations -->\n{readme_tables()}\n<!-- end of restorations -->" in readme


@pytest.mark.parametrize("before", ["", "an older table\n"])
def test_tables_fill_their_places(before, tmp_path, monkeypatch):
    monkeypatch.setattr("maintenance.report.PROJECT", tmp_path)
    readme = tmp_path / "README.md"
    marks = ("<!-- results -->\n{}<!-- end of results -->", "<!-- restorations -->\n{}<!-- end of restorations -->")
    places = "\n".join(["Above", *marks, "Below"])
    readme.write_text(places.format(before, before), encoding="utf-8")
    assert main(["records", "tables"]) == 0
    assert readme.read_text(encoding="utf-8") == places.format(f"{recorded_table()}\n", f"{readme_tables()}\n")


def test_a_full_disk_leaves_the_readme(tmp_path, monkeypatch, capsys):
    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("maintenance.report.PROJECT", tmp_path)
    monkeypatch.setattr("ddpm_utils.system.files.os.fsync", no_space)
    text = "<!-- results -->\n<!-- end of results --><!-- restorations -->\n<!-- end of restorations -->"
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert main(["records", "tables"]) == 1
    assert "could not be saved (No space left on device); nothing was changed." in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == text


def test_table_refuses_a_readme_without_a_place(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("maintenance.report.PROJECT", tmp_path)
    text = "<!-- results -->\nold<!-- end of results -->"
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert main(["records", "tables"]) == 1
    assert "must hold the lines '<!-- restorations -->'" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == text
