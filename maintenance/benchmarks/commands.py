"""Speed, memory and quality per minute, side by side with other implementations: `python -m maintenance benchmarks`."""

from collections.abc import Sequence

from ddpm_utils import data
from ddpm_utils.system.places import PROJECT
from maintenance.report import markdown, measure, publish

RESULTS = PROJECT / "maintenance" / "benchmarks" / "results.md"


def run(names: Sequence[str] = ()) -> None:
    """Run the parts of these names and print what they found; without names run all, and write it down.

    Raises:
        ValueError: if there is no such part.
    """
    from maintenance.benchmarks import batch, quality, resources, speed

    parts = {
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
    for name in names:
        if name not in parts:
            raise ValueError(f"there is no part {name!r}; there are {', '.join(parts)}.")
    print(data.load("mnist").source)  # downloaded now, if it can be, so that all contenders see the same data
    sections = measure({name: parts[name] for name in names or parts})
    print(f"\n{markdown('Benchmarks', sections)[1]}")
    if not names:
        publish("benchmarks", sections, RESULTS)
