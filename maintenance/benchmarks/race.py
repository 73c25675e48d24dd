"""Time several contenders side by side: each in a process of its own, one at a time, in turn, several rounds.

Processes keep apart what is global, such as the allocator's settings; turns keep a machine whose speed drifts fair.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple
from unittest.mock import patch

Run = Callable[[], int]
"""Does some work and returns how many units (images, calls) it did."""


class Result(NamedTuple):
    """Seconds per unit in each round."""

    rounds: list[float]

    @property
    def median(self) -> float:
        """Over the rounds."""
        return statistics.median(self.rounds)


def work(connection, setup: Callable[..., Run], arguments: tuple) -> None:
    """One contender's process: set up, warm up once, then run whenever told to."""
    try:
        run = setup(*arguments)
        run()
        connection.send("ready")
    except Exception as error:  # a missing package, an unsupported processor: the others go on
        connection.send(f"{type(error).__name__}: {error}".splitlines()[0])
        return
    while connection.recv() == "go":
        started = time.perf_counter()
        units = run()
        connection.send((time.perf_counter() - started) / units)


def take_turns(runs: Mapping[str, Run], rounds: int) -> dict[str, Result]:
    """Time runs that can share a process, in turn, after one warm-up of each."""
    for run in runs.values():
        run()
    seconds = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            units = run()
            seconds[name].append((time.perf_counter() - started) / units)
    return {name: Result(values) for name, values in seconds.items()}


def race(
    contenders: Mapping[str, tuple], rounds: int = 5, environment: Mapping[str, str] | None = None
) -> tuple[dict[str, Result], dict[str, str]]:
    """Run all contenders in turn.

    Args:
        contenders: name → (setup, *its arguments); a setup is a module-level function that returns a `Run`.
        environment: variables that their processes get besides ours.

    Returns:
        results by name, and for those that cannot run here the reason.
    """
    context = multiprocessing.get_context("spawn")
    pipes, failed, processes = {}, {}, []
    for name, (setup, *arguments) in contenders.items():
        here, there = context.Pipe()
        process = context.Process(target=work, args=(there, setup, tuple(arguments)), daemon=True)
        with patch.dict(os.environ, environment or {}):
            process.start()
        there.close()
        processes.append(process)
        answer = here.recv()  # one after the other, so that no setup disturbs a warm-up
        if answer == "ready":
            pipes[name] = here
        else:
            failed[name] = answer
    seconds = {name: [] for name in pipes}
    for _ in range(rounds):
        for name, pipe in pipes.items():
            pipe.send("go")
            seconds[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send("stop")
    for process in processes:
        process.join()
    return {name: Result(rounds) for name, rounds in seconds.items()}, failed


def ratios(slow: Result, fast: Result) -> tuple[float, float, float]:
    """How many times as fast: lowest, median and highest ratio, round by round."""
    values = [a / b for a, b in zip(slow.rounds, fast.rounds, strict=True)]
    return min(values), statistics.median(values), max(values)


def ratio_text(slow: Result, fast: Result) -> str:
    """How many times as fast: the median over rounds, and the range."""
    low, middle, high = ratios(slow, fast)
    return f"{middle:.2f}× ({low:.2f} … {high:.2f})"


def rate_text(result: Result) -> str:
    """Units per second: the median over rounds, and the range."""
    rates = [1 / seconds for seconds in result.rounds]
    return f"{1 / result.median:.0f} ({min(rates):.0f} … {max(rates):.0f})"
