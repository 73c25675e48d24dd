import pytest
import torch

from ddpm_utils import checkpoints
from ddpm_utils.cold.mixtures import DEGRADATIONS
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.files import read_csv, read_json
from ddpm_utils.training.parameters import ParameterError
from ddpm_utils.training.restorations import RestorationExperiment
from maintenance.records.shipping import ship_weights


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_each_degradation_has_its_own_t(name):
    experiment = RestorationExperiment(name)
    assert experiment.T == experiment.process.T == DEGRADATIONS[name][1]
    assert experiment.slug == f"{name}-T{experiment.T}-lean_unet"


def test_names_tell_everything_that_is_not_usual():
    experiment = RestorationExperiment("heat", T=7, severity=0.5, norm=1, sigma=0.02, network="unet")
    assert experiment.slug == "heat-T7-severity0.5-L1-sigma0.02-unet"
    assert experiment.title == "heat, T = 7, severity 0.5, L1, σ = 0.02, unet"
    assert experiment.identity["sigma"] == 0.02


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"degradation": "rain"}, "degradation must be one of noise, flow, morph, blur, .*, not 'rain'"),
        ({"T": -1}, "T must be an integer from 1 to 10000, not -1"),
        ({"severity": -0.5}, "severity must be a number from 1e-06 to 1e\\+06, not -0.5"),
        ({"degradation": "flow", "severity": 2.0}, "severity must be a number from 1e-06 to 1, not 2"),
        ({"norm": 3}, "norm must be 1 or 2, not 3"),
        ({"sigma": -0.1}, "sigma must be a number from 0 to 1000, not -0.1"),
        ({"network": "vit"}, "network must be one of cnn, .*, not 'vit'"),
        ({"severity": "much"}, "severity must be a number, not 'much'"),
    ],
)
def test_refuses(values, sentence, unchecked):
    with pytest.raises(ValueError, match=sentence):
        RestorationExperiment(**values)


def test_tells_all_problems_at_once(unchecked):
    values = {"severity": "much", "norm": 3, "sigma": -1, "T": -1}
    with pytest.raises(ParameterError) as found:
        RestorationExperiment("blur", **values)
    assert {name for name, _ in found.value.problems} == set(values)
    with pytest.raises(ParameterError) as found:
        RestorationExperiment("flow", severity=2.0, epochs=0)
    assert [name for name, _ in found.value.problems] == [None, "epochs"]


def test_trains_resumes_and_finds_its_weights(few):
    experiment = RestorationExperiment("downsampling", epochs=5, batch_size=32, learning_rate=1e-3)
    dataset = experiment.load_data()
    run = experiment.open_run(dataset)
    losses = [progress.losses for progress in experiment.train(run, dataset)]
    assert len(losses) == 10
    assert losses[-1]["validation"] < dataset.validation.images.square().mean()
    decoder = experiment.load_decoder("run")
    assert decoder.description["degradation"] == "downsampling"
    again = experiment.open_run(dataset)
    assert again.step == 10
    same = zip(decoder.network.parameters(), again.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_ships_a_finished_run_only(few, output, monkeypatch):
    shipped = output / "shipped"
    monkeypatch.setattr(RestorationExperiment, "shipped_folder", shipped)
    experiment = RestorationExperiment("downsampling", epochs=2, batch_size=32)
    dataset = experiment.load_data()
    training = experiment.train(experiment.open_run(dataset), dataset)
    while next(training).step < 2:  # one epoch
        pass
    training.close()
    with pytest.raises(CheckpointError, match="has made 1 of 2 epochs: finish it first"):
        ship_weights(experiment)
    with pytest.raises(CheckpointError, match="has made 1 of 2 epochs: finish it first"):
        ship_weights(experiment.with_values(epochs=1))  # the cycle that was begun is what counts
    assert not shipped.exists()
    for _ in experiment.train(experiment.open_run(dataset), dataset):
        pass
    ship_weights(experiment, history=False)
    assert sorted(path.name for path in shipped.iterdir()) == ["probe.json", "weights.safetensors"]
    ship_weights(experiment)
    assert experiment.load_decoder("shipped").description["degradation"] == "downsampling"
    assert list(read_csv(shipped / "losses.csv").epoch) == [1, 2]


def test_weights_that_are_shipped_are_replaced_only_by_others(few, output, monkeypatch):
    """Of another run, or with another number of bits."""
    shipped = output / "shipped"
    monkeypatch.setattr(RestorationExperiment, "shipped_folder", shipped)
    experiment = RestorationExperiment("downsampling", T=2, epochs=1, batch_size=32)
    experiment.load_decoder("run")  # trains
    best, label = checkpoints.load(experiment.run_folder / "best.safetensors")
    probe = label.pop("probe")
    path = ship_weights(experiment) / "weights.safetensors"
    assert checkpoints.digest(checkpoints.load(path)[0]) == checkpoints.digest(checkpoints.compress(best))
    ship_weights(experiment, bits=16)
    assert checkpoints.digest(checkpoints.load(path)[0]) == checkpoints.digest(checkpoints.compress(best, bits=16))
    other = {name: 0 * tensor for name, tensor in best.items()}
    checkpoints.save(path, checkpoints.compress(other, bits=16), label)
    before = path.read_bytes()
    ship_weights(experiment, bits=16)
    assert path.read_bytes() == before
    checkpoints.save(path, checkpoints.compress(other, bits=16), label | {"epoch": 7})
    ship_weights(experiment, bits=16)
    assert checkpoints.load(path)[1] == label
    beside = read_json(path.with_name("probe.json"))["probe"]
    assert beside != probe  # of rounded weights
    assert beside == pytest.approx(probe, abs=0.05)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_shipped_restorations_come_closer_than_what_they_are_given(name, digits):
    """Half way down, on digits that they were not trained on."""
    experiment = RestorationExperiment(name)
    network = experiment.load_decoder("shipped").network
    x, t = digits.test.images[:50], experiment.T // 2
    z = experiment.process(x, t, experiment.process.draw_context(50, torch.Generator().manual_seed(0)))
    with torch.inference_mode():
        restored = network(z, torch.full((50,), t / experiment.T))
    assert (restored - x).square().mean() < 0.7 * (z - x).square().mean()
