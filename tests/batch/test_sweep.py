"""A sweep: what a grid executes, what is left of it after a kill, and its table."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import psutil
import pytest
import torch

from ddpm_utils.__main__ import main
from ddpm_utils.batch.grid import read_grid
from ddpm_utils.batch.jobs import Event, is_done
from ddpm_utils.batch.sweep import main_job, plan, prospects, results, write_results
from ddpm_utils.checkpoints import load
from ddpm_utils.system.files import METADATA, read_json, seal_notebook, to_text, write_json
from ddpm_utils.system.places import PROJECT
from ddpm_utils.training.experiments import Experiment
from tests import light_notebooks
from tests.patience import PATIENCE, outliving, wait_until

NETWORK = '''"""A network that trains fast."""

from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 1, 3, padding=1))

    def forward(self, z, time):
        return self.layers(z) * time[:, None, None, None]
'''
TRAINING = {"network": "own_small:Small", "batch_size": 64, "learning_rate": 0.002, "lr_schedule": "one_cycle"}
EPOCHS, STEPS = 6, 50  # of each epoch
TRAIN = "for _ in experiment.train(experiment.open_run(digits, resume=resume), digits):\n    pass"
SWEEP = "import sys; from tests.light_notebooks import main; sys.exit(main(*sys.argv[1:]))"
RUN = "constant-beta0.1-T20-own_small.Small"


def write(folder: Path, text: str) -> Path:
    path = folder / "grid.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def grid(tmp_path) -> Path:
    return write(
        tmp_path,
        "experiments:\n  - {beta: [0.01, 0.1], T: [20, 50]}\n"
        "notebooks:\n  02_training:\n  04_evaluation: {weights: run, samples: 50, images: 8}\n",
    )


@pytest.fixture
def pretended(grid, output):
    """A sweep whose first three experiments seem to be finished: entries, chains, folder."""
    folder = output / "data" / "runs" / "grid"
    entries = read_grid(grid)
    chains = plan(entries, folder)
    for number, (entry, chain) in enumerate(zip(entries[:3], chains[:3], strict=True)):
        for job in chain:
            notebook = nbformat.v4.new_notebook()
            notebook.metadata = {METADATA: {"made_of": job.made_of}, "papermill": {"duration": 7.0}}
            job.folder.mkdir(parents=True, exist_ok=True)
            executed = job.folder / "executed.ipynb"
            executed.write_text(nbformat.writes(notebook), encoding="utf-8")
            seal_notebook(executed, job.target)
        rows = [
            {"source": source, "protocol": protocol, "test loss": loss, "FID N(0, I)": 10.0 * number + 1}
            for source, loss in (("recorded, 9 epochs", 9.0), ("this run", float(number)))
            for protocol in ("corrected", "published")
        ]
        path = chain[0].output / "data" / "runs" / entry.experiment.slug / "table.json"
        samples = {"standard": to_text(torch.zeros(16, 1, 28, 28))}
        write_json(path, {"rows": rows, "samples": samples})
    return entries, chains, folder


def test_each_experiment_is_a_chain_in_a_folder_of_its_own(grid, output):
    chains = plan(read_grid(grid), output / "grid")
    assert [[job.notebook for job in chain] for chain in chains] == [["02_training", "04_evaluation"]] * 4
    assert len({job.folder for chain in chains for job in chain}) == 4
    assert all(job.output == job.folder and job.made_of for chain in chains for job in chain)
    assert chains[1][1].parameters.items() >= {"beta": 0.01, "T": 50, "weights": "run", "samples": 50}.items()
    assert not any(is_done(job) for chain in chains for job in chain)


def test_more_images_than_there_are_are_refused_before_anything_starts(tmp_path, output):
    text = "experiments:\n  - {beta: 0.1, T: 20}\nnotebooks:\n  04_evaluation: {samples: 5000}\n"
    with pytest.raises(
        ValueError, match=r"samples of 04_evaluation must be an integer from 20 to 800 \(mnist_5k has no more\), not"
    ):
        plan(read_grid(write(tmp_path, text)), output)


def test_a_data_set_that_cannot_be_had_is_not_replaced(tmp_path, output, monkeypatch):
    monkeypatch.delenv("DDPM_DATA", raising=False)
    monkeypatch.setattr("ddpm_utils.data.datasets.default_root", lambda: tmp_path)
    monkeypatch.setattr("ddpm_utils.data.sources.download", lambda *given: (_ for _ in ()).throw(OSError("no network")))
    text = "experiments:\n  - {beta: 0.1, T: 20, dataset: mnist}\nnotebooks:\n  02_training:\n"
    with pytest.raises(ValueError, match=r"mnist is needed\. Data: the 5,000 MNIST digits that come with the project"):
        plan(read_grid(write(tmp_path, text)), output)


def test_prospects_tell_what_is_done_and_what_has_changed(pretended):
    _, chains, _ = pretended
    changed = chains[1][0]._replace(made_of=chains[1][0].made_of | {"code": "other", "training": "other"})
    lines = prospects([chains[0], [changed], chains[3]])
    assert [line.partition(": ")[2] for line in lines] == ["done"] * 2 + ["again: other code, training"] + [
        "to be executed"
    ] * 2
    assert lines[0].split()[0] == "1"
    assert lines[-1].split()[0] == "3"


def test_the_table_has_a_row_for_each_finished_experiment(pretended):
    entries, chains, folder = pretended
    table, samples = results(entries, chains)
    assert list(table["experiment"]) == [entry.name for entry in entries[:3]] == list(samples)
    assert list(table["test loss"]) == [0.0, 1.0, 2.0]  # this run's, not the recorded one's
    assert table["alpha_T"].tolist() == pytest.approx([0.99**20, 0.99**50, 0.9**20])
    paths = write_results(entries, chains, folder)
    assert [path.name for path in paths] == ["results.csv", "results.md", "map.txt", "map.png", "results.json"]
    assert read_json(paths[-1])["results.csv"] == paths[0].read_text(encoding="utf-8")
    pd.testing.assert_frame_equal(pd.read_csv(paths[0]), table, check_dtype=False)
    assert (folder / "map.txt").read_text(encoding="utf-8").startswith("Samples and their FID for 2 β times 2 T")


def test_results_of_other_code_are_no_results(pretended):
    entries, chains, _ = pretended
    chains[0][-1] = chains[0][-1]._replace(made_of=chains[0][-1].made_of | {"code": "other"})
    table, _ = results(entries, chains)
    assert list(table["experiment"]) == [entry.name for entry in entries[1:3]]


def test_nothing_finished_is_no_table_and_no_older_one(grid, output):
    entries = read_grid(grid)
    (output / "results.csv").write_text("of other code", encoding="utf-8")
    assert write_results(entries, plan(entries, output), output) == []
    assert not (output / "results.csv").exists()


def test_the_main_job_trains_anew_and_samples_with_shipped_weights(output):
    first, last = main_job([Experiment()], output / "runs", {"samples": 50})
    assert [job.notebook[:2] for job in first] == ["01", "02", "03", "04"]
    assert first[3].parameters["samples"] == 50
    assert all(job.made_of is None for job in first)
    assert [job.notebook for job in last] == ["05_custom_degradation"]


def test_a_dry_run_only_tells(grid, output, capsys):
    assert main(["sweep", str(grid), "--dry-run"]) == 0
    assert capsys.readouterr().out.count("to be executed") == 8
    assert not (output / "data").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--only", "5"], "--only must be in 1…4, the experiments of "),
        (["--only", "0"], "--only must be in 1…4"),
        (["--workers", "0"], "--workers must be at least 1, not 0."),
        (["--threads", "0"], "--threads must be in 1…"),
        (["--threads", "2", "--dask"], "--threads is for processes; on Dask each experiment has one."),
        (["--scheduler", "tcp://127.0.0.1:9"], "no Dask scheduler answers at tcp://127.0.0.1:9"),
    ],
)
def test_bad_options_are_one_sentence(grid, output, capsys, monkeypatch, options, sentence):
    monkeypatch.setattr("ddpm_utils.batch.engines.ANSWER_SECONDS", 0.5)
    assert main(["sweep", str(grid), *options]) == 1
    assert capsys.readouterr().err.startswith(f"ddpm: {sentence}")


def sweep(grid: Path, output: Path, light: Path) -> subprocess.Popen:
    """`ddpm sweep` of light notebooks, in a process group of its own, as in a terminal."""
    environment = os.environ | {"DDPM_OUTPUT": str(output), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SWEEP, str(light), "sweep", str(grid)]
    return subprocess.Popen(
        command,
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )


def until(process: subprocess.Popen, text: str) -> str:
    """The lines that a process prints, up to one that holds the text."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            break
    return "".join(lines)


