"""Fault injection and its reports: `python -m maintenance reliability stress|determinism|mutants|soak`."""

import importlib
from collections.abc import Sequence

from ddpm_utils.system.places import PROJECT
from maintenance.report import markdown, measure, publish

COMMANDS = {
    "stress": ("kills", "bad_disk", "bad_bytes", "bad_parameters"),
    "determinism": ("determinism",),
    "mutants": ("mutants",),
    "soak": ("soak",),
}
"""The modules of each command; their function `report` does the work and returns a `report.Section`."""
FOLDER = PROJECT / "maintenance" / "reliability"


def run(command: str, parts: Sequence[str] = ()) -> None:
    """Run some parts of a command and print what they found; without parts run all, and write it down.

    Raises:
        ValueError: if there is no such command or part.
    """
    if command not in COMMANDS:
        raise ValueError(f"command must be one of {', '.join(COMMANDS)}, not {command!r}.")
    known = COMMANDS[command]
    for part in parts:
        if part not in known:
            raise ValueError(f"there is no part {part!r} of {command}; there are {', '.join(known)}.")
    modules = {part: importlib.import_module(f"maintenance.reliability.{part}") for part in parts or known}
    sections = measure({part: module.report for part, module in modules.items()})
    print(f"\n{markdown(command.capitalize(), sections)[1]}")
    if not parts:
        publish(command, sections, FOLDER / f"{command}.md")
