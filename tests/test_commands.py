"""The ddpm command: parameters, refusals, training from a terminal and cleaning up."""

import errno
import os
import shutil
import subprocess
import sys

import nbformat
import pytest

from ddpm_utils.__main__ import main, parse
from ddpm_utils.batch.notebooks import NOTEBOOKS
from ddpm_utils.commands import grid_path
from ddpm_utils.system.places import PROJECT


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
        (["train", "schedule=quadratic"], "schedule must be one of constant, linear, cosine, custom, not 'quadratic'."),
        (["train", "schedule=custom", "betas=[0.1,2]"], "betas[1] = β_2 must lie strictly between 0 and 1, not 2."),
        (
            ["train", "schedule=custom", "betas=[0.1,nan]"],
            "betas must be a list of numbers, β_1 … β_T, not '[0.1,nan]'.",
        ),
        (
            ["train", "beta=[0.1,0.2]"],
            "beta must be a number, not [0.1, 0.2]. For a β of its own at each step take sche",
        ),
        (["train", "degredation=blur"], "there is no parameter 'degredation'; there are degradation, T, severity"),
        (["run", "beta=0.02"], "there is no parameter 'beta' to change in this job; there are dataset, "),
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


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        *[(["train", "betta=0.1"], "beta"), (["train", "Network=unet"], "network"), (["run", "sample=50"], "samples")],
        *[
            (["run", "callls=3"], "calls"),
            (["train", "schedule=kosine"], "cosine"),
            (["run", "Weights=run"], "weights"),
        ],
    ],
)
def test_the_nearest_name_is_suggested(arguments, name, capsys, unchecked):
    assert main(arguments) == 1
    assert capsys.readouterr().err.endswith(f" Did you mean '{name}'?\n")


def test_trains_and_resumes(few, tmp_path, capsys):
    arguments = ["train", "dataset=mnist_5k", "batch_size=32", "T=20", "network=lean_unet"]
    assert main([*arguments, "epochs=1"]) == 0
    assert main([*arguments, "epochs=2"]) == 0
    assert "2 steps done" in capsys.readouterr().out
    folder = tmp_path / "data" / "runs" / "constant-beta0.001-T20-lean_unet" / "mnist_5k-seed0"
    assert len((folder / "losses.csv").read_text().splitlines()) == 3
    assert main(["clean"]) == 0
    assert not folder.exists()


@pytest.fixture
def served(monkeypatch) -> list[tuple]:
    """What would be started: commands, with the output folder of their kernels and the folder that they start in."""
    found = []

    def call(command, env, cwd=None):
        found.append((command, env["DDPM_OUTPUT"], cwd))
        return 0

    monkeypatch.setattr("ddpm_utils.commands.subprocess.call", call)
    return found


def test_lab_opens_copies_and_keeps_what_was_edited(output, tmp_path_factory, served, monkeypatch, capsys):
    originals, lab = tmp_path_factory.mktemp("notebooks"), output / "data" / "runs" / "lab"
    shutil.copytree(NOTEBOOKS, originals, dirs_exist_ok=True)
    monkeypatch.setattr("ddpm_utils.batch.notebooks.NOTEBOOKS", originals)

    def change(folder, number: int, source: str | None = None) -> bytes:
        path = sorted(folder.glob("0*.ipynb"))[number]
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[0].source = source or notebook.cells[0].source
        notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", text="executed")]
        nbformat.write(notebook, path)
        return path.read_bytes()

    assert main(["lab"]) == 0
    names = {path.name for path in originals.iterdir()}
    assert {path.name for path in lab.iterdir()} == names | {".copied.json"}
    assert served[0][1:] == (str(output), lab)
    assert served[0][0][-1] == str(lab / "01_forward_process.ipynb")
    mine, executed = change(lab, 0, "# Mine"), change(lab, 1)
    assert main(["lab"]) == 0
    assert change(lab, 1) == executed  # there is nothing newer
    assert capsys.readouterr().out == ""
    newer = [change(originals, number, "# Newer") for number in (0, 1)]
    os.unlink(sorted(lab.glob("0*.ipynb"))[2])
    assert main(["lab"]) == 0
    assert [path.read_bytes() for path in sorted(lab.glob("0*.ipynb"))[:2]] == [mine, newer[1]]
    line = f"There is a newer version of {lab / '01_forward_process.ipynb'}, which you have edited: rename it"
    assert capsys.readouterr().out.startswith(line)
    assert {path.name for path in lab.iterdir()} == names | {".copied.json"}
    assert main(["clean"]) == 1
    assert capsys.readouterr().err == f"ddpm: you have edited {lab / '01_forward_process.ipynb'}: move it away first.\n"
    os.rename(lab / "01_forward_process.ipynb", output / "mine.ipynb")
    assert main(["lab"]) == 0
    assert (lab / "01_forward_process.ipynb").read_bytes() == newer[0]
    assert main(["clean"]) == 0
    assert not lab.exists()


def test_app_serves_the_projects_page(output, served):
    assert main(["app"]) == 0
    [(command, written_below, _)] = served
    assert str(NOTEBOOKS / "app.ipynb") in command
    assert written_below == str(output)


def test_a_grid_is_yours_or_the_projects(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert grid_path("grids/beta_T.yaml") == str(NOTEBOOKS.parent / "grids" / "beta_T.yaml")
    assert grid_path("grids/mine.yaml") == "grids/mine.yaml"
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "beta_T.yaml").touch()
    assert grid_path("grids/beta_T.yaml") == "grids/beta_T.yaml"


def test_a_disk_that_refuses_is_one_sentence(tmp_path, monkeypatch, capsys):
    def refused(path, **_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "a file in it")

    monkeypatch.setenv("DDPM_OUTPUT", str(tmp_path))
    (tmp_path / "data" / "runs" / "a sweep").mkdir(parents=True)
    monkeypatch.setattr("shutil.rmtree", refused)
    assert main(["clean"]) == 1
    assert capsys.readouterr().err == f"ddpm: {tmp_path / 'data' / 'runs'}: Read-only file system.\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["sweep", "--help"], ["train", "beta"], []])
def test_what_needs_no_tensors_imports_no_torch(arguments):
    """It is answered at once."""
    program = f"import sys; from ddpm_utils.__main__ import main\ntry: main({arguments})\nexcept SystemExit: pass\n"
    command = [sys.executable, "-c", program + "print(*sys.modules, file=sys.stderr)"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, encoding="utf-8")
    assert set(done.stderr.split()).isdisjoint({"torch", "torchvision", "matplotlib", "pandas", "accelerate"})
    assert "argparse" in done.stderr