def descendants(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def losses(output: Path) -> tuple[list[list[str]], dict]:
    """What a run has recorded, but the seconds; and its weights."""
    folder = output / "data" / "runs" / RUN / "mnist_5k-seed0"
    with (folder / "losses.csv").open(encoding="utf-8") as file:
        return [row[:3] for row in csv.reader(file)], load(folder / "best.safetensors")[0]


@pytest.fixture
def small(tmp_path_factory, monkeypatch) -> None:
    """The small network can be imported, here and in all processes that are started."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "own_small.py").write_text(NETWORK, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.delitem(sys.modules, "own_small", raising=False)


@pytest.fixture
def light(tmp_path, monkeypatch) -> Path:
    """The folder of the notebooks that are executed: one trains, and one leaves the results."""
    folder = tmp_path / "light"
    light_notebooks.write_needed(folder, "02_training", more=TRAIN)
    light_notebooks.write_needed(folder, "04_evaluation", "tables.save_results(")
    light_notebooks.use(folder, monkeypatch)
    return folder


@pytest.fixture
def one_thread():
    """In this process, too, one thread computes, as in the kernels: the digits are the same to the last."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_sweep_that_is_killed_goes_on_and_loses_nothing(small, light, one_thread, tmp_path, monkeypatch, capsys):
    """Killed in the middle of its training; then the weights are those of a training that was left alone."""
    monkeypatch.setenv("DDPM_OUTPUT", str(tmp_path / "stopped"))
    training = TRAINING | {"epochs": EPOCHS}
    values = ", ".join(
        f"{name}: '{value}'" if name == "network" else f"{name}: {value}" for name, value in training.items()
    )
    text = f"experiments:\n  - {{beta: 0.1, T: 20, {values}}}\nnotebooks: {{02_training: }}\n"
    grid = write(tmp_path, text)
    stopped, alone = tmp_path / "stopped", tmp_path / "alone"

    first = sweep(grid, stopped, light)
    until(first, "started")
    state = stopped / "data" / "runs" / "grid" / RUN / "data" / "runs" / RUN / "mnist_5k-seed0" / "last.safetensors"
    wait_until(lambda: state.exists() or first.poll() is not None, "the first checkpoint")
    others = descendants(first)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=PATIENCE)
    assert outliving(others) == []
    assert 0 < load(state)[1]["step"] < STEPS * EPOCHS
    assert not list(stopped.rglob("02_training.ipynb"))
    assert list(stopped.rglob("02_training.unfinished.ipynb"))

    assert main(["sweep", str(grid)]) == 0
    monkeypatch.setenv("DDPM_OUTPUT", str(alone))
    train = ["train", "beta=0.1", "T=20", "dataset=mnist_5k"]
    assert main(train + [f"{name}={value}" for name, value in training.items()]) == 0
    monkeypatch.setenv("DDPM_OUTPUT", str(stopped))
    found, expected = (losses(folder) for folder in (stopped / "data" / "runs" / "grid" / RUN, alone))
    assert found[0] == expected[0]
    assert found[1].keys() == expected[1].keys()
    assert all(torch.equal(found[1][name], expected[1][name]) for name in expected[1])
    capsys.readouterr()
    assert main(["sweep", str(grid)]) == 0
    assert "Experiments in the grid: 1, to be executed: 0." in capsys.readouterr().out


