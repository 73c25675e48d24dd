"""A notebook as a job: executed as a whole or not at all, recognised afterwards, redone if what made it has changed."""

import errno
import json
import os
import re
from pathlib import Path

import filelock
import nbformat
import pytest

from ddpm_utils.batch import jobs
from ddpm_utils.batch.jobs import Event, Job, execute, execute_chain, find, with_convolution
from ddpm_utils.batch.kernels import environment
from ddpm_utils.batch.notebooks import EXERCISES
from ddpm_utils.batch.provenance import made_of
from ddpm_utils.networks.cpu import convolution
from ddpm_utils.system.files import METADATA, seal_notebook
from ddpm_utils.training.experiments import Experiment
from tests import light_notebooks

VALUES = {"beta": 0.1, "T": 3}
WRITES = "import os, pathlib\npathlib.Path(os.environ['DDPM_OUTPUT'], f'beta {beta}').touch()"
CELLS = ("beta, T = 0.5, 20", WRITES, "assert beta < 1, beta", f"{EXERCISES}\n\nThe first.", "1 / 0  # Exercise")
"""Of a light notebook. papermill adds its cell after the first."""


@pytest.fixture
def job(tmp_path) -> Job:
    return Job("01_forward_process", VALUES, tmp_path / "one", tmp_path / "one", VALUES)


@pytest.fixture
def light(tmp_path, monkeypatch) -> None:
    """Jobs execute `CELLS` instead of the committed notebook."""
    path = light_notebooks.write(tmp_path / "light", "01_forward_process", *CELLS)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[3] = nbformat.v4.new_markdown_cell(CELLS[3])
    nbformat.write(notebook, path)
    monkeypatch.setattr("ddpm_utils.batch.notebooks.NOTEBOOKS", path.parent)


@pytest.fixture
def executed(monkeypatch) -> list[Job]:
    """The jobs that would be executed; each leaves what papermill would."""
    found = []

    def pretend(job, threads, tell):
        found.append(job)
        notebook = nbformat.v4.new_notebook()
        notebook.metadata = {
            METADATA: {"made_of": job.made_of, "convolution": job.convolution},
            "papermill": {"duration": 7.0},
        }
        unfinished = job.target.with_suffix(".unfinished.ipynb")
        unfinished.write_text(nbformat.writes(notebook), encoding="utf-8")
        seal_notebook(unfinished, job.target)
        return Event(job.folder.name, job.notebook, "done", seconds=7.0)

    monkeypatch.setattr(jobs, "execute", pretend)
    return found


def states(chain: list[Job]) -> list[str]:
    """What becomes of a chain's jobs."""
    events = []
    execute_chain(chain, 1, events.append)
    return [event.state for event in events]


def test_leaves_a_whole_notebook_without_exercises(job, light):
    events = []
    event = execute(job._replace(made_of={"code": "x"}, convolution="direct"), 1, events.append)
    assert event.state == "done", event.message
    assert event.seconds > 0
    notebook = nbformat.read(job.target, as_version=4)
    assert [cell.source for cell in notebook.cells[::2]] == [CELLS[0], CELLS[1]]
    assert len(notebook.cells) == 4
    assert [cell.cell for cell in events] == list(range(1, len(notebook.cells) + 1))
    assert {cell.cells for cell in events} == {len(notebook.cells)}
    assert find(job) == {"made_of": {"code": "x"}, "seconds": event.seconds, "convolution": "direct"}
    assert (job.output / "beta 0.1").exists()
    assert sorted(path.name for path in job.folder.glob("*.ipynb")) == ["01_forward_process.ipynb"]


@pytest.fixture
def measured(monkeypatch) -> list[int]:
    """The threads of each measurement of the convolutions, which finds that direct is faster."""
    threads: list[int] = []
    monkeypatch.setattr(jobs, "convolution", lambda given: threads.append(given) or "direct")
    monkeypatch.delenv("DDPM_CONVOLUTION")
    return threads


def test_all_jobs_of_a_sweep_use_one_form_of_the_convolutions(job, measured):
    """It is measured before the workers start, as the threads that they will have."""
    chains = with_convolution([[job, job], [job]], threads=2)
    assert [[job.convolution for job in chain] for chain in chains] == [["direct", "direct"], ["direct"]]
    assert measured == [2]
    assert environment(1, "out", chains[0][0].convolution)["DDPM_CONVOLUTION"] == "direct"
    assert "DDPM_CONVOLUTION" not in environment(1, "out")


def test_a_resumed_sweep_keeps_its_form(job, measured, executed, monkeypatch):
    other = job._replace(folder=job.folder.with_name("two"), convolution="spectral")
    job, other = (each._replace(made_of=made_of(Experiment(**VALUES), each.notebook, VALUES)) for each in (job, other))
    execute_chain([other], 1, lambda event: None)
    assert [chain[0].convolution for chain in with_convolution([[job], [other]], 1)] == ["spectral"] * 2
    assert not measured
    changed = other._replace(made_of=other.made_of | {"code": "other"})  # to be executed again
    assert [chain[0].convolution for chain in with_convolution([[job], [changed]], 1)] == ["direct"] * 2
    monkeypatch.setattr(jobs, "convolution", convolution)
    monkeypatch.setenv("DDPM_CONVOLUTION", "direct")
    assert [chain[0].convolution for chain in with_convolution([[job], [other]], 1)] == ["direct"] * 2


def test_a_failed_one_is_kept_apart(job, light):
    event = execute(job._replace(parameters={"beta": 2.0}), 1)
    assert event.state == "failed"
    assert event.message == "cell [4]: AssertionError: 2.0"
    assert sorted(path.name for path in job.folder.glob("*.ipynb")) == ["01_forward_process.failed.ipynb"]
    partial = nbformat.read(job.folder / "01_forward_process.failed.ipynb", as_version=4)
    assert any(output.output_type == "error" for cell in partial.cells for output in cell.get("outputs", ()))


