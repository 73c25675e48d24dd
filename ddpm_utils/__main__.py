"""The one command, `ddpm`; `ddpm --help` lists what it does.

Parameters of experiments are given as name=value, as in `ddpm train beta=0.1 T=200 dataset=mnist epochs=50`.
"""

import argparse
import ast
import os
import sys
from pathlib import Path

from ddpm_utils import commands as do
from ddpm_utils import maintenance
from ddpm_utils.checkpoints import CheckpointError
from ddpm_utils.data import DataError


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; errors a user can mend are one sentence and exit status 1."""
    parser = argparse.ArgumentParser(prog="ddpm", description="The laboratory for denoising diffusion on a laptop.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, function, summary: str, pairs: str | None = None) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=function.__doc__)
        if pairs:
            sub.add_argument("values", nargs="*", metavar="name=value", help=pairs)
        sub.set_defaults(function=function)
        return sub

    command("run", do.run, "execute all notebooks for both published schedules", "parameters of notebooks 03 and 04")
    sweep = command("sweep", do.sweep, "execute a grid of experiments; resumable")
    sweep.add_argument("grid", help="a YAML file, such as grids/beta_T.yaml")
    sweep.add_argument("--only", type=int, metavar="N", help="the Nth experiment alone, as a task of a job array")
    sweep.add_argument("--workers", type=int, metavar="N", help="experiments at a time; by default as the cores allow")
    sweep.add_argument("--threads", type=int, metavar="N", default=1, help="of each; another number, other last digits")
    sweep.add_argument("--dask", action="store_true", help="on a Dask cluster of this machine, with a dashboard")
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="on a running Dask cluster, such as tcp://host:8786")
    sweep.add_argument("--dry-run", action="store_true", help="only say what is done and what would be executed")
    command("lab", do.lab, "open the notebooks in JupyterLab (loopback only)")
    command("app", do.app, "serve the panels as one page without code (loopback only)")
    command("student", do.student, "write the notebooks without their answers")
    site = command("site", do.site, "write the executed notebooks as a static web site")
    site.add_argument("folder", nargs="?", type=Path, help="of the experiments' folders (default: data/runs)")
    train = command("train", do.train, "train one experiment, or resume it", "parameters of the experiment")
    train.add_argument("--tensorboard", action="store_true", help="log the losses in the run folder's tensorboard/")
    command("record", maintenance.record, "evaluate a trained run at full size and ship it", "the same parameters")
    command("ship", maintenance.ship, "ship the weights of a finished run", "the same parameters")
    command("compare", maintenance.compare, "FID over network calls, for every sampler", "the same parameters")
    command("decoders", maintenance.decoders, "compare the decoders of part 2's prelude")
    command("explain", maintenance.explain, "measure what explains Table 1, for shipped weights", "the same parameters")
    command("norms", maintenance.norms, "compare the CNN's LayerNorm options")
    command(
        "reproduce", maintenance.reproduce, "train and measure everything that the project ships; resumable (a night)"
    )
    command("table", maintenance.table, "put the recorded tables into the README")
    command("classifier", maintenance.classifier, "train the digit classifier anew")
    command("notebooks", maintenance.notebooks, "execute the committed notebooks again and strip them")
    command("clean", do.clean, "delete runs (data/runs)")
    options = vars(parser.parse_args(arguments))
    function = options.pop("function")
    try:
        if "values" in options:
            options["values"] = parse(options["values"])
        return function(**options) or 0
    except (ValueError, CheckpointError, DataError, FloatingPointError) as error:
        sentence = f"ddpm: {error}"
    except OSError as error:  # a folder that cannot be made, a disk that is full, …
        where = f"{error.filename}: " if error.filename else ""
        sentence = f"ddpm: {where}{str(error.strerror or error).rstrip('.')}."
    except KeyboardInterrupt:
        sentence = "\nddpm: stopped; what was saved is kept, and the same command goes on from there."
    if os.environ.get("LOCAL_RANK", "0") == "0":  # of the processes that `accelerate launch` starts, one speaks
        print(sentence, file=sys.stderr)
    return 1


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
