"""Where chains run: failures stay where they happen, and a worker that is killed takes nothing with it."""

import os
import signal
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from distributed import Client, LocalCluster

from ddpm_utils.batch.engines import on_dask, on_processes
from ddpm_utils.batch.jobs import Job, find
from tests import light_notebooks
from tests.dying import dies
from tests.patience import PATIENCE, outliving

CELLS = ("shown, gate = 3, ''", "if gate:\n    open(gate).close()", "assert shown < 99, shown")
"""The second waits until somebody opens the gate, a named pipe. papermill adds a cell before it."""
AT_THE_GATE = 3


@pytest.fixture(autouse=True)
def light(tmp_path, monkeypatch):
    """All chains execute `CELLS`."""
    light_notebooks.write(tmp_path / "light", "01_forward_process", *CELLS)
    light_notebooks.use(tmp_path / "light", monkeypatch)


@pytest.fixture
def gate(tmp_path) -> Path:
    """What a notebook waits at."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def chain(folder: Path, **parameters) -> list[Job]:
    """One notebook."""
    experiment = {"beta": 0.1, "T": 3, "dataset": "mnist_5k"}
    parameters = {name: str(value) if name == "gate" else value for name, value in parameters.items()}
    return [light_notebooks.LightJob("01_forward_process", parameters, folder, folder, experiment)]


def kernels() -> dict[str, psutil.Process]:
    """The kernels that run now, below this process, by the name of the folder they write to."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended since
            if "ipykernel_launcher" in " ".join(process.cmdline()):
                found[Path(process.environ()["DDPM_OUTPUT"]).name] = process
    return found


@pytest.mark.parametrize(("engine", "workers"), [(on_processes, 2), (on_dask, 3)])
def test_a_failure_and_a_killed_worker_stay_where_they_are(engine, workers, gate, tmp_path):
    bad, good = chain(tmp_path / "bad", shown=99), chain(tmp_path / "good", gate=gate)
    others = [chain(tmp_path / f"other {number}") for number in range(workers - 2)]
    ended, killed = {}, []
    with closing(engine([bad, good, *others], workers)) as events:
        for event in events:
            if event.state != "running":
                assert event.experiment not in ended, "an experiment ends once"
                ended[event.experiment] = event
            elif event.experiment == "good" and event.cell == AT_THE_GATE:
                if killed:
                    gate.write_bytes(b"")
                else:
                    kernel = kernels()["good"]
                    killed.append(kernel.parent())
                    killed[0].send_signal(signal.SIGKILL)
                    assert outliving([kernel]) == []
    assert killed
    assert ended["bad"].state == "failed"
    assert ended["bad"].message == "cell [4]: AssertionError: 99"
    assert all(ended[one[0].folder.name].state == "done" and find(one[0]) for one in (good, *others))
    assert (tmp_path / "bad" / "01_forward_process.failed.ipynb").exists()
    assert not find(bad[0])


def test_a_chain_that_kills_every_worker_is_given_up(unchecked, monkeypatch):
    """The processes are real, but execute nothing."""
    monkeypatch.setattr("ddpm_utils.batch.engines._work", dies)
    with closing(on_processes([[SimpleNamespace(folder=Path("one"))]], 1)) as events:
        told = list(events)
    assert [event.state for event in told] == ["running"] * 6 + ["failed"]
    assert told[-1].message == "cell 2 of 9: its process ended with exit status -9, 3 times."


def test_stopping_leaves_no_process_behind(gate, tmp_path):
    with closing(on_processes([chain(tmp_path / "one", gate=gate)], threads=2)) as events:
        next(events)
        kernel = kernels()["one"]
        assert kernel.environ()["OMP_NUM_THREADS"] == "2"
        assert "GLIBC_TUNABLES" in kernel.environ()  # it keeps freed memory
    assert outliving([kernel]) == []
    assert not find(chain(tmp_path / "one", gate=gate)[0])


def test_threads_do_not_depend_on_the_workers(tmp_path, monkeypatch):
    """On four cores each kernel is told to use as many as were asked for, however many chains there are."""
    started = []

    class Process:
        exitcode = 0

        def __init__(self, target, args):
            started.append(args[1])
            self.sender = args[2]

        def start(self):
            self.sender.close()

        def join(self):
            pass

    monkeypatch.setattr("ddpm_utils.batch.engines.cores", lambda: 4)
    monkeypatch.setattr("multiprocessing.context.SpawnContext.Process", Process)
    assert list(on_processes([chain(tmp_path / name) for name in "abc"], 2)) == []
    assert list(on_processes([chain(tmp_path / "a")])) == []
    assert list(on_processes([chain(tmp_path / "a")], threads=4)) == []
    assert started == [1, 1, 1, 1, 4]


def test_dask_without_a_scheduler_is_refused(monkeypatch):
    monkeypatch.setattr("ddpm_utils.batch.engines.ANSWER_SECONDS", 0.5)
    with pytest.raises(ValueError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"):
        next(on_dask([], scheduler="tcp://127.0.0.1:9"))


def test_a_sweep_that_ends_leaves_a_running_cluster_to_others(gate, tmp_path):
    """Its tasks stop at the end of their cell, and their kernels with them; the cluster goes on."""
    job = chain(tmp_path / "one", gate=gate)
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        with closing(on_dask([job], scheduler=cluster.scheduler_address)) as events:
            while next(events).cell < AT_THE_GATE:
                pass
            kernel = kernels()["one"]
        gate.write_bytes(b"")
        assert outliving([kernel]) == []
        assert not find(job[0])
        with Client(cluster) as client:
            assert client.submit(sum, [1, 2]).result(timeout=PATIENCE) == 3
