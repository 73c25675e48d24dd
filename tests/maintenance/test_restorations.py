"""What is recorded of part 2: results of the shipped weights, complete, and tables of them."""

import pytest

from ddpm_utils import checkpoints
from ddpm_utils.evaluation.recorded import COMPARED, FINE_TUNED, LARGE_RESTORATION, TRAINED, load_decoders, load_results
from ddpm_utils.evaluation.recorded_tables import decoder_table, information_table, new_table, published_pair
from ddpm_utils.evaluation.restoration import GAUSSIAN, GREY
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.files import read_json
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.restorations import RestorationExperiment
from maintenance.records import decoders, restorations
from maintenance.records.decoders import measure
from maintenance.records.restorations import record_restoration

pytestmark = pytest.mark.usefixtures("short_bootstrap")
SMALL = {"images": 20, "calls": 2, "calls_of_new": 1}


@pytest.mark.parametrize(
    "experiment", [*TRAINED, *FINE_TUNED, LARGE_RESTORATION], ids=lambda experiment: experiment.slug
)
def test_results_are_those_of_the_shipped_weights(experiment, output):
    results = load_results(experiment)
    assert results
    decoder = experiment.load_decoder("shipped")
    assert results["weights"]["sha256"] == checkpoints.digest(decoder.network.state_dict())
    assert results["images"] == 1000
    assert (decoder.description["epochs"], decoder.description["dataset"]) == (experiment.epochs, "mnist")
    assert results["calls"] == min(restorations.usual_sizes(experiment)["calls"], experiment.T)
    ways = results["restored"]
    assert list(ways)[:4] == ["degraded", "direct R", "algorithm 1", "algorithm 2"]
    assert ways["direct R"]["corrected"]["RMSE"] < ways["degraded"]["corrected"]["RMSE"]
    assert all(found["FID"] > found["FID floor"] > 0 for found in [*ways.values(), *results["new"]])


def test_fine_tuned_weights_say_what_they_began_with(output):
    first = checkpoints.digest(RestorationExperiment("blur").load_decoder("shipped").network.state_dict())
    for experiment in FINE_TUNED:
        assert experiment.load_decoder("shipped").description["first_weights"] == first


def test_fine_tuning_begins_with_the_shipped_weights(output):
    clean, tuned = RestorationExperiment("blur"), FINE_TUNED[0]
    first, shipped = tuned.first_network().state_dict(), clean.load_decoder("shipped").network.state_dict()
    assert checkpoints.digest(first) == checkpoints.digest(shipped)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        RestorationExperiment("blur", T=3, first_weights="shipped").first_network()


def test_records_resumes_and_refuses(few, output, monkeypatch):
    monkeypatch.setattr(RestorationExperiment, "shipped_folder", output / "shipped")
    experiment = RestorationExperiment("downsampling", T=4, epochs=1, batch_size=32)
    with pytest.raises(CheckpointError, match=r"holds no run, and .* no weights: train it first"):
        record_restoration(experiment, **SMALL)
    digits = experiment.load_data()
    for _ in experiment.train(experiment.open_run(digits), digits):
        pass
    lines = []
    path = record_restoration(experiment, on_progress=lines.append, **SMALL)
    results = read_json(path / "results.json")
    assert results == load_results(experiment)
    assert "downsampling, T = 4: restored, algorithm 2" in lines
    monkeypatch.setattr("ddpm_utils.evaluation.restoration.restore", None)  # nothing is measured twice
    record_restoration(experiment, on_progress=lines.append, **SMALL)
    assert load_results(experiment)["restored"] == results["restored"]


def test_tables_hold_everything_that_is_recorded():
    information, new, pair = information_table(), new_table(), published_pair()
    names = [experiment.degradation for experiment in TRAINED]
    assert list(information.degradation) == list(new.degradation.unique()) == names
    assert not information.isna().any().any()
    assert information.drop(columns="degradation").max().max() <= 1
    assert {GREY, GAUSSIAN} == set(new[new.degradation == "blur"].start)
    assert list(pair.model) == ["blur"] * 5 + ["DDPM"] * 3
    assert list(pair["published FID"].dropna()) == [304, 173]


def test_measures_a_decoder(few, digits):
    experiment = Experiment("cosine", T=4, network="lean_unet", epochs=1, batch_size=32)
    decoder = experiment.load_decoder("run")  # trains
    found = measure(experiment, digits, decoder, images=20, calls=2)
    assert found["epochs"] == 1
    assert found["parameters"] == sum(p.numel() for p in decoder.network.parameters())
    assert found["ms per image"] > 0
    parts = found["loss by t"]
    assert sum(parts[k] for k in (0, 2, 5, 7)) / 4 == pytest.approx(found["test loss"], rel=0.02)  # T = 4: so many t's
    assert set(found["restored"]) >= {"published", "corrected", "class kept", "FID"}


def test_decoders_that_were_not_trained_are_not_compared(output):
    with pytest.raises(CheckpointError, match="holds no run: train it first"):
        decoders.record_decoders()


def test_compared_decoders_are_recorded(output):
    found = load_decoders()
    for group, experiments in COMPARED.items():
        assert [(e["network"], e["epochs"]) for e in found[group]] == [(e.network, e.epochs) for e in experiments]
    assert len({entry["epochs"] for entry in found["equal epochs"]}) == 1
    assert list(decoder_table(found["equal epochs"]).network) == ["cnn", "lean_unet", "unet"]
    for entry, experiment in zip(found["published pair"], COMPARED["published pair"], strict=True):
        decoder = experiment.load_decoder("shipped")
        assert entry["weights sha256"] == checkpoints.digest(decoder.network.state_dict())
        assert decoder.description["epochs"] == experiment.epochs
