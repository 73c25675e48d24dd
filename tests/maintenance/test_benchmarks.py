"""The benchmark's own arithmetic; what it measures is not tested here."""

import itertools
import re

import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState

from ddpm_utils.networks.cnn import CNN
from ddpm_utils.networks.spectral import spectral_layers
from ddpm_utils.system.places import PROJECT
from maintenance import report
from maintenance.benchmarks import commands, cuda, loops, networks, samplers, speed
from maintenance.benchmarks.race import Result, race, ratios, take_turns
from maintenance.report import Section, Verdict
from tests.maintenance.contenders import sleeper, unavailable

WHOSE = ("ours", "diffusers")


def test_ratios():
    assert ratios(Result([4.0, 6.0, 9.0]), Result([2.0, 2.0, 3.0])) == (2.0, 3.0, 3.0)
    assert Result([4.0, 6.0, 9.0]).median == 6.0


def test_turns_are_taken():
    order = []
    runs = {name: lambda name=name: order.append(name) or 1 for name in "ab"}
    assert [len(result.rounds) for result in take_turns(runs, 2).values()] == [2, 2]
    assert order == [*"ab", *"ab", *"ab"]


@pytest.fixture
def network_inputs(monkeypatch) -> list[int]:
    """The batch sizes of all calls of the report's CNN from now on."""
    seen = []
    monkeypatch.setattr(CNN, "forward", count_calls(CNN.forward, seen))
    return seen


def count_calls(forward, seen: list[int]):
    """`forward`, which also notes its batch size."""

    def counted(self, z, time):
        seen.append(len(z))
        return forward(self, z, time)

    return counted


@pytest.mark.parametrize("loop", [loops.plain_loop, loops.diffusers_loop, loops.our_loop])
def test_training_loops_train_as_many_images_as_they_say(loop, network_inputs, digits, monkeypatch):
    monkeypatch.setattr(loops, "STEPS", 2)
    monkeypatch.setattr(loops, "BATCH", 8)
    monkeypatch.setattr(loops.data, "load", lambda name: digits)
    monkeypatch.setattr(loops, "mnist_loader", lambda: itertools.repeat(torch.zeros(8, 1, 28, 28)))
    assert loop()() == sum(network_inputs) == 16


@pytest.mark.parametrize("form", ["direct", "spectral", None])
def test_our_loop_and_calls_take_the_form_that_is_asked_for(form, monkeypatch):
    monkeypatch.setattr(networks, "CALLS", 1)
    monkeypatch.setattr(networks, "BATCH", 8)
    chosen = []
    monkeypatch.setattr(loops, "convolution", lambda: "direct")
    monkeypatch.setattr(loops, "use_convolution", lambda network, form: chosen.append(form))
    loops.our_loop("float32", form, False)
    assert chosen == [form or "direct"]
    monkeypatch.setattr(networks, "repeat_calls", lambda network, bfloat16: network)
    network = networks.network_calls("cnn", "float32", form)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert {layer.form for layer in spectral_layers(network)} == {form or "spectral"}  # conftest's choice


@pytest.mark.parametrize("kind", ["calls", *(f"{s}, {whose}" for s in samplers.SAMPLERS for whose in WHOSE)])
def test_sampler_loops_make_as_many_calls_as_they_say(kind, network_inputs):
    assert samplers.sampler_loops(2)[kind]() == len(network_inputs) == 20


def test_a_race_and_its_table_report_those_that_cannot_run(monkeypatch):
    monkeypatch.setattr(speed, "race", lambda contenders, environment: race(contenders, rounds=3))
    lines = {"slow": (sleeper, 0.04), "fast": (sleeper, 0.01), "missing": (unavailable,)}
    results, table = speed.throughput(lines, "slow")
    assert [len(result.rounds) for result in results.values()] == [3, 3]
    assert results["slow"].median > 0.02  # seconds per unit, at least what it slept
    assert results["fast"].median > 0.005
    assert list(table.contender) == ["slow", "fast", "missing"]
    assert table["images/s"][2] == "not run: RuntimeError: no such library"
    assert results.keys() == {"slow", "fast"}