def test_what_a_full_disk_cut_short_is_not_kept(job, monkeypatch):
    def no_space(notebook, path, **options):
        Path(path).write_text('{"cells": [', encoding="utf-8")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(jobs.papermill, "execute_notebook", no_space)
    event = execute(job, 1)
    assert (event.state, event.message) == ("failed", "OSError: [Errno 28] No space left on device")
    assert list(job.folder.glob("*.ipynb")) == []


def test_a_kernel_that_dies_has_one_more_chance(job, monkeypatch):
    tries = []

    def dies(*arguments, **options):
        tries.append(options["engine_name"])
        raise RuntimeError("Kernel died")

    monkeypatch.setattr(jobs.papermill, "execute_notebook", dies)
    event = execute(job, 1)
    assert event.state == "failed"
    assert re.fullmatch(r"cell 0 of \d+: RuntimeError: Kernel died", event.message)
    assert len(tries) == 2


def test_a_kernel_on_a_busy_machine_has_time(job, monkeypatch):
    """To start, and to send the last output of a cell."""
    given = []

    def client(notebook, **options):
        given.append(options)
        raise RuntimeError("not started")

    monkeypatch.setattr("ddpm_utils.batch.kernels.PapermillNotebookClient", client)
    assert execute(job, 1).state == "failed"
    assert given[0]["startup_timeout"] >= 600
    assert given[0]["iopub_timeout"] >= 600
    assert given[0]["timeout"] is None


def test_what_is_done_is_kept(job, executed):
    assert states([job]) == ["done"]
    assert states([job]) == ["kept"]
    assert len(executed) == 1


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda text: text[:-30], lambda text: "", lambda text: "[]", lambda text: "{}"),
        lambda text: text.replace("7.0", "8.0"),  # another number
        lambda text: text.replace('"sha256"', '"sha255"'),  # no seal
    ],
)
def test_a_damaged_one_is_executed_again(job, executed, damage):
    states([job])
    job.target.write_text(damage(job.target.read_text(encoding="utf-8")), encoding="utf-8")
    assert find(job) is None
    assert states([job]) == ["done"]


def test_other_parameters_are_executed_again(job, executed):
    states([job])
    assert states([job._replace(parameters=VALUES | {"shown": 2})]) == ["done"]


def test_a_training_by_other_code_is_deleted_and_one_by_the_same_is_kept(job, executed):
    run = job.output / "data" / "runs" / "some" / "last.safetensors"
    states([job])
    run.parent.mkdir(parents=True)
    run.write_bytes(b"weights")
    states([job._replace(parameters=VALUES | {"shown": 2})])  # another figure of the same training
    assert run.exists()
    states([job._replace(experiment=VALUES | {"learning_rate": 0.1})])
    assert not run.exists()


def test_an_old_notebook_does_not_vouch_for_new_results(job, executed, monkeypatch):
    """Its replacement was stopped half-way, and may have left files of its own: it is executed again, not kept."""
    states([job])
    other = job._replace(parameters=VALUES | {"shown": 2})

    def is_stopped(job, threads, tell):
        return Event(job.folder.name, job.notebook, "failed")

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "execute", is_stopped)
        states([other])
    assert states([job]) == ["done"]


def test_a_new_training_makes_all_notebooks_anew(job, executed):
    chain = [job, job._replace(notebook="02_training")]
    states(chain)
    other = {"experiment": VALUES | {"learning_rate": 0.1}}
    assert states([chain[0]._replace(**other)]) == ["done"]
    assert states(chain) == ["done", "done"]


def test_an_interrupted_notebook_is_no_result(job, executed):
    job.folder.mkdir()
    job.target.with_suffix(".unfinished.ipynb").write_text("{}", encoding="utf-8")
    assert find(job) is None
    assert states([job]) == ["done"]


def test_a_machine_with_other_code_or_data_refuses(job, executed):
    there = made_of(Experiment(**VALUES), job.notebook, job.parameters) | {"code": "other", "data": "other"}
    events = []
    execute_chain([job._replace(made_of=there)], 1, events.append)
    assert [event.message for event in events] == ["this machine has another code and data than the sweep's."]
    assert executed == []


def test_a_chain_ends_at_its_first_failure(job, monkeypatch):
    def fails(job, threads, tell):
        return Event(job.folder.name, job.notebook, "failed", message="no")

    monkeypatch.setattr(jobs, "execute", fails)
    assert states([job, job._replace(notebook="02_training")]) == ["failed"]


def test_no_two_processes_work_on_one_experiment(job, executed, monkeypatch):
    monkeypatch.setattr(jobs, "LOCK_SECONDS", 0.1)
    job.folder.mkdir()
    with filelock.FileLock(job.folder / ".lock"):
        events = []
        execute_chain([job], 1, events.append)
    sentence = f"{job.folder} is in use by another process: wait for its end, or stop it."
    assert [event.message for event in events] == [sentence]
    assert executed == []


def test_a_folder_that_cannot_be_made_fails_with_its_reason(job, executed):
    job.folder.parent.joinpath("one").write_text("a file", encoding="utf-8")
    events = []
    execute_chain([job], 1, events.append)
    assert [event.state for event in events] == ["failed"]
    assert events[0].message.startswith("FileExistsError: ")


def test_events_are_plain_values(job):
    event = Event("a", "b", "running", 1, 2)
    assert Event(*json.loads(json.dumps(event))) == event
