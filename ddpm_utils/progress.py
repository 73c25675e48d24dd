"""How far a sweep is: a live table in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterable, Sequence
from statistics import mean

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ddpm_utils.engines import Chain
from ddpm_utils.jobs import Event

ENDED = ("done", "kept", "failed")


class Board:
    """What is known of all jobs, from the events so far.

    Args:
        chains: the jobs.
        clock: in seconds.
    """

    def __init__(self, chains: Sequence[Chain], clock=time.monotonic):
        self.clock = clock
        self.begun = clock()
        self.events: dict[tuple[str, str], Event | None] = {
            (job.folder.name, job.notebook): None for chain in chains for job in chain
        }
        self.since: dict[tuple[str, str], float] = {}

    def add(self, event: Event) -> bool:
        """Take note of an event; returns whether it is the first of a job's run, or its end."""
        key = event.experiment, event.notebook
        before = self.events[key]
        if event.state == "running" and before and before.state in ENDED and event.cell > 1:
            return False  # came late
        self.events[key] = event
        if event.state == "running" and (key not in self.since or event.cell == 1):
            self.since[key] = self.clock()
            return True
        return event.state in ENDED

    @property
    def running(self) -> list[Event]:
        """The last event of each job that runs."""
        return [event for event in self.events.values() if event and event.state == "running"]

    @property
    def failures(self) -> list[Event]:
        """The jobs that have failed."""
        return [event for event in self.events.values() if event and event.state == "failed"]

    def rest(self) -> float | None:
        """An estimate of the seconds left, from how long each notebook took so far; None if that is not known."""
        took: dict[str, list[float]] = {}
        for event in self.events.values():
            if event and event.state in ("done", "kept"):
                took.setdefault(event.notebook, []).append(event.seconds)
        failed = {event.experiment for event in self.failures}
        open_jobs = [k for k, e in self.events.items() if k[0] not in failed and not (e and e.state in ENDED)]
        if any(notebook not in took for _, notebook in open_jobs):
            return None
        left = sum(mean(took[notebook]) for _, notebook in open_jobs)
        left -= sum(self.clock() - self.since[event.experiment, event.notebook] for event in self.running)
        return max(0.0, left) / max(1, len(self.running))

    def summary(self) -> str:
        """One line: jobs that have ended, time, time left."""
        ended = [event for event in self.events.values() if event and event.state in ENDED]
        failed = f", {len(self.failures)} failed" if self.failures else ""
        rest = self.rest()
        left = "" if rest is None else f", about {duration(rest)} left"
        return f"{len(ended)} of {len(self.events)} notebooks{failed}; {duration(self.clock() - self.begun)}{left}"

    def __rich__(self) -> Table:
        table = Table("experiment", "notebook", "cell", "elapsed", title=self.summary(), title_justify="left")
        for event in self.running:
            elapsed = self.clock() - self.since[event.experiment, event.notebook]
            table.add_row(event.experiment, event.notebook, f"{event.cell}/{event.cells}", duration(elapsed))
        for event in self.failures:
            table.add_row(event.experiment, event.notebook, "failed", event.message.splitlines()[0], style="red")
        return table


def duration(seconds: float) -> str:
    """75 → "1:15", 3675 → "1:01:15"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def show(events: Iterable[Event], board: Board, console: Console, on_done: Callable[[Event], None]) -> None:
    """Show events as they come: a table that stays in place in a terminal, otherwise a line for each start and end.

    Args:
        on_done: is called after each job that has been executed well.
    """
    if console.is_terminal:
        with Live(board, console=console, refresh_per_second=2, transient=True):
            for event in events:
                board.add(event)
                if event.state == "done":
                    on_done(event)
        console.print(board.summary())
    else:
        for event in events:
            if board.add(event):
                words = {"running": "started", "done": f"done in {duration(event.seconds)}"}
                text = f"{event.experiment} / {event.notebook}: {words.get(event.state, event.state)} {event.message}"
                print(f"[{duration(board.clock() - board.begun)}] {text.strip()}", flush=True)
            if event.state == "done":
                on_done(event)
        print(board.summary(), flush=True)
