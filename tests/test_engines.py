"""Where chains run: failures stay where they happen, and a worker that is killed takes nothing with it."""

import signal
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from ddpm_utils.engines import on_dask, on_processes
from ddpm_utils.jobs import Job, find


def chain(folder: Path, **parameters) -> list[Job]:
    """One notebook, the fastest."""
    return [Job("01_forward_process", {"beta": 0.1, "T": 3} | parameters, folder, folder, {"beta": 0.1, "T": 3})]


def workers() -> list[psutil.Process]:
    """The processes that execute notebooks now: the parents of kernels."""
    found = [process for process in psutil.Process().children(recursive=True) if process.is_running()]
    return [p for p in found if any("ipykernel_launcher" in " ".join(child.cmdline()) for child in p.children())]


def kernels() -> list[psutil.Process]:
    """All kernels of this process's workers."""
    found = psutil.Process().children(recursive=True)
    return [process for process in found if "ipykernel_launcher" in " ".join(process.cmdline())]


def engine_of(name: str):
    """An engine with two workers."""
    return {"processes": lambda chains: on_processes(chains, 2), "dask": lambda chains: on_dask(chains, 2)}[name]


@pytest.mark.parametrize("name", ["processes", "dask"])
def test_a_failure_and_a_killed_worker_stay_where_they_are(name, tmp_path):
    bad, good = chain(tmp_path / "bad", shown=99), chain(tmp_path / "good")
    ended, killed, seen = [], [], set()
    with closing(engine_of(name)([bad, good])) as events:
        for event in events:
            seen.add((event.experiment, event.state))
            if event.state != "running":
                ended.append(event)
            if (event.experiment, event.state) == ("good", "running") and event.cell > 3 and not killed:
                found = workers()
                victims = [p for p in found if ("bad", "failed") in seen or len(found) == 1] or found
                killed = [p.pid for p in victims]
                for process in victims:
                    process.send_signal(signal.SIGKILL)
    by_name = {event.experiment: event for event in ended}
    assert killed
    assert by_name["bad"].state == "failed"
    assert by_name["bad"].message == "cell [4]: ValueError: shown must be an integer from 1 to 12, not 99."
    assert by_name["good"].state == "done"
    assert find(good[0])
    assert (tmp_path / "bad" / "01_forward_process.failed.ipynb").exists()
    assert not find(bad[0])


def test_a_chain_that_kills_every_worker_is_given_up(tmp_path, monkeypatch):
    (job,) = chain(tmp_path / "one")
    ended, seen = [], set()
    with closing(on_processes([[job]], 1)) as events:
        for event in events:
            if event.state != "running":
                ended.append(event)
            elif event.cell == 1:
                seen |= {process.pid for process in workers()}
                for process in workers():
                    process.send_signal(signal.SIGKILL)
    assert len(seen) == 3
    assert [event.message for event in ended] == ["its process ended with exit status -9, 3 times."]


def test_stopping_leaves_no_process_behind(tmp_path):
    with closing(on_processes([chain(tmp_path / "one")], 1)) as events:
        next(events)
        (kernel,) = kernels()
    _, alive = psutil.wait_procs([kernel], timeout=5)
    assert alive == []
    assert not find(chain(tmp_path / "one")[0])


def test_cores_are_shared_out(tmp_path, monkeypatch):
    """Two at a time on four cores: two threads each, as each kernel is told."""
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

    monkeypatch.setattr("ddpm_utils.engines.cores", lambda: 4)
    monkeypatch.setattr("multiprocessing.context.SpawnContext.Process", Process)
    assert list(on_processes([chain(tmp_path / name) for name in "abc"], 2)) == []
    assert started == [2, 2, 2]


def test_dask_without_a_scheduler_is_refused():
    with pytest.raises(ValueError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"):
        next(on_dask([], scheduler="tcp://127.0.0.1:9"))
