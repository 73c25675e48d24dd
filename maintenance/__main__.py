"""The maintainers' command, run in a checkout: `python -m maintenance`, which lists what it does.

It writes what is tracked: weights, records, benchmarks, the committed notebooks, and the README's pictures and tables.
"""

import argparse
import sys

from ddpm_utils.__main__ import add_command, execute
from ddpm_utils.system.terminal import spell_out


def benchmarks(parts: list[str]) -> None:
    """Measure speed, memory and quality per minute, beside others: maintenance/benchmarks/results-<vendor>.md."""
    from maintenance.benchmarks.commands import run

    run(parts)


def reliability(command: str, parts: list[str]) -> None:
    """Inject faults, repeat results, mutate the code, or run for half an hour: maintenance/reliability/<command>.md."""
    from maintenance.reliability.commands import run

    run(command, parts)


def notebooks() -> None:
    """Execute the committed notebooks from top to bottom, and the main job for the README's pictures in figures/."""
    from maintenance.notebooks import refresh, write_gallery

    refresh()
    write_gallery()


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; errors that can be mended are one sentence and exit status 1."""
    from maintenance.records import commands as records

    spell_out()
    parser = argparse.ArgumentParser(prog="python -m maintenance", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    add_command(commands, "notebooks", notebooks, "execute the committed notebooks, and write the README's pictures")
    measure = add_command(commands, "benchmarks", benchmarks, "measure speed, memory and quality per minute")
    measure.add_argument("parts", nargs="*", help="some parts only, which are printed and not written down")
    reliable = add_command(commands, "reliability", reliability, "inject faults, and report what was noticed")
    reliable.add_argument("command", help="stress, determinism, mutants or soak")
    reliable.add_argument("parts", nargs="*", help="some parts only, which are printed and not written down")
    summary = "train, measure and ship what data/checkpoints and the README hold"
    recorded = commands.add_parser("records", help=summary, description=summary)
    records.add_commands(recorded.add_subparsers(required=True, metavar="what"))
    return execute("python -m maintenance", vars(parser.parse_args(["--help"] if arguments == [] else arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
