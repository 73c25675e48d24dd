"""Where chains of jobs run: processes of this machine, or a Dask cluster. Both yield the same events.

A chain is the jobs of one experiment, in order; chains do not depend on each other. Closing a generator stops its
workers; what they had finished or saved stays. A worker that dies takes nothing with it: its chain goes on elsewhere.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait

from ddpm_utils.jobs import Event, Job, execute_chain

Chain = Sequence[Job]
CHANCES = 3  # how often a chain may lose its worker
TOPIC = "ddpm"  # of the events on a Dask cluster


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_processes(chains: Sequence[Chain], workers: int | None = None) -> Iterator[Event]:
    """Execute chains in processes of this machine, one per chain, so many at a time.

    The cores are shared out among them, so that they are never oversubscribed.

    Args:
        workers: at a time; by default one per core.
    """
    workers = max(1, min(workers or cores(), len(chains)))
    context = multiprocessing.get_context("spawn")
    waiting = deque((chain, 1) for chain in chains)
    running: dict[Connection, tuple] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                chain, chance = waiting.popleft()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(chain, max(1, cores() // workers), sender))
                process.start()
                sender.close()
                running[receiver] = process, chain, chance
            for receiver in wait(list(running)):
                try:
                    yield receiver.recv()
                except EOFError:  # the process has ended
                    process, chain, chance = running.pop(receiver)
                    process.join()
                    if process.exitcode and chance < CHANCES:
                        waiting.append((chain, chance + 1))
                    elif process.exitcode:
                        yield _lost(chain, f"its process ended with exit status {process.exitcode}, {chance} times.")
    finally:
        for process, *_ in running.values():
            process.kill()  # its kernel notices within a second


def _work(chain: Chain, threads: int, sender: Connection) -> None:
    """What one process does. Ctrl-C is its parent's affair, and it does not outlive its parent."""
    os.setsid() if hasattr(os, "setsid") else signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    execute_chain(chain, threads, sender.send)


def on_dask(
    chains: Sequence[Chain],
    workers: int | None = None,
    scheduler: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Event]:
    """Execute chains on a Dask cluster whose workers see the same folders; each chain uses one core.

    Args:
        workers: of a cluster on this machine, by default one per core; not used with a scheduler.
        scheduler: the address of a running one, such as tcp://host:8786.
        say: is told where the dashboard is.

    Raises:
        ValueError: if Dask is missing, or the scheduler does not answer.
    """
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise ValueError("this needs Dask, which pip install 'ddpm-utils[dask]' brings.") from error
    with contextlib.ExitStack() as stack:
        try:
            cluster = scheduler or stack.enter_context(
                LocalCluster(n_workers=workers or cores(), threads_per_worker=1, dashboard_address="127.0.0.1:0")
            )
            client = stack.enter_context(Client(cluster, timeout=10))
        except OSError as error:
            raise ValueError(f"no Dask scheduler answers at {scheduler} ({error}).") from error
        say(f"Dashboard: {client.dashboard_link}")
        arrived: queue.SimpleQueue = queue.SimpleQueue()
        client.subscribe_topic(TOPIC, lambda found: arrived.put(Event(*found[1])))
        futures = {client.submit(_work_on_dask, chain, pure=False, retries=CHANCES - 1): chain for chain in chains}
        for future in list(futures):
            future.add_done_callback(arrived.put)
        told: set[Event] = set()
        while futures:
            found = arrived.get()
            if isinstance(found, Event):
                events = [found]
            else:
                chain = futures.pop(found)
                lost = found.status != "finished"
                events = [_lost(chain, repr(found.exception()))] if lost else found.result()
            yield from (event for event in events if event not in told)
            told |= {event for event in events if event.state != "running"}


def _work_on_dask(chain: Chain) -> list[Event]:
    """What one task does: it tells of each event at once, and returns them, since a message may come late."""
    from distributed import get_worker

    events, worker = [], get_worker()

    def tell(event: Event) -> None:
        worker.log_event(TOPIC, tuple(event))
        if event.state != "running":
            events.append(event)

    execute_chain(chain, 1, tell)
    return events


def _lost(chain: Chain, message: str) -> Event:
    return Event(chain[0].folder.name, chain[0].notebook, "failed", message=message)
