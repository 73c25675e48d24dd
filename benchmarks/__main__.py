"""Measure everything and write benchmarks/results.md, and its summary into the README: `make bench`."""

import argparse

from benchmarks import batch, quality, resources, speed
from benchmarks.report import markdown, measure, publish
from ddpm_utils import data
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


def main() -> None:
    """Run the parts and write what they found; with some parts only, print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default, and only then written down")
    names = parser.parse_args().parts
    for name in names:
        if name not in PARTS:
            parser.error(f"there is no part {name!r}; there are {', '.join(PARTS)}.")
    print(data.load("mnist").source)  # downloaded now, if it can be, so that all contenders see the same data
    sections = measure({name: PARTS[name] for name in names or PARTS})
    print(f"\n{markdown('Benchmarks', sections)[1]}")
    if not names:
        publish("benchmarks", sections, RESULTS)


if __name__ == "__main__":
    main()
