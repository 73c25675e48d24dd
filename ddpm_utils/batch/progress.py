"""How far a sweep is: a live display in a terminal, plain lines elsewhere."""

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import timedelta
from statistics import mean
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from ddpm_utils.batch.jobs import Chain, Event


class Board(Progress):
    """Show what is known of all jobs from the events so far: a row for all of them, and one for each that runs.

    Args:
        chains: the jobs to be executed.
        workers: at a time.
        took: notebook → the seconds that earlier executions took.
        console: where to show it; without a terminal there are only the lines of `follow`.
        options: of `rich.progress.Progress`.
    """

    def __init__(
        self,
        chains: Sequence[Chain],
        workers: int,
        took: Mapping[str, Sequence[float]] | None = None,
        console: Console | None = None,
        **options: Any,
    ):
        console = console or Console()
        name = TextColumn(
            "{task.description}", markup=False, table_column=Column(overflow="fold")
        )  # wraps, so that the rest fits
        columns = (name, BarColumn(20), TextColumn("{task.fields[reached]}", markup=False), TimeElapsedColumn())
        super().__init__(*columns, console=console, refresh_per_second=2, disable=not console.is_terminal, **options)
        self.workers = workers
        self.took = took or {}
        jobs = [(job.folder.name, job.notebook) for chain in chains for job in chain]
        self.all = self.add_task("all experiments", total=len(jobs), reached=self)  # in words whenever it is drawn
        self.jobs = {job: self.add_task(" / ".join(job), start=False, visible=False, reached="") for job in jobs}
        self.ended: dict[tuple[str, str], Event] = {}

    def add(self, event: Event) -> bool:
        """Take note of an event; returns whether it is the first of a job's run, or its end."""
        key = event.experiment, event.notebook
        job = self.jobs[key]
        begins = event.state == "running" and (event.cell == 1 or not self.tasks[job].started)
        if event.state != "running":
            self.ended[key] = event
            self.update(job, visible=False)
        elif key in self.ended and event.cell > 1:
            return False  # came late
        else:
            if begins:
                self.ended.pop(key, None)  # of a worker that was lost
                self.reset(job)
            reached = f"cell {event.cell} of {event.cells}"
            self.update(job, completed=event.cell - 1, total=event.cells, reached=reached, visible=True)
        self.update(self.all, completed=len(self.ended))
        return begins or key in self.ended

    @property
    def failures(self) -> list[Event]:
        """The jobs that have failed."""
        return [event for event in self.ended.values() if event.state == "failed"]

    def rest(self) -> float | None:
        """Estimate the seconds left, from how long each notebook took so far; None if that is not known."""
        took = {notebook: list(seconds) for notebook, seconds in self.took.items()}
        for event in self.ended.values():
            if event.state != "failed":
                took.setdefault(event.notebook, []).append(event.seconds)
        failed = {event.experiment for event in self.failures}
        left = [key for key in self.jobs if key not in self.ended and key[0] not in failed]
        if any(notebook not in took for _, notebook in left):
            return None
        elapsed = {key: self.tasks[self.jobs[key]].elapsed or 0.0 for key in left}
        seconds = sum(max(0.0, mean(took[key[1]]) - elapsed[key]) for key in left)
        return seconds / min(self.workers, len({experiment for experiment, _ in left}) or 1)

    def __str__(self) -> str:
        """How many jobs have ended, and the time left, if it is known."""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        rest = self.rest()
        left = f", about {clock(rest)} left" if rest else ""
        return f"{len(self.ended)} of {len(self.jobs)} notebooks{failed}{left}"

    def follow(self, events: Generator[Event], on_done: Callable[[Event], None] = lambda event: None) -> list[Event]:
        """Show events as they come; without a terminal, as a line for each start and end. Failures always have a line.

        Args:
            events: is closed in the end, which stops its workers.
            on_done: is called after each job that has been executed well.

        Returns:
            the jobs that have failed.
        """
        with contextlib.closing(events), self:
            for event in events:
                if self.add(event) and (self.disable or event.state == "failed"):
                    self.console.print(Text(self.line(event)), soft_wrap=True)  # brackets in it are no markup
                if event.state == "done":
                    on_done(event)
        return self.failures

    def line(self, event: Event) -> str:
        """An event in words, with the time at which it came."""
        words = {"running": "started", "done": f"done in {clock(event.seconds)}"}
        what = f"{event.experiment} / {event.notebook}: {words.get(event.state, event.state)} {event.message}"
        how_far = "" if event.state == "running" else f" ({self})"
        return f"[{clock(self.tasks[self.all].elapsed or 0.0)}] {what.strip()}{how_far}"


def clock(seconds: float) -> str:
    """75 → "0:01:15"."""
    return str(timedelta(seconds=round(seconds)))
