"""Parts that measure, run one after the other; what they found, in Markdown."""

import os
import platform
import re
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from ddpm_utils.networks.cpu import processor
from ddpm_utils.system.files import write_bytes
from ddpm_utils.system.places import PROJECT

CPUINFO = Path("/proc/cpuinfo")
VENDORS = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}
"""What processors call their vendor, and what reports call it."""


class Verdict(NamedTuple):
    """A line of the summary: a target and what was measured."""

    what: str
    target: str
    measured: str


class Section(NamedTuple):
    """A table with its title, a sentence on how it came about, and its lines of the summary."""

    title: str
    table: pd.DataFrame
    note: str = ""
    verdicts: tuple[Verdict, ...] = ()


def bfloat16_is_fast() -> bool:
    """Whether the processor multiplies bfloat16 (AMX or AVX-512 BF16), as PyTorch sees it."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def measure(parts: Mapping[str, Callable[[], Section]]) -> list[Section]:
    """Run the parts; one that cannot run here does not lose the others."""
    sections = []
    for name, part in parts.items():
        started = time.monotonic()
        try:
            sections.append(part())
        except Exception as error:
            reason = f"not measured: {type(error).__name__}: {error}"
            sections.append(Section(name, pd.DataFrame(), reason, (Verdict(name, "", reason),)))
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    return sections


def fill_readme(contents: Mapping[str, str]) -> None:
    """Put texts between the README's markers, <!-- name --> and <!-- end of name -->; all of them or none.

    Raises:
        ValueError: if the README lacks a place.
        CheckpointError: if it cannot be written.
    """
    readme = PROJECT / "README.md"
    text = readme.read_text(encoding="utf-8")
    for name, content in contents.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*(<!-- end of {name} -->)", re.DOTALL)
        text, places = marked.subn(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)
        if places == 0:
            raise ValueError(f"{readme.name} must hold the lines '<!-- {name} -->' and '<!-- end of {name} -->'.")
    write_bytes(readme, text.encode())


def publish(name: str, sections: list[Section], path: Path) -> None:
    """Write the report of that name to its file, and its summary into the README."""
    summary, report = markdown(name.capitalize(), sections)
    write_bytes(path, report.encode())
    fill_readme({name: summary})


def vendor() -> str:
    """Return the vendor of this machine's processor: "amd", "intel", "apple" or "other"."""
    if platform.system() == "Darwin":
        return "apple" if platform.machine() == "arm64" else "intel"
    known = CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else platform.processor()
    return next((short for name, short in VENDORS.items() if name in known), "other")


def machine() -> str:
    """The processor and the versions that were measured, in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    units = torch.backends.cpu.get_cpu_capability() + (" and bfloat16" if bfloat16_is_fast() else "")
    system = f"{platform.system()}, Python {platform.python_version()}, PyTorch {torch.__version__.split('+')[0]}"
    return f"{processor()}, {cores} core{'s' * (cores > 1)}, {units}; {system}; {date.today()}"


def markdown(title: str, sections: list[Section]) -> tuple[str, str]:
    """The summary, and the whole report, under a title."""
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
    return summary, "\n\n".join([f"# {title}", summary, *parts]) + "\n"
