"""Training steps, network calls and sampler loops, ours and others', side by side."""

import pandas as pd
import torch

from maintenance.benchmarks import loops, networks, samplers
from maintenance.benchmarks.networks import BATCH
from maintenance.benchmarks.race import Result, race, rate_text, ratio_text, ratios, take_turns
from maintenance.report import Section, Verdict

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def throughput(
    lines: dict[str, tuple], reference: str, environment: dict[str, str] | None = None
) -> tuple[dict[str, Result], pd.DataFrame]:
    """Race contenders: images per second of each, and how many times as fast as the reference it is."""
    results, failed = race(lines, environment=environment)
    rows = [
        {
            "contender": name,
            "images/s": rate_text(results[name]),
            "ratio": ratio_text(results[reference], results[name]),
        }
        if name in results
        else {"contender": name, "images/s": f"not run: {failed[name]}"}
        for name in lines
    ]
    return results, pd.DataFrame(rows)


def training_step() -> Section:
    """The training step of the report's CNN."""
    plain = "plain loop (Dataset, DataLoader, eager)"
    lines = {
        plain: (loops.plain_loop,),
        "plain loop, torch.compile": (loops.plain_loop, True),
        "diffusers' loop": (loops.diffusers_loop,),
        "smalldiffusion's loop": (loops.smalldiffusion_loop,),
        "ours, direct convolution, system's allocator": (loops.our_loop, "float32", False, False),
        "ours, direct convolution": (loops.our_loop, "float32", False),
        "ours, system's allocator": (loops.our_loop, "float32", True, False),
        "ours": (loops.our_loop,),
        "ours, bfloat16": (loops.our_loop, "bfloat16"),
    }
    results, table = throughput(lines, plain)
    note = (
        "*ours*: float32, spectral convolution, freed memory kept. bfloat16 "
        "(`ACCELERATE_MIXED_PRECISION=bf16`): direct convolution, for processors that multiply it; its weights differ."
    )
    verdict = Verdict(
        "training step, same CNN, against the plain loop", "≥ 2×", ratio_text(results[plain], results["ours"])
    )
    return Section(f"Training step of the report's CNN, batch {BATCH}", table, note, (verdict,))


def network_calls() -> Section:
    """Network calls of the report's CNN."""
    lines = {
        "eager": (networks.plain_calls,),
        "eager, torch.compile": (networks.plain_calls, True),
        "ours": (networks.network_calls, "cnn"),
        "ours, bfloat16": (networks.network_calls, "cnn", "bfloat16"),
    }
    results, table = throughput(lines, "eager")
    verdict = Verdict(
        "inference, same CNN, batch 128, against eager", "≥ 1.5×", ratio_text(results["eager"], results["ours"])
    )
    return Section(f"Calls of the report's CNN, batch {BATCH}", table, verdicts=(verdict,))


def with_avx2() -> Section:
    """Training steps and calls of the report's CNN with no newer instructions than most laptops have."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        raise RuntimeError("the processor has nothing newer than AVX2.")
    trained, steps = throughput({"plain loop": (loops.plain_loop,), "ours": (loops.our_loop,)}, "plain loop", AVX2)
    called, calls = throughput(
        {"eager": (networks.plain_calls,), "ours": (networks.network_calls, "cnn")}, "eager", AVX2
    )
    table = pd.concat([steps.assign(work="training step"), calls.assign(work="calls")])
    note = "On the same processor, its libraries told to use AVX2 only, as on most laptops."
    verdicts = (
        Verdict("training step with AVX2 only", "≥ 2×", ratio_text(trained["plain loop"], trained["ours"])),
        Verdict("inference with AVX2 only", "≥ 1.5×", ratio_text(called["eager"], called["ours"])),
    )
    return Section(f"The report's CNN with AVX2 only, batch {BATCH}", table, note, verdicts)


def network_sizes() -> Section:
    """Training steps and calls of U-Nets of about the same size."""
    trained, failed = race({name: (networks.network_step, name) for name in networks.NETWORKS}, 3)
    called, _ = race({name: (networks.network_calls, name) for name in networks.NETWORKS}, 3)
    rows = [
        {
            "network": name,
            "parameters": f"{sum(p.numel() for p in networks.make(name).parameters()):,}",
            "training, images/s": rate_text(trained[name]),
            "calls, images/s": rate_text(called[name]),
            "lean_unet's speed-up": ratio_text(trained[name], trained["lean_unet"]),
        }
        if name in trained
        else {"network": name, "training, images/s": f"not run: {failed[name]}"}
        for name in networks.NETWORKS
    ]
    return Section(
        "Networks", pd.DataFrame(rows), f"float32, batch {BATCH}; forward, backward and Adam on a fixed batch."
    )


def sampler_loops() -> Section:
    """What a sampler adds to its network calls, around the same CNN."""
    rows, against, above = [], [], []
    for batch, rounds in {1: 61, 16: 41, BATCH: 15}.items():
        results = take_turns(samplers.sampler_loops(batch), rounds)
        row = {"batch": batch, "network calls, ms": f"{1000 * results['calls'].median:.2f}"}
        for kind, found in results.items():
            added = 100 * (ratios(found, results["calls"])[1] - 1)
            if kind != "calls":
                row[kind] = f"{added:+.1f} %"
            if kind.endswith("ours") and batch >= 16:
                above.append(added)
        for name in samplers.SAMPLERS:
            against.append(
                (ratios(results[f"{name}, ours"], results[f"{name}, diffusers"])[1], f"{name} at batch {batch}")
            )
        rows.append(row)
    note = (
        "Time above that of the same 20 network calls alone: the median over rounds, in one process, in turn. "
        "Ancestral sampling draws its noise as well, ours from one stream per image."
    )
    worst, where = max(against)
    verdicts = (
        Verdict(
            "sampler loop against diffusers', batches 1, 16, 128",
            "never slower",
            f"at worst {worst:.3f}× its time ({where})",
        ),
        Verdict("sampler loop above its bare network calls, batch ≥ 16", "≤ 2 %", f"at most {max(above):.1f} %"),
    )
    return Section("Sampler loops", pd.DataFrame(rows), note, verdicts)
