"""The ddpm command: parameters, refusals, training from a terminal and cleaning up."""

import errno
import os

import pytest

from ddpm_utils.__main__ import main, parse


def test_values_are_python_literals_or_text():
    values = parse(["beta=0.1", "T=200", "dataset=mnist", "resume=False"])
    assert values == {"beta": 0.1, "T": 200, "dataset": "mnist", "resume": False}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "beta"], "parameters are given as name=value, not 'beta'."),
        (["train", "betta=0.1"], "there is no parameter 'betta'; there are schedule, beta"),
        (["train", "beta=2.0"], "beta must lie strictly between 0 and 1, not 2.0."),
        (["train", "T=1.5"], "T must be an integer, not 1.5."),
        (["train", "schedule=quadratic"], "schedule must be one of constant, linear, cosine, not 'quadratic'."),
        (["run", "beta=0.02"], "there is no parameter 'beta' to change in this job."),
        (["train", "degradation=rain"], "degradation must be one of noise, flow"),
        (["train", "degradation=blur", "beta=1"], "there is no parameter 'beta'; there are degradation, T, severity"),
        (["run", "epoch=1"], "there is no parameter 'epoch'"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, capsys, unchecked):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"ddpm: {sentence}")
    assert error.count("\n") == 1


def test_trains_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DDPM_OUTPUT", str(tmp_path))
    arguments = ["train", "dataset=mnist_5k", "batch_size=1600", "T=20", "network=lean_unet"]
    assert main([*arguments, "epochs=1"]) == 0
    assert main([*arguments, "epochs=2"]) == 0
    assert "2 steps done" in capsys.readouterr().out
    folder = tmp_path / "data" / "runs" / "constant-beta0.001-T20-lean_unet" / "mnist_5k-seed0"
    assert len((folder / "losses.csv").read_text().splitlines()) == 3
    assert main(["clean"]) == 0
    assert not folder.exists()


def test_a_disk_that_refuses_is_one_sentence(tmp_path, monkeypatch, capsys):
    def refused(path, **_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "a file in it")

    monkeypatch.setenv("DDPM_OUTPUT", str(tmp_path))
    (tmp_path / "data" / "runs").mkdir(parents=True)
    monkeypatch.setattr("shutil.rmtree", refused)
    assert main(["clean"]) == 1
    assert capsys.readouterr().err == f"ddpm: {tmp_path / 'data' / 'runs'}: Read-only file system.\n"