def test_the_lowest_ratio_is_of_all_rounds_of_both_races(monkeypatch):
    chosen, other = Result([2.0, 4.0]), Result([8.0, 8.0])
    ours = {"ours": chosen, "ours, direct": other, "ours, spectral": chosen}
    monkeypatch.setattr(speed, "race_training", lambda: ({speed.PLAIN: Result([4.0, 6.0])} | ours, None))
    monkeypatch.setattr(speed, "race_calls", lambda: ({"eager": Result([4.0, 3.0])} | ours, None))
    section = speed.chosen_convolution()
    assert section.verdicts[0][1:] == ("≥ 1", "0.75×")
    assert list(section.table["chosen / plain"]) == ["1.75× (1.50 … 2.00)", "1.38× (0.75 … 2.00)"]
    assert "Chosen on this machine: spectral." in section.note


def test_the_summary_has_every_verdict():
    sections = [Section("One", pd.DataFrame([{"a": 1}]), "A note.", (Verdict("speed", "≥ 2×", "3×"),))]
    summary, text = report.markdown("Benchmarks", sections)
    assert "| speed  | ≥ 2×     | 3×         |" in summary
    assert summary in text
    assert "## One" in text
    assert "A note." in text


@pytest.mark.parametrize(
    ("name", "file", "verdict"),
    [
        ("stress", "maintenance/reliability/stress.md", "killed anywhere, then resumed: the same bits"),
        ("determinism", "maintenance/reliability/determinism.md", "sweeps that leave the same bits"),
        ("mutants", "maintenance/reliability/mutants.md", "small faults in the science that the tests notice"),
        ("soak", "maintenance/reliability/soak.md", "growth of memory in half an hour"),
    ],
)
def test_the_readme_shows_the_recorded_summary(name, file, verdict):
    recorded = (PROJECT / file).read_text(encoding="utf-8")
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    shown = readme.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- end of {name} -->")[0]
    assert verdict in shown
    assert shown in recorded


FEW = cuda.Sizes(batch=2, steps=1, calls=2, rounds=1, compared=2, images=4)


def test_the_cuda_part_counts_and_compares(digits, monkeypatch):
    monkeypatch.setattr(cuda.data, "load", lambda name: digits)
    section = cuda.on_cuda("cpu", FEW, ("float32", "missing"))
    table = section.table.fillna("")
    assert list(table.network) == ["cnn"] * 8 + ["lean_unet"] * 8
    assert set(table["difference from the CPU"]) == {"", "0.0e+00"}
    assert (table["difference from the CPU"] != "").sum() == 8
    rates = table[table["images/s"] != ""]
    assert [text.startswith("not run: ") for text in rates["images/s"]] == [form == "missing" for form in rates.form]
    assert section.verdicts[0].what == "50 epochs on CUDA, cnn and lean_unet"
    assert re.fullmatch(
        r"cnn: float32 [\d.]+ minutes \(4 images an epoch\); lean_unet: .* minutes \(4 images an epoch\)",
        section.verdicts[0].measured,
    )


