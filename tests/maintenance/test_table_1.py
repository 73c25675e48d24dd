"""A run becomes what the project ships: float16 weights, results of just these, kept part by part."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from ddpm_utils import checkpoints, data
from ddpm_utils.evaluation import decoder
from ddpm_utils.evaluation.decoder import evaluate, generate, reconstruct
from ddpm_utils.evaluation.recorded import FINE_TUNED, LARGE_RESTORATION, RECORDED, TRAINED, load_recorded
from ddpm_utils.evaluation.tables import table_1, to_markdown
from ddpm_utils.system.errors import CheckpointError, DataError
from ddpm_utils.system.files import read_json
from ddpm_utils.training.base import Decoder
from ddpm_utils.training.experiments import Experiment
from maintenance.records import seeds
from maintenance.records.reproduce import Step, plan, reproduce
from maintenance.records.shipping import ledger_for
from maintenance.records.table_1 import record, record_explanations
from tests.few_digits import load_few

pytestmark = pytest.mark.usefixtures("short_bootstrap")
TINY = {"beta": 0.3, "T": 4, "network": "lean_unet", "batch_size": 32, "epochs": 1}
SMALL = {"samples": 20, "reconstructions": 6, "calls": 2, "full": 4, "repeats": 2}


@pytest.fixture(scope="module")
def fewer(digits) -> data.Dataset:
    """Digits, with fewer to test on."""
    return replace(digits, test=digits.test[:100])


def load_fewer(name: str) -> data.Dataset:
    """A few digits to train on, and to test on."""
    few = load_few(name)
    return replace(few, test=few.test[:100])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """An output folder that holds a run of two steps."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_OUTPUT", str(folder))
        patch.setattr(data, "load", load_fewer)
        made = Experiment(**TINY)
        dataset = made.load_data()
        for _ in made.train(made.open_run(dataset), dataset):
            pass
    return folder


@pytest.fixture
def experiment(trained, output, monkeypatch) -> Experiment:
    """With a run; what it ships goes to a folder of the test."""
    monkeypatch.setattr(data, "load", load_fewer)
    shutil.copytree(trained, output, dirs_exist_ok=True)
    monkeypatch.setattr(Experiment, "shipped_folder", property(lambda self: output / "shipped"))
    return Experiment(**TINY)


def test_records_what_it_ships(experiment):
    lines = []
    folder = record(experiment, on_progress=lines.append, **SMALL)
    recorded = load_recorded(experiment)
    weights, label = checkpoints.load(folder / "weights.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert label["epoch"] == 1
    assert list(recorded.losses.epoch) == [1]
    network = experiment.make_network()
    network.load_state_dict(weights)
    assert recorded.results["weights"]["sha256"] == checkpoints.digest(network.state_dict())
    few, full = (recorded.results["reconstruction"][kind] for kind in ("few calls", "all steps"))
    assert (few["images"], few["calls"], full["images"], full["calls"]) == (6, 2, 4, 4)
    found = recorded.results["distribution"]["standard"]
    assert found["FID"] == pytest.approx(sum(found["FIDs"]) / 2)
    assert found["FID spread"] == pytest.approx(abs(found["FIDs"][0] - found["FIDs"][1]) / 2**0.5)
    assert recorded.pictures["samples/standard"].shape == (64, 1, 28, 28)
    assert recorded.epochs == [1]
    assert recorded.pictures["epoch1/samples"].shape == (16, 1, 28, 28)
    assert recorded.explained is None
    assert any("distribution, standard" in line for line in lines)

    table = table_1(experiment, recorded.results)
    assert list(table.calls) == [4, 4, 2, 2]
    assert list(table.protocol) == ["corrected", "published"] * 2
    assert f"{found['FID']:.3g} ± {found['FID spread']:.3g}" in to_markdown(table)


def test_a_second_time_measures_nothing_anew(experiment, monkeypatch):
    folder = record(experiment, on_progress=lambda line: None, **SMALL)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(decoder, "sample", None)  # would fail
    record(experiment, on_progress=lambda line: None, **SMALL)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_explanations_are_recorded_for_shipped_weights(experiment, monkeypatch):
    with pytest.raises(CheckpointError, match=r"there are no shipped weights of .*: record them first"):
        record_explanations(experiment)
    record(experiment, on_progress=lambda line: None, **SMALL)
    monkeypatch.setattr("maintenance.records.table_1.explain", lambda *arguments: {"β": arguments[4]("β", lambda: 1)})
    path = record_explanations(experiment, on_progress=lambda line: None)
    recorded = load_recorded(experiment)
    assert read_json(path) == recorded.explained
    assert recorded.explained["β"] == 1
    assert recorded.explained["weights sha256"] == recorded.results["weights"]["sha256"]
    assert recorded.explained["data sha256"] == recorded.results["data sha256"]


def test_sizes_and_weights_are_part_of_a_ledgers_name(experiment, digits):
    decoder = Decoder(experiment.make_network(), {}, "")
    for sizes in ({"samples": 1}, {"samples": 2}, {"samples": 1}):
        ledger_for("measured", experiment, digits, decoder, sizes, lambda line: None)("part", lambda: 1)
    other = Decoder(experiment.with_values(seed=1).make_network(), {}, "")
    ledger_for("measured", experiment, digits, other, sizes, lambda line: None)("part", lambda: 1)
    assert len(list(experiment.run_folder.glob("measured-*.json"))) == 3


def test_a_replacement_of_the_data_is_not_recorded(digits, monkeypatch):
    monkeypatch.setattr(Experiment, "load_data", lambda self: digits)
    with pytest.raises(DataError, match="mnist is needed, not mnist_5k"):
        record(Experiment(dataset="mnist"))


def test_the_difference_of_few_and_all_calls_is_paired(fewer):
    experiment = Experiment(beta=0.3, T=6, network="lean_unet")
    decoder = Decoder(experiment.make_network().eval().requires_grad_(False), {}, "")
    sizes = {"samples": 20, "reconstructions": 5, "calls": 6, "full": 5}
    found = evaluate(experiment, fewer, decoder, **sizes)["reconstruction"]
    assert found["few calls"]["corrected"] == found["all steps"]["corrected"]  # the same sampler at all T steps
    assert set(found["few − all"]["corrected"].values()) == {0.0}
    found = evaluate(experiment, fewer, decoder, **sizes | {"calls": 3})["reconstruction"]
    difference = found["few calls"]["corrected"]["RMSE"] - found["all steps"]["corrected"]["RMSE"]
    assert found["few − all"]["corrected"]["RMSE"] == pytest.approx(difference, abs=1e-6)


def test_the_matched_start_is_left_out_where_it_is_the_other(fewer):
    for beta, starts in {0.99: ["standard"], 0.2: ["standard", "matched"]}.items():
        experiment = Experiment(beta=beta, T=3, network="lean_unet")
        decoder = Decoder(experiment.make_network().eval().requires_grad_(False), {}, "")
        found = evaluate(experiment, fewer, decoder, samples=20, reconstructions=2, calls=3)
        assert list(found["distribution"]) == starts


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"samples": 801}, r"samples must be in 20…800, as many as there are real images, not 801"),
        ({"reconstructions": 1001}, r"reconstructions must be in 1…1000, the test images, not 1001"),
        ({"full": 3}, r"full must be in 0…2, the reconstructions, not 3"),
    ],
)
def test_more_than_there_is_is_refused(sizes, sentence, digits):
    experiment = Experiment(beta=0.3, T=3)
    decoder = Decoder(experiment.make_network(), {}, "")
    with pytest.raises(ValueError, match=sentence):
        evaluate(experiment, digits, decoder, **{"samples": 20, "reconstructions": 2, "calls": 3} | sizes)


