"""Training steps, network calls and sampler loops, ours and others', side by side."""

from functools import cache

import pandas as pd
import torch

from ddpm_utils.networks.cpu import convolution
from ddpm_utils.networks.spectral import FORMS
from maintenance.benchmarks import loops, networks, samplers
from maintenance.benchmarks.networks import BATCH
from maintenance.benchmarks.race import Result, race, rate_text, ratio_text, ratios, take_turns
from maintenance.report import Section, Verdict, vendor

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
PLAIN = "plain loop (Dataset, DataLoader, eager)"


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


@cache
def race_training() -> tuple[dict[str, Result], pd.DataFrame]:
    """Race the training steps of the report's CNN, once in this process."""
    return throughput(
        {
            PLAIN: (loops.plain_loop,),
            "plain loop, torch.compile": (loops.plain_loop, True),
            "diffusers' loop": (loops.diffusers_loop,),
            "smalldiffusion's loop": (loops.smalldiffusion_loop,),
            "ours, direct, system's allocator": (loops.our_loop, "float32", "direct", False),
            "ours, direct": (loops.our_loop, "float32", "direct"),
            "ours, spectral, system's allocator": (loops.our_loop, "float32", "spectral", False),
            "ours, spectral": (loops.our_loop, "float32", "spectral"),
            "ours": (loops.our_loop,),
            "ours, bfloat16": (loops.our_loop, "bfloat16"),
        },
        PLAIN,
    )


@cache
def race_calls() -> tuple[dict[str, Result], pd.DataFrame]:
    """Race the calls of the report's CNN, once in this process."""
    return throughput(
        {
            "eager": (networks.plain_calls,),
            "eager, torch.compile": (networks.plain_calls, True),
            "ours, direct": (networks.network_calls, "cnn", "float32", "direct"),
            "ours, spectral": (networks.network_calls, "cnn", "float32", "spectral"),
            "ours": (networks.network_calls, "cnn"),
            "ours, bfloat16": (networks.network_calls, "cnn", "bfloat16"),
        },
        "eager",
    )


def training_step() -> Section:
    """The training step of the report's CNN."""
    form = convolution()  # measured now, if it is not known, and not beside the race
    results, table = race_training()
    note = (
        f"*ours*: float32, freed memory kept, the convolution that is chosen on this machine: {form}. bfloat16 "
        "(`ACCELERATE_MIXED_PRECISION=bf16`): direct convolution, for processors that multiply it; its weights differ."
    )
    verdict = Verdict(
        "training step, same CNN, against the plain loop", "≥ 2×", ratio_text(results[PLAIN], results["ours"])
    )
    return Section(f"Training step of the report's CNN, batch {BATCH}", table, note, (verdict,))


def network_calls() -> Section:
    """Network calls of the report's CNN."""
    form = convolution()
    results, table = race_calls()
    note = f"*ours*: frozen weights, as in samplers, and the convolution that is chosen on this machine: {form}."
    verdict = Verdict(
        "inference, same CNN, batch 128, against eager", "≥ 1.5×", ratio_text(results["eager"], results["ours"])
    )
    return Section(f"Calls of the report's CNN, batch {BATCH}", table, note, (verdict,))


def chosen_convolution() -> Section:
    """Plain PyTorch, both forms of the convolution and the chosen one, in the races of training steps and of calls."""
    form = convolution()
    rows, lowest = [], []
    for work, plain, (results, _) in (("training step", PLAIN, race_training()), ("calls", "eager", race_calls())):
        forms = {name: results[f"ours, {name}"] for name in FORMS}
        columns = {"plain PyTorch": results[plain]} | forms | {"chosen": results["ours"]}
        rates = {name: rate_text(result) for name, result in columns.items()}
        rows.append({"work": work} | rates | {"chosen / plain": ratio_text(results[plain], results["ours"])})
        lowest.append(ratios(results[plain], results["ours"])[0])
    verdict = Verdict(
        "chosen convolution against plain PyTorch, lowest ratio of all rounds", "≥ 1", f"{min(lowest):.2f}×"
    )
    note = f"Images/s of the two races above. Chosen on this machine: {form}."
    return Section(f"Convolution of the report's CNN, batch {BATCH}", pd.DataFrame(rows), note, (verdict,))


def with_avx2() -> Section:
    """Training steps and calls of the report's CNN on an Intel processor that is told to use AVX2 only.

    Raises:
        RuntimeError: if this is no Intel processor with AVX-512.
    """
    if vendor() != "intel" or not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        raise RuntimeError("this is no Intel processor with AVX-512.")
    form = convolution()  # before the race: a choice that is made with AVX2 only would be kept for this machine
    loop, ours = (loops.our_loop, "float32", form), (networks.network_calls, "cnn", "float32", form)
    trained, steps = throughput({"plain loop": (loops.plain_loop,), "ours": loop}, "plain loop", AVX2)
    called, calls = throughput({"eager": (networks.plain_calls,), "ours": ours}, "eager", AVX2)
    table = pd.concat([steps.assign(work="training step"), calls.assign(work="calls")])
    note = (
        "An Intel processor that is told to use AVX2 only; this is no AMD processor. "
        f"*ours*: the convolution that is chosen with all instructions: {form}."
    )
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
