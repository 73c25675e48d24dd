"""The arithmetic of the long run: what counts as growth."""

import numpy as np
import pandas as pd
import pytest

from maintenance.reliability.soak import growth, plot


def readings(per_minute: float) -> pd.DataFrame:
    """Half an hour that warms up, and then grows by so many MB a minute; now and then a file is open."""
    minutes = np.arange(0, 30, 1 / 30)
    return pd.DataFrame(
        {
            "minutes": minutes,
            "MB": 500 + 100 * np.minimum(minutes / 5, 1) + per_minute * minutes,
            "files": 9 + (np.arange(len(minutes)) % 10 == 0),
            "threads": 2,
        }
    )


def test_what_stays_flat_has_not_grown():
    assert growth(readings(0)) == {"MB": pytest.approx(0), "files": 0, "threads": 0}


def test_a_leak_is_seen():
    """A quarter of an hour lies between the middles of the second quarter and the last."""
    assert growth(readings(2))["MB"] == pytest.approx(2 * 15, rel=0.02)


def test_the_plot_has_memory_files_and_threads():
    figure = plot(readings(0))
    assert [ax.get_ylabel() for ax in figure.axes] == ["memory, MB", "open files", "threads"]
