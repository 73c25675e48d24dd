"""Where chains of jobs run: processes of this machine, or a Dask cluster. Both yield the same events.

A chain is the jobs of one experiment, in order; chains do not depend on each other. Closing a generator stops its
workers; what they had finished or saved stays. A worker that dies takes nothing with it: its chain goes on elsewhere.
"""

import contextlib
import multiprocessing
import os
import queue
import re
import signal
import threading
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait

from ddpm_utils.batch.jobs import Chain, Event, execute_chain

CHANCES = 3  # of a chain whose process is killed
ANSWER_SECONDS = 60  # in which a Dask scheduler on a busy machine has answered


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_options(name: str, workers: int | None, threads: int, on_a_cluster: bool) -> None:
    """Refuse a grid's name and options of `ddpm sweep` that are not allowed.

    Raises:
        ValueError: if one is not.
    """
    if not re.match(r"[A-Za-z0-9]", name):
        raise ValueError(
            f"the grid's name must begin with a letter or digit, since a folder is named after it, not {name!r}."
        )
    if workers is not None and workers < 1:
        raise ValueError(f"--workers must be at least 1, not {workers}.")
    if not 1 <= threads <= cores():
        raise ValueError(f"--threads must be in 1…{cores()}, the cores, not {threads}.")
    if threads > 1 and on_a_cluster:
        raise ValueError("--threads is for processes; on Dask each experiment has one.")


def on_processes(chains: Sequence[Chain], workers: int | None = None, threads: int = 1) -> Generator[Event]:
    """Execute chains in processes of this machine, one per chain, so many at a time.

    Args:
        workers: at a time; by default as many as there are cores for, but no more than chains.
        threads: of each. Results depend on them in their last digits, and so does nothing else: not on the workers.
    """
    workers = workers or max(1, min(cores() // threads, len(chains)))
    context = multiprocessing.get_context("spawn")
    waiting = deque((chain, 1) for chain in chains)
    running: dict[Connection, tuple] = {}
    last: dict[Connection, Event] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                chain, chance = waiting.popleft()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(chain, threads, sender))
                with _undisturbed():
                    process.start()
                sender.close()
                running[receiver] = process, chain, chance
            for receiver in wait(list(running)):  # type: ignore[assignment]
                try:
                    last[receiver] = receiver.recv()
                    yield last[receiver]
                except (EOFError, OSError):  # the process has ended, perhaps in the middle of a word
                    process, chain, chance = running.pop(receiver)
                    process.join()
                    if process.exitcode and chance < CHANCES:
                        waiting.append((chain, chance + 1))
                    elif process.exitcode:
                        reason = f"its process ended with exit status {process.exitcode}, {chance} times."
                        yield _lost(chain, reason, last.get(receiver))
    finally:
        for process, *_ in running.values():
            process.kill()  # its kernel notices within a second


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A process that is started in here ignores Ctrl-C from its first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(chain: Chain, threads: int, sender: Connection) -> None:
    """What one process does. Ctrl-C is its parent's affair, and it does not outlive its parent."""
    if hasattr(os, "setsid"):
        os.setsid()  # papermill would listen to the terminal's Ctrl-C again

    parent = multiprocessing.parent_process()
    assert parent is not None  # it was spawned

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    execute_chain(chain, threads, sender.send)


def on_dask(
    chains: Sequence[Chain],
    workers: int | None = None,
    scheduler: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Generator[Event]:
    """Execute chains on a Dask cluster whose workers see the same folders; each chain uses one core.

    When this is closed, the workers of a running cluster stop at the end of the cell that they are executing.

    Args:
        workers: of a cluster on this machine, by default one per core; not used with a scheduler.
        scheduler: the address of a running one, such as tcp://host:8786.
        say: is told where the dashboard is.

    Raises:
        ValueError: if Dask is missing, or the scheduler does not answer.
    """
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise ValueError("this needs Dask: pip install distributed bokeh.") from error
    with contextlib.ExitStack() as stack:
        try:
            cluster = scheduler or stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers or cores(), threads_per_worker=1, dashboard_address="127.0.0.1:0"
                )
            )
            client = stack.enter_context(distributed.Client(cluster, timeout=ANSWER_SECONDS))
        except OSError as error:
            raise ValueError(f"no Dask scheduler answers at {scheduler} ({error}).") from error
        say(f"Dashboard: {client.dashboard_link}")
        arrived: queue.SimpleQueue = queue.SimpleQueue()
        topic = f"ddpm-{uuid.uuid4()}"  # of this sweep: a cluster may work on others, too
        stack.callback(distributed.Event(topic).set)
        client.subscribe_topic(topic, lambda found: arrived.put(Event(*found[1])))
        futures = {client.submit(_work_on_dask, chain, topic, pure=False): chain for chain in chains}
        for future in list(futures):
            future.add_done_callback(arrived.put)
        told: set[Event] = set()
        while futures:
            found = arrived.get()
            if isinstance(found, Event):
                events = [found]
            else:
                chain = futures.pop(found)
                reason = found.status if found.cancelled() else repr(found.exception())
                events = found.result() if found.status == "finished" else [_lost(chain, reason)]
            yield from (event for event in events if event not in told)
            told |= {event for event in events if event.state != "running"}


class Stopped(BaseException):
    """The sweep that a task belongs to has ended."""


def _work_on_dask(chain: Chain, topic: str) -> list[Event]:
    """What one task does: it tells of each event at once, and returns them, since a message may come late."""
    import distributed

    events, worker, stopped = [], distributed.get_worker(), distributed.Event(topic)

    def tell(event: Event) -> None:
        if stopped.is_set():
            raise Stopped
        worker.log_event(topic, tuple(event))
        if event.state != "running":
            events.append(event)

    execute_chain(chain, 1, tell)
    return events


def _lost(chain: Chain, message: str, last: Event | None = None) -> Event:
    """The failure of a chain whose worker has gone, at the last notebook and cell that it told of."""
    if last is None:
        return Event(chain[0].folder.name, chain[0].notebook, "failed", message=message)
    return last._replace(state="failed", message=f"cell {last.cell} of {last.cells}: {message}")