@pytest.fixture
def accelerators():
    """What the test leaves in Accelerate's state of this process is forgotten: later trainings would be in bfloat16."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("form", ["float32", "bfloat16"])
def test_cuda_runs_train_and_call_as_many_images_as_they_say(form, network_inputs, digits, accelerators):
    images = digits.train.images[:8]  # more than the steps need: nothing is validated
    assert cuda.training_steps("cnn", "cpu", form, images, FEW)() == sum(network_inputs) == 2
    network_inputs.clear()
    run = cuda.network_calls("cnn", "cpu", form, FEW)
    network_inputs.clear()  # loading weights calls the network, too
    assert run() == sum(network_inputs) == 4


def test_differences_are_relative(digits, monkeypatch):
    monkeypatch.setattr(
        cuda, "losses", lambda network, device, *_: torch.tensor([1.0, 0.5 if device == "cpu" else 0.6])
    )
    monkeypatch.setattr(
        cuda, "answers", lambda network, device, *_: torch.tensor([-4.0, 1.0 if device == "cpu" else 2])
    )
    found = [row["difference from the CPU"] for row in cuda.differences("cnn", "cuda", digits.train.images, FEW)]
    assert found == ["2.0e-01", "2.5e-01"] * 2


def test_the_cuda_part_says_that_there_is_no_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (section,) = report.measure({"cuda": cuda.on_cuda})
    assert section.note == "not measured: RuntimeError: there is no CUDA device."


@pytest.mark.parametrize(
    ("system", "processor", "cpuinfo", "vendor"),
    [
        ("Linux", "", "vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n", "amd"),
        ("Linux", "x86_64", "vendor_id\t: GenuineIntel\n", "intel"),
        ("Linux", "", "processor\t: 0\nCPU implementer\t: 0x41\n", "other"),
        ("Windows", "AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD", None, "amd"),
        ("Windows", "Intel64 Family 6 Model 85 Stepping 7, GenuineIntel", None, "intel"),
        ("Darwin", "arm", None, "apple"),
        ("Darwin", "i386", None, "intel"),
    ],
)
def test_vendors(system, processor, cpuinfo, vendor, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "CPUINFO", tmp_path / "cpuinfo")
    if cpuinfo:
        report.CPUINFO.write_text(cpuinfo, encoding="utf-8")
    monkeypatch.setattr(report.platform, "system", lambda: system)
    monkeypatch.setattr(report.platform, "processor", lambda: processor)
    monkeypatch.setattr(report.platform, "machine", lambda: "arm64" if processor == "arm" else "x86_64")
    assert report.vendor() == vendor


def small_report(machine: str, monkeypatch, **measured: str) -> str:
    """A report on speed (≥ 2×) and memory (≤ 1 GB), or one of the two."""
    targets = {"speed": "≥ 2×", "memory": "≤ 1 GB"}
    verdicts = tuple(Verdict(what, targets[what], value) for what, value in measured.items())
    monkeypatch.setattr(report, "machine", lambda: machine)
    return report.markdown("Benchmarks", [Section("One", pd.DataFrame([{"a": 1}]), "A note.", verdicts)])[1]


AMD, INTEL = (
    "AMD EPYC 7763 64-Core Processor, 2 cores; 2026-12-01",
    "Intel(R) Xeon(R) CPU @ 2.10GHz, 4 cores; 2026-11-25",
)


def test_reports_of_all_vendors_are_compared(monkeypatch):
    reports = [
        small_report(AMD, monkeypatch, speed="3×"),
        small_report(INTEL, monkeypatch, speed="1.9×", memory="0.5 GB"),
    ]
    machines, table = commands.compare(reports).split("\n\n")
    assert machines == f"{AMD}.\n{INTEL}."
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert rows[0] == ["what", "target", "AMD EPYC 7763", "Intel Xeon"]
    assert rows[2:] == [["speed", "≥ 2×", "3×", "1.9×"], ["memory", "≤ 1 GB", "not measured", "0.5 GB"]]


@pytest.mark.parametrize("names", [[], ["cuda"]])
def test_only_a_whole_run_is_written(names, tmp_path, digits, monkeypatch):
    (tmp_path / "results-intel.md").write_text(small_report(INTEL, monkeypatch, speed="1.9×"), encoding="utf-8")
    small_report(AMD, monkeypatch)
    filled = []
    monkeypatch.setattr(commands, "FOLDER", tmp_path)
    monkeypatch.setattr(commands, "vendor", lambda: "amd")
    monkeypatch.setattr(commands.data, "load", lambda name: digits)
    monkeypatch.setattr(commands, "fill_readme", filled.append)
    monkeypatch.setattr(
        commands, "measure", lambda parts: [Section("One", pd.DataFrame(), "", (Verdict("speed", "≥ 2×", "3×"),))]
    )
    commands.run(names)
    written = tmp_path / "results-amd.md"
    assert written.exists() == bool(filled) == (not names)
    if filled:
        assert commands.read_summary(written.read_text(encoding="utf-8")) == (f"{AMD}.", {("speed", "≥ 2×"): "3×"})
        assert filled[0]["benchmarks"].splitlines()[-1].split("|")[3:5] == [" 3×              ", " 1.9×         "]


@pytest.mark.parametrize("path", sorted(commands.FOLDER.glob("results-*.md")), ids=lambda path: path.stem)
def test_the_readme_shows_the_benchmarks_of_each_vendor(path):
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    shown = readme.split("<!-- benchmarks -->\n")[1].split("\n<!-- end of benchmarks -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown.splitlines()]
    machine, measured = commands.read_summary(path.read_text(encoding="utf-8"))
    assert machine in shown
    assert ("training step, same CNN, against the plain loop", "≥ 2×") in measured
    for target, value in measured.items():
        assert any(row[:2] == list(target) and value in row[2:] for row in rows), target
