"""Several commands of ddpm on few digits, one after the other, in one of two processes: their start takes seconds."""

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from ddpm_utils import data
from ddpm_utils.__main__ import main
from tests.few_digits import load_few


def run(arguments: list[str]) -> dict[str, int | str]:
    """What became of a command: its exit status, and what it printed."""
    with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
        status = main(arguments)
    return {"status": status, "output": output.getvalue(), "errors": errors.getvalue()}


if __name__ == "__main__":
    folder, commands = sys.argv[1:]
    data.load = load_few
    found = {name: run(arguments) for name, arguments in json.loads(commands).items()}
    Path(folder, f"{os.environ['RANK']}.json").write_text(json.dumps(found), encoding="utf-8")
