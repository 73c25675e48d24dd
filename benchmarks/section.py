"""What one part of the benchmark reports."""

from typing import NamedTuple

import pandas as pd

from benchmarks.race import Result, ratios


class Verdict(NamedTuple):
    """A line of the summary: a target and what was measured."""

    what: str
    target: str
    measured: str


class Section(NamedTuple):
    """A table with its title, a sentence on how it came about, and its lines of the summary."""

    title: str
    table: pd.DataFrame
    note: str = ""
    verdicts: tuple[Verdict, ...] = ()


def ratio_text(slow: Result, fast: Result) -> str:
    """How many times as fast: the median over rounds, and the range."""
    low, middle, high = ratios(slow, fast)
    return f"{middle:.2f}× ({low:.2f} … {high:.2f})"


def rate_text(result: Result) -> str:
    """Units per second: the median over rounds, and the range."""
    rates = [1 / seconds for seconds in result.rounds]
    return f"{1 / result.median:.0f} ({min(rates):.0f} … {max(rates):.0f})"