def test_one_experiment_can_be_chosen(grid, output, monkeypatch):
    executed = []

    def note(chains, workers, threads):
        executed.extend(chain[0].folder.name for chain in chains)
        yield from ()

    monkeypatch.setattr("ddpm_utils.batch.engines.on_processes", note)
    assert main(["sweep", str(grid), "--only", "3"]) == 1  # nothing was really done
    assert executed == [read_grid(grid)[2].name]


def test_a_table_that_takes_long_is_not_written_all_the_time(grid, output, monkeypatch):
    """Four experiments end at once: the table is written after the first, and at the end."""
    written, now = [], 0.0

    def write_slowly(entries, chains, folder):
        nonlocal now
        written.append(folder)
        now += 1.0
        return []

    def end_at_once(chains, workers, threads):
        yield from (Event(chain[-1].folder.name, chain[-1].notebook, "done") for chain in chains)

    monkeypatch.setattr("ddpm_utils.batch.sweep.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("ddpm_utils.batch.sweep.write_results", write_slowly)
    monkeypatch.setattr("ddpm_utils.batch.engines.on_processes", end_at_once)
    assert main(["sweep", str(grid)]) == 1  # nothing was really done
    assert len(written) == 2


def test_ctrl_c_stops_cleanly(light, tmp_path):
    grid = write(tmp_path, "experiments:\n  - {beta: 0.1, T: 20}\nnotebooks: {02_training: }\n")
    process = sweep(grid, tmp_path, light)
    until(process, "started")
    others = descendants(process)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert error == "\nddpm: stopped; what was saved is kept, and the same command goes on from there.\n"
    assert outliving(others) == []


def test_one_failure_is_told_and_leaves_the_others_their_results(small, light, tmp_path, output, capsys):
    """The second experiment asks for batches larger than the data set."""
    grid = write(
        tmp_path,
        "experiments:\n  - {beta: 0.1, T: 20, network: 'own_small:Small', batch_size: [64, 5000], epochs: 1}\n"
        "notebooks:\n  02_training:\n  04_evaluation: {weights: run, calls: 2, samples: 20, images: 2}\n",
    )
    folder = output / "data" / "runs" / "grid"
    assert main(["sweep", str(grid)]) == 1
    printed = capsys.readouterr().out
    assert "Experiments in the grid: 2, to be executed: 2." in printed
    failure = f"FAILED      {RUN}-batch_size5000 / 02_training, cell ["
    assert failure in printed
    assert "ValueError: batch_size = 5000 is larger than the 3200 training images." in printed.partition(failure)[2]
    (row,) = rows_of(folder)
    assert (float(row["beta"]), float(row["samples"]), int(row["batch_size"])) == (0.1, 20, 64)
    assert float(row["FID N(0, I)"]) > 0
    assert (folder / f"{RUN}-batch_size5000" / "02_training.failed.ipynb").exists()


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The table of results."""
    with (folder / "results.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
