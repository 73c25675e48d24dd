"""Speed, memory and quality per minute, side by side with other implementations: `python -m maintenance benchmarks`."""

import itertools
import re
from collections.abc import Sequence

import pandas as pd

from ddpm_utils import data
from ddpm_utils.system.files import write_bytes
from ddpm_utils.system.places import PROJECT
from maintenance.report import fill_readme, markdown, measure, vendor

FOLDER = PROJECT / "maintenance" / "benchmarks"
"""Where the reports are: results-<vendor>.md, one for each vendor of processors."""
LEFT_OUT = r"\((R|TM)\)|\bCPU\b|\bProcessor\b|\b\d+-Core\b|@.*"
"""What a processor's name holds besides the vendor and the model."""


def run(names: Sequence[str] = ()) -> None:
    """Run the parts of these names and print what they found; without names run all, and write it down.

    Raises:
        ValueError: if there is no such part.
    """
    from maintenance.benchmarks import batch, cuda, quality, resources, speed

    parts = {
        "training": speed.training_step,
        "calls": speed.network_calls,
        "convolution": speed.chosen_convolution,
        "avx2": speed.with_avx2,
        "networks": speed.network_sizes,
        "cuda": cuda.on_cuda,
        "samplers": speed.sampler_loops,
        "quality": quality.time_to_quality,
        "scratch": quality.from_scratch,
        "memory": resources.peak_memory,
        "notebooks": resources.first_figures,
        "sweep": batch.efficiency,
    }
    for name in names:
        if name not in parts:
            raise ValueError(f"there is no part {name!r}; there are {', '.join(parts)}.")
    print(data.load("mnist").source)  # downloaded now, if it can be, so that all contenders see the same data
    report = markdown("Benchmarks", measure({name: parts[name] for name in names or parts}))[1]
    print(f"\n{report}")
    if not names:
        write_bytes(FOLDER / f"results-{vendor()}.md", report.encode())
        fill_readme({"benchmarks": compare([path.read_text("utf-8") for path in sorted(FOLDER.glob("results-*.md"))])})


def compare(reports: Sequence[str]) -> str:
    """Return the README's summary: all machines, then all targets in one table, with a column for each report.

    Args:
        reports: in Markdown, as `run` writes them; at least one.
    """
    machines, measured = zip(*map(read_summary, reports), strict=True)
    targets = dict.fromkeys(itertools.chain(*measured))  # each once, in the order of the reports
    rows = [[*target, *(found.get(target, "not measured") for found in measured)] for target in targets]
    table = pd.DataFrame(rows, columns=["what", "target", *map(short_name, machines)])
    return "\n".join(machines) + "\n\n" + table.to_markdown(index=False, disable_numparse=True)


def read_summary(report: str) -> tuple[str, dict[tuple[str, str], str]]:
    """Read the summary of a report in Markdown.

    Returns:
        its line on the machine, and what was measured for each (what, target) of its first table.
    """
    _, machine, table, *_ = report.strip().split("\n\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return machine, {(what, target): measured for what, target, measured in rows}


def short_name(machine: str) -> str:
    """Return the processor that a report's line on the machine begins with: "AMD EPYC", "Intel Xeon"."""
    return " ".join(re.sub(LEFT_OUT, " ", machine.split(",")[0]).split())
