"""Try to break it (make stress, determinism, mutants, soak). Each writes <command>.md, and its summary into README."""

import argparse
import importlib

from benchmarks.report import markdown, measure, publish
from ddpm_utils.data import PROJECT

COMMANDS = {
    "stress": ("kills", "bad_disk", "bad_bytes", "bad_parameters"),
    "determinism": ("determinism",),
    "mutants": ("mutants",),
    "soak": ("soak",),
}
"""The modules of each command; their function `report` does the work and returns a `benchmarks.section.Section`."""
FOLDER = PROJECT / "reliability"


def main() -> None:
    """Run a command's parts and write what they found; with some parts only, print it."""
    parser = argparse.ArgumentParser(prog="python -m reliability", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("parts", nargs="*", help="of the command; all by default, and only then written down")
    chosen = parser.parse_args()
    known = COMMANDS[chosen.command]
    for part in chosen.parts:
        if part not in known:
            parser.error(f"there is no part {part!r} of {chosen.command}; there are {', '.join(known)}.")
    modules = {part: importlib.import_module(f"reliability.{part}") for part in chosen.parts or known}
    sections = measure({part: module.report for part, module in modules.items()})
    print(f"\n{markdown(chosen.command.capitalize(), sections)[1]}")
    if not chosen.parts:
        publish(chosen.command, sections, FOLDER / f"{chosen.command}.md")


if __name__ == "__main__":
    main()
