"""The users' command, `ddpm`; `ddpm --help` lists what it does.

Parameters of experiments are given as name=value, as in `ddpm train beta=0.1 T=200 dataset=mnist epochs=50`.
"""

import argparse
import ast
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ddpm_utils import __version__
from ddpm_utils import commands as do
from ddpm_utils.system.errors import CheckpointError, DataError
from ddpm_utils.system.places import check_output
from ddpm_utils.system.surroundings import prepare
from ddpm_utils.system.terminal import spell_out


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; errors a user can mend are one sentence and exit status 1."""
    spell_out()
    try:
        here = os.getcwd()
    except FileNotFoundError:
        print("ddpm: the current folder was deleted: change to another one.", file=sys.stderr)
        return 1
    if not sys.flags.safe_path and here not in sys.path:
        sys.path.insert(0, here)  # as with `python -m ddpm_utils`: networks of the user's own are found here
    parser = argparse.ArgumentParser(prog="ddpm", description="Diffusion models on a laptop: notebooks, no GPU needed.")
    parser.add_argument("--version", action="version", version=f"ddpm-utils {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, function: Callable, summary: str, pairs: str | None = None) -> argparse.ArgumentParser:
        return add_command(commands, name, function, summary, pairs)

    command("run", do.run, "execute all notebooks for both published schedules", "parameters of notebooks 03 and 04")
    train = command("train", do.train, "train one experiment, or resume it", "parameters of the experiment")
    train.add_argument("--tensorboard", action="store_true", help="log the losses in the run folder's tensorboard/")
    sweep = command("sweep", do.sweep, "execute a grid of experiments; resumable")
    sweep.add_argument("grid", type=do.grid_path, help="a YAML file of your own, or grids/beta_T.yaml, which is ours")
    sweep.add_argument("--only", type=int, metavar="N", help="the Nth experiment alone, as a task of a job array")
    sweep.add_argument("--workers", type=int, metavar="N", help="experiments at a time; by default as the cores allow")
    threads = "threads per experiment (changes the last digits of results)"
    sweep.add_argument("--threads", type=int, metavar="N", default=1, help=threads)
    sweep.add_argument("--dask", action="store_true", help="on a Dask cluster of this machine, with a dashboard")
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="on a running Dask cluster, such as tcp://host:8786")
    sweep.add_argument("--dry-run", action="store_true", help="only say what is done and what would be executed")
    command("lab", do.lab, "open a copy of the notebooks in JupyterLab (loopback only)")
    command("app", do.app, "serve the panels as one page without code (loopback only)")
    site = command("site", do.site, "write the executed notebooks as a static web site")
    site.add_argument("folder", nargs="?", type=Path, help="of the experiments' folders (default: data/runs)")
    command("student", do.student, "write the notebooks without their solutions")
    command("clean", do.clean, "delete runs (data/runs)")
    return execute("ddpm", vars(parser.parse_args(arguments)))


def add_command(
    commands: argparse._SubParsersAction, name: str, function: Callable, summary: str, pairs: str | None = None
) -> argparse.ArgumentParser:
    """Add a subcommand that calls a function.

    Args:
        pairs: what its name=value arguments are; None if it takes none.
    """
    command = commands.add_parser(name, help=summary, description=function.__doc__)
    if pairs:
        command.add_argument("values", nargs="*", metavar="name=value", help=pairs)
    command.set_defaults(function=function)
    return command


def execute(program: str, options: dict) -> int:
    """Call what a subcommand stands for; returns the exit status.

    Args:
        program: its name, which begins the sentence of an error.
        options: the parsed arguments, with the function among them.
    """
    function = options.pop("function")
    try:
        if "values" in options:
            options["values"] = parse(options["values"])
        prepare()
        if not options.get("folder"):  # `site` may be given one to write to
            tell(check_output())
        return function(**options) or 0
    except (ValueError, CheckpointError, DataError, FloatingPointError) as error:
        sentence = f"{program}: {error}"
    except OSError as error:  # a folder that cannot be made, a disk that is full, …
        where = f"{error.filename}: " if error.filename else ""
        sentence = f"{program}: {where}{str(error.strerror or error).rstrip('.')}."
    except KeyboardInterrupt:
        sentence = f"\n{program}: stopped; what was saved is kept, and the same command goes on from there."
    tell(sentence)
    return 1


def tell(sentence: str) -> None:
    """Print a sentence, if there is one, to stderr; of the processes that `accelerate launch` starts, one speaks."""
    if sentence and os.environ.get("LOCAL_RANK", "0") == "0":
        print(sentence, file=sys.stderr, flush=True)


def parse(pairs: list[str]) -> dict:
    """["beta=0.1", "dataset=mnist"] → {"beta": 0.1, "dataset": "mnist"}.

    Raises:
        ValueError: if one is not of the form name=value.
    """
    values = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (name and equals):
            raise ValueError(f"parameters are given as name=value, not {pair!r}.")
        try:
            values[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values


if __name__ == "__main__":
    sys.exit(main())