def test_reconstructions_from_t_use_the_steps_up_to_t(digits):
    """At t = 1 one call is left, whatever number is asked for; z_1 of a fine schedule is nearly x."""
    experiment = Experiment(beta=1e-4, T=50)
    calls = []

    class Zero(nn.Module):
        def forward(self, z, time):
            calls.append(time[0].item())
            return 0 * z

    decoder = Decoder(Zero(), {}, "")
    x = digits.test.images[:3]
    restored = reconstruct(experiment, decoder, x, calls=10, t=1)
    assert calls == pytest.approx([1 / 50])
    assert (restored - x).abs().max() < 0.06
    calls.clear()
    reconstruct(experiment, decoder, x, calls=10, t=20)
    assert len(calls) == 10
    assert calls[0] == pytest.approx(20 / 50)


def test_sets_of_samples_differ_by_their_seeds(digits):
    experiment = Experiment(beta=0.3, T=3)
    decoder = Decoder(experiment.make_network().eval().requires_grad_(False), {}, "")
    first, again, other = (generate(experiment, digits, decoder, 2, calls=3, first_seed=seed) for seed in (7, 7, 9))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_reproducing_takes_every_step_in_order_and_says_what_is_left():
    done = []
    steps = [Step(f"step {n}", minutes, lambda n=n: done.append(n)) for n, minutes in enumerate((60, 30, 30))]
    lines = list(reproduce(steps))
    assert done == [0, 1, 2]
    assert lines[0] == "[1/3] step 0; about 2.0 hours left on two cores"
    assert lines[2] == "[3/3] step 2; about 0.5 hours left on two cores"


def test_the_plan_trains_and_measures_everything_that_is_shipped(output):
    every = [step.title for step in plan(lambda experiment: None)]
    end = every.index("decoders") + 1
    titles, verdicts = every[:end], every[end:]
    trained = [title for title in titles if title.startswith("train")]
    assert sum("50 epochs" in title for title in trained) == 2
    assert sum("36 epochs" in title for title in trained) == 2
    restorations = [e.title for e in (*TRAINED, *FINE_TUNED, LARGE_RESTORATION)]
    assert {title for title in titles if title.startswith("record")} >= {f"record {title}" for title in restorations}
    assert titles.index(f"record {TRAINED[3].title}") < titles.index(f"train {FINE_TUNED[0].title}, 7 epochs")
    assert sum(title.startswith("record") for title in titles) == 4 + len(restorations)
    assert sum(title.startswith("explain") for title in titles) == 2
    assert sum("cosine schedule" in title for title in trained) == 6  # two decoders, at 5, 7, 30 and 42 epochs
    of_seeds = [e for e in seeds.ALL if e.seed or e.run_name or not e.shipped_folder.exists()]
    assert verdicts == [
        *(f"train {e.title}, seed {e.seed}" for e in of_seeds),
        *("decomposition of β = 0.1", "restorations from equal information", "targets and weightings"),
    ]


def test_tables_of_losses_and_results_are_shipped_for_every_recorded_experiment():
    for values in RECORDED:
        recorded = load_recorded(Experiment(**values))
        assert recorded.results["weights"]["epoch"] <= recorded.losses.epoch.max()
        assert isinstance(recorded.losses, pd.DataFrame)
        kinds = ("samples", "restored")
        assert all(f"epoch{epoch}/{what}" in recorded.pictures for epoch in recorded.epochs for what in kinds)
        if "network" not in values:  # the report's own
            assert recorded.explained["losses"]["mean over t"]["exact"] < recorded.results["test loss"]
            assert recorded.explained["weights sha256"] == recorded.results["weights"]["sha256"]
