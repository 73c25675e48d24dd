"""What is shown of a sweep, from its events."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from ddpm_utils.batch.jobs import Event, Job
from ddpm_utils.batch.progress import Board, clock


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Clock:
    return Clock()


def make_board(time: Clock, workers: int = 1, took: dict | None = None, *, terminal: bool = False, names="ab") -> Board:
    """For two notebooks of each experiment; it shows on a screen of its own, 120 characters wide."""
    notebooks = ("02_training",) if took else ("02_training", "03_sampling")
    chains = [[Job(notebook, {}, Path(name), Path()) for notebook in notebooks] for name in names]
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    return Board(chains, workers, took, console, get_time=time)


@pytest.fixture
def board(time) -> Board:
    return make_board(time)


def running(board: Board) -> list[str]:
    """What has a row of its own."""
    return [task.description for task in board.tasks if task.visible and task.id != board.all]


def screen(board: Board) -> list[str]:
    """The rows that are shown now."""
    console = Console(file=io.StringIO(), width=120)
    console.print(board)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_durations_read_as_a_clock_shows_them():
    assert [clock(seconds) for seconds in (0, 75, 3675)] == ["0:00:00", "0:01:15", "1:01:15"]


def test_the_rest_is_estimated_from_what_each_notebook_took(board, time):
    assert board.rest() is None
    board.add(Event("a", "02_training", "done", seconds=100))
    assert board.rest() is None  # nothing is known of 03
    board.add(Event("a", "03_sampling", "done", seconds=20))
    assert board.rest() == 120
    board.add(Event("b", "02_training", "running", 1, 10))
    time.now = 30
    assert board.rest() == 90
    assert str(board) == "2 of 4 notebooks, about 0:01:30 left"
    time.now = 1000  # longer than expected: what comes after it takes its time all the same
    assert board.rest() == 20


def test_two_workers_halve_the_rest_and_earlier_executions_count(time):
    board = make_board(time, 2, {"02_training": [60, 80]}, names="abc")
    assert board.rest() == 105
    board.add(Event("a", "02_training", "done", seconds=70))
    assert board.rest() == 70
    board.add(Event("b", "02_training", "done", seconds=70))
    assert board.rest() == 70  # the second worker has nothing to do


def test_what_follows_a_failure_is_not_waited_for(board):
    for event in (("a", "02_training", "failed"), ("b", "02_training", "done"), ("b", "03_sampling", "done")):
        board.add(Event(*event, seconds=1))
    assert board.rest() == 0
    assert str(board) == "3 of 4 notebooks, 1 failed"
    assert [event.experiment for event in board.failures] == ["a"]


def test_a_late_word_of_a_cell_does_not_revive_a_job(board):
    board.add(Event("a", "02_training", "done", seconds=1))
    assert not board.add(Event("a", "02_training", "running", 7, 10))
    assert running(board) == []
    assert str(board) == "1 of 4 notebooks"


def test_a_job_that_lost_its_worker_runs_again(board, time):
    board.add(Event("a", "02_training", "done", seconds=1))
    assert board.add(Event("a", "03_sampling", "running", 4, 10))  # the words before it came late
    board.add(Event("a", "03_sampling", "failed", message="its worker has gone"))
    board.add(Event("a", "02_training", "kept", seconds=1))
    time.now = 50
    assert board.add(Event("a", "03_sampling", "running", 1, 10))
    assert running(board) == ["a / 03_sampling"]
    assert board.failures == []
    time.now = 55
    assert screen(board)[1].split()[-5:] == ["cell", "1", "of", "10", "0:00:05"]


EVENTS = [
    Event("a", "02_training", "running", 1, 10),
    Event("a", "02_training", "running", 2, 10),
    Event("a", "02_training", "done", seconds=65),
    Event("b", "02_training", "failed", message="cell [3]: ValueError: no [b h w].\nmore"),
]


def follow(board: Board) -> tuple[str, list[Event], list[Event]]:
    """What is shown of the events, which events were told of, and which jobs have failed."""
    heard = []
    events = (event for event in EVENTS)
    failures = board.follow(events, heard.append)
    return board.console.file.getvalue(), heard, failures


def test_lines_where_there_is_no_terminal(board):
    shown, heard, failures = follow(board)
    assert shown.splitlines() == [
        "[0:00:00] a / 02_training: started",
        "[0:00:00] a / 02_training: done in 0:01:05 (1 of 4 notebooks)",
        "[0:00:00] b / 02_training: failed cell [3]: ValueError: no [b h w].",
        "more (2 of 4 notebooks, 1 failed)",
    ]
    assert (heard, failures) == ([EVENTS[2]], [EVENTS[3]])


def test_a_line_is_not_broken(time):
    board = make_board(time, names=["x" * 200, "b"])
    board.follow(event for event in [Event("x" * 200, "02_training", "running", 1, 10)])
    assert board.console.file.getvalue().count("\n") == 1


def test_rows_for_all_and_for_each_that_runs(board, time):
    board.add(EVENTS[3])
    board.add(Event("a", "02_training", "running", 3, 10))
    time.now = 75
    rows = screen(board)
    assert len(rows) == 2
    assert rows[0].startswith("all experiments ━")
    assert rows[0].endswith("1 of 4 notebooks, 1 failed 0:01:15")
    assert rows[1].startswith("a / 02_training ━")
    assert rows[1].split()[-5:] == ["cell", "3", "of", "10", "0:01:15"]


def test_a_job_in_its_last_cell_is_still_timed(board, time):
    board.add(Event("a", "02_training", "running", 10, 10))
    time.now = 75
    assert screen(board)[1].split()[-5:] == ["cell", "10", "of", "10", "0:01:15"]


def test_in_a_terminal_failures_stay_above_the_rows(time):
    shown, heard, failures = follow(make_board(time, terminal=True))
    assert (
        "[0:00:00] b / 02_training: failed cell [3]: ValueError: no [b h w].\nmore (2 of 4 notebooks, 1 failed)"
        in shown
    )
    assert "started" not in shown
    last = shown.rpartition("all experiments")[2]
    assert "2 of 4 notebooks, 1 failed" in last
    assert "02_training" not in last
    assert (heard, failures) == ([EVENTS[2]], [EVENTS[3]])


def test_the_workers_are_stopped_whatever_happens(board):
    closed = []

    def endless():
        try:
            while True:
                yield EVENTS[2]
        finally:
            closed.append(True)

    def interrupt(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        board.follow(endless(), interrupt)
    assert closed == [True]
