"""Contenders of a race, in a module of their own: each process that runs one imports it, and nothing that is slow."""

import time


def sleeper(seconds: float):
    """Set up a run of two units."""

    def run() -> int:
        time.sleep(seconds)
        return 2

    return run


def unavailable():
    """Fail to set up."""
    raise RuntimeError("no such library")
