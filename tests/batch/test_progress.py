"""What is shown of a sweep, from its events."""

import io

import pytest
from rich.console import Console

from ddpm_utils.batch.jobs import Event, Job
from ddpm_utils.batch.progress import Board, duration, show


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(tmp_path, clock) -> Board:
    names = ("02_training", "03_sampling")
    return Board([[Job(name, {}, tmp_path / e, tmp_path) for name in names] for e in ("a", "b")], 1, clock=clock)


def test_durations_read_as_a_clock_shows_them():
    assert [duration(seconds) for seconds in (0, 75, 3675)] == ["0:00", "1:15", "1:01:15"]


def test_the_rest_is_estimated_from_what_each_notebook_took(board, clock):
    assert board.rest() is None
    board.add(Event("a", "02_training", "done", seconds=100))
    assert board.rest() is None  # nothing is known of 03
    board.add(Event("a", "03_sampling", "done", seconds=20))
    assert board.rest() == 120
    board.add(Event("b", "02_training", "running", 1, 10))
    clock.now = 30
    assert board.rest() == 90
    assert board.summary() == "2 of 4 notebooks, about 1:30 left"
    assert board.title() == "0:30: 2 of 4 notebooks, about 1:30 left"
    clock.now = 1000  # longer than expected: what comes after it takes its time all the same
    assert board.rest() == 20


def test_two_workers_halve_the_rest_and_earlier_executions_count(tmp_path, clock):
    chains = [[Job("02_training", {}, tmp_path / name, tmp_path)] for name in "abc"]
    board = Board(chains, 2, {"02_training": [60, 80]}, clock)
    assert board.rest() == 105
    board.add(Event("a", "02_training", "done", seconds=70))
    assert board.rest() == 70
    board.add(Event("b", "02_training", "done", seconds=70))
    assert board.rest() == 70  # the second worker has nothing to do


def test_what_follows_a_failure_is_not_waited_for(board):
    for event in (("a", "02_training", "failed"), ("b", "02_training", "done"), ("b", "03_sampling", "done")):
        board.add(Event(*event, seconds=1))
    assert board.rest() == 0
    assert board.summary().startswith("3 of 4 notebooks, 1 failed")
    assert [event.experiment for event in board.failures] == ["a"]


def test_a_late_word_of_a_cell_does_not_revive_a_job(board):
    board.add(Event("a", "02_training", "done", seconds=1))
    assert not board.add(Event("a", "02_training", "running", 7, 10))
    assert board.running == []


def test_a_job_that_lost_its_worker_runs_again(board):
    board.add(Event("a", "02_training", "done", seconds=1))
    board.add(Event("a", "03_sampling", "running", 4, 10))
    board.add(Event("a", "02_training", "kept", seconds=1))
    assert board.add(Event("a", "03_sampling", "running", 1, 10))
    assert [event.notebook for event in board.running] == ["03_sampling"]


EVENTS = [
    Event("a", "02_training", "running", 1, 10),
    Event("a", "02_training", "running", 2, 10),
    Event("a", "02_training", "done", seconds=65),
    Event("b", "02_training", "failed", message="cell [3]: ValueError: no [b h w].\nmore"),
]


def test_lines_where_there_is_no_terminal(board, capsys):
    heard = []
    show(EVENTS, board, Console(file=io.StringIO()), heard.append)
    assert capsys.readouterr().out.splitlines() == [
        "[0:00] a / 02_training: started",
        "[0:00] a / 02_training: done in 1:05 (1 of 4 notebooks)",
        "[0:00] b / 02_training: failed cell [3]: ValueError: no [b h w].",
        "more (2 of 4 notebooks, 1 failed)",
    ]
    assert heard == [EVENTS[2]]


def test_a_table_in_a_terminal(board):
    board.add(EVENTS[3])
    board.add(Event("a", "02_training", "running", 2, 10))
    screen = io.StringIO()
    Console(file=screen, force_terminal=True, width=120).print(board)
    lines = [line for line in screen.getvalue().splitlines() if "02_training" in line]
    assert "2/10" in lines[0]
    assert "failed" in lines[1]
    assert "cell [3]: ValueError: no [b h w]." in lines[1]  # no markup


def test_the_table_stays_in_place_and_ends_as_a_line(board):
    screen, heard = io.StringIO(), []
    show(EVENTS, board, Console(file=screen, force_terminal=True, width=120), heard.append)
    assert "\n0:00: 2 of 4 notebooks, 1 failed\n" in screen.getvalue().replace("\x1b[2K", "\n")
    assert heard == [EVENTS[2]]
