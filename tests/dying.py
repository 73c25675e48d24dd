"""What a process does that is killed at its second cell. It imports nothing slow."""

import os
import signal
from collections import namedtuple

Told = namedtuple("Told", "state cell cells message", defaults=("running", 1, 9, ""))
"""What it tells, in place of an event."""


def dies(chain, threads, sender) -> None:
    """Work as a process of `on_processes` does."""
    sender.send(Told(cell=1))
    sender.send(Told(cell=2))
    os.kill(os.getpid(), signal.SIGKILL)
