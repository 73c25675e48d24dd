"""Measure everything and write benchmarks/results.md, and its summary into the README: `make bench`."""

import argparse
import os
import platform
import re
import time
from datetime import date
from pathlib import Path

import pandas as pd
import torch

from benchmarks import batch, quality, resources, speed
from benchmarks.networks import bfloat16_is_fast
from benchmarks.section import Section, Verdict
from ddpm_utils import data
from ddpm_utils.checkpoints import write_bytes
from ddpm_utils.data import PROJECT

PARTS = {
    "training": speed.training_step,
    "calls": speed.network_calls,
    "avx2": speed.with_avx2,
    "networks": speed.network_sizes,
    "samplers": speed.sampler_loops,
    "quality": quality.time_to_quality,
    "scratch": quality.from_scratch,
    "memory": resources.peak_memory,
    "notebooks": resources.first_figures,
    "sweep": batch.efficiency,
}
RESULTS = PROJECT / "benchmarks" / "results.md"
MARKED = re.compile(r"(<!-- benchmarks -->\n).*(<!-- end of benchmarks -->)", re.DOTALL)


def machine() -> str:
    """The processor and the versions that were measured, in one line."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        named = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
        model = named[1] if named else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    units = torch.backends.cpu.get_cpu_capability() + (" and bfloat16" if bfloat16_is_fast() else "")
    system = f"{platform.system()}, Python {platform.python_version()}, PyTorch {torch.__version__.split('+')[0]}"
    return f"{model}, {cores} cores, {units}; {system}; {date.today()}"


def markdown(sections: list[Section]) -> tuple[str, str]:
    """The summary, and the whole report."""
    verdicts = [verdict for section in sections for verdict in section.verdicts]
    summary = f"{machine()}.\n\n" + pd.DataFrame(verdicts).to_markdown(index=False, disable_numparse=True)
    parts = [
        "\n\n".join(
            [f"## {section.title}"]
            + ([section.table.fillna("").to_markdown(index=False, disable_numparse=True)] if len(section.table) else [])
            + ([section.note] if section.note else [])
        )
        for section in sections
    ]
    return summary, "\n\n".join(["# Benchmarks", summary, *parts]) + "\n"


def main() -> None:
    """Run the parts and write what they found; with some parts only, print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default, and only then written down")
    names = parser.parse_args().parts
    for name in names:
        if name not in PARTS:
            parser.error(f"there is no part {name!r}; there are {', '.join(PARTS)}.")
    print(data.load("mnist").source)  # downloaded now, if it can be, so that all contenders see the same data
    sections = []
    for name in names or PARTS:
        started = time.monotonic()
        try:
            sections.append(PARTS[name]())
        except Exception as error:  # one part that cannot run here does not lose the others
            reason = f"not measured: {type(error).__name__}: {error}"
            sections.append(Section(name, pd.DataFrame(), reason, (Verdict(name, "", reason),)))
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    summary, report = markdown(sections)
    print(f"\n{report}")
    if not names:
        write_bytes(RESULTS, report.encode())
        readme = PROJECT / "README.md"
        text = MARKED.sub(lambda found: f"{found[1]}{summary}\n{found[2]}", readme.read_text(encoding="utf-8"))
        write_bytes(readme, text.encode())


if __name__ == "__main__":
    main()
