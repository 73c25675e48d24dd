"""How far a sweep is: a live table in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ddpm_utils.batch.jobs import Chain, Event

ENDED = ("done", "kept", "failed")


class Board:
    """What is known of all jobs, from the events so far.

    Args:
        chains: the jobs to be executed.
        workers: at a time.
        took: notebook → the seconds that earlier executions took.
        clock: in seconds.
    """

    def __init__(
        self,
        chains: Sequence[Chain],
        workers: int,
        took: Mapping[str, Sequence[float]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.workers = workers
        self.earlier = took or {}
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
        took = {notebook: list(seconds) for notebook, seconds in self.earlier.items()}
        for event in self.events.values():
            if event and event.state in ("done", "kept"):
                took.setdefault(event.notebook, []).append(event.seconds)
        failed = {event.experiment for event in self.failures}
        open_jobs = [k for k, e in self.events.items() if k[0] not in failed and not (e and e.state in ENDED)]
        if any(notebook not in took for _, notebook in open_jobs):
            return None
        now = self.clock()
        left = sum(max(0.0, mean(took[key[1]]) - (now - self.since.get(key, now))) for key in open_jobs)
        return left / min(self.workers, len({experiment for experiment, _ in open_jobs}) or 1)

    def summary(self) -> str:
        """Jobs that have ended, and the time left, if it is known."""
        ended = [event for event in self.events.values() if event and event.state in ENDED]
        failed = f", {len(self.failures)} failed" if self.failures else ""
        rest = self.rest()
        left = "" if rest is None else f", about {duration(rest)} left"
        return f"{len(ended)} of {len(self.events)} notebooks{failed}{left}"

    def title(self) -> str:
        """The summary, and the time since the beginning."""
        return f"{duration(self.clock() - self.begun)}: {self.summary()}"

    def __rich__(self) -> Table:
        table = Table("experiment", "notebook", "cell", "elapsed", title=self.title(), title_justify="left")
        for event in self.running:
            elapsed = self.clock() - self.since[event.experiment, event.notebook]
            table.add_row(event.experiment, event.notebook, f"{event.cell}/{event.cells}", duration(elapsed))
        for event in self.failures:
            reason = Text(event.message.splitlines()[0])  # brackets in it are no markup
            table.add_row(event.experiment, event.notebook, "failed", reason, style="red")
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
        console.print(board.title(), highlight=False)
    else:
        for event in events:
            if board.add(event):
                words = {"running": "started", "done": f"done in {duration(event.seconds)}"}
                what = f"{event.experiment} / {event.notebook}: {words.get(event.state, event.state)} {event.message}"
                how_far = "" if event.state == "running" else f" ({board.summary()})"
                print(f"[{duration(board.clock() - board.begun)}] {what.strip()}{how_far}", flush=True)
            if event.state == "done":
                on_done(event)
