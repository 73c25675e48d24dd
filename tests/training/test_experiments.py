import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from ddpm_utils import checkpoints
from ddpm_utils.diffusion.schedules import linear
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.training.experiments import PUBLISHED, SCHEDULES, Experiment
from ddpm_utils.training.parameters import NETWORKS, ParameterError
from ddpm_utils.training.restorations import RestorationExperiment


@pytest.fixture
def tiny(digits, output, monkeypatch) -> Experiment:
    """Two steps of training, in a folder of its own, with nothing shipped."""
    few = replace(digits, train=digits.train[:16], validation=digits.validation[:8])
    monkeypatch.setattr(Experiment, "load_data", lambda self: few)
    monkeypatch.setattr(Experiment, "shipped_folder", property(lambda self: output / "shipped" / self.slug))
    return Experiment(beta=0.1, T=20, epochs=1, batch_size=8)


# Parameters


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schedule": "sigmoid"}, "schedule must be one of constant, linear, cosine, custom, not 'sigmoid'"),
        ({"schedule": 3}, "schedule must be text, not 3"),
        ({"beta": 0}, "beta must lie strictly between 0 and 1, not 0"),
        ({"beta": 1.2}, "beta must lie strictly between 0 and 1, not 1.2"),
        ({"beta": float("nan")}, "beta must lie strictly between 0 and 1, not nan"),
        ({"beta": "0.1"}, "beta must be a number, not '0.1'"),
        ({"schedule": "linear", "beta_min": 0.0}, "beta_min must lie strictly between 0 and 1"),
        ({"schedule": "linear", "beta_max": 1.0}, "beta_max must lie strictly between 0 and 1"),
        ({"schedule": "linear", "beta_min": 0.03}, "beta_min = 0.03 must not be larger than beta_max = 0.02"),
        ({"T": 0}, "T must be in 1…1000000, not 0"),
        ({"T": 10.5}, "T must be an integer, not 10.5"),
        ({"T": "10"}, "T must be an integer, not '10'"),
        ({"T": 1e300}, "T must be an integer, not 1e.300"),
        ({"T": np.bool_(True)}, "T must be an integer, not True"),
        ({"epochs": torch.tensor(2.5)}, "epochs must be an integer, not 2.5"),
        ({"seed": np.array([1])}, r"seed must be an integer, not array\(\[1\]\)"),
        ({"beta": np.float64("inf")}, "beta must lie strictly between 0 and 1, not inf"),
        ({"learning_rate": torch.tensor(True)}, "learning_rate must be a number, not True"),
        ({"schedule": "Cosin"}, r"cosine, custom, not 'Cosin'\. Did you mean 'cosine'\?"),
        ({"schedule": "konstant"}, r"Did you mean 'constant'\?"),
        ({"network": "lean_unets"}, r"not 'lean_unets'\. Did you mean 'lean_unet'\?"),
        ({"lr_schedule": "one_cycles"}, r"not 'one_cycles'\. Did you mean 'one_cycle'\?"),
        ({"betta": 0.1}, r"there is no parameter 'betta'; there are .*\. Did you mean 'beta'\?"),
        ({"Batch-Size": 4}, r"there is no parameter 'Batch-Size'; .*\. Did you mean 'batch_size'\?"),
        ({"T": True}, "T must be an integer, not True"),
        ({"beta": 0.1, "T": 2000}, "alpha at T = 2000 is 3e-92"),
        ({"network": "unknown"}, "network must be one of cnn, .*not 'unknown'"),
        ({"dataset": "cifar"}, "dataset must be one of mnist, .*not 'cifar'"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"epochs": 1.5}, "epochs must be an integer, not 1.5"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"learning_rate": 0.0}, "learning_rate must lie strictly between 0 and 1, not 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must lie strictly between 0 and 1, not nan"),
        ({"learning_rate": None}, "learning_rate must be a number, not None"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"seed": None}, "seed must be an integer, not None"),
        ({"run_name": "../elsewhere"}, "run_name may hold at most 100 letters, digits, .* not '../elsewhere'"),
        ({"run_name": "a b"}, "run_name may hold"),
        ({"run_name": ".."}, "run_name may hold"),
        ({"run_name": 1}, "run_name must be text, not 1"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_refuses(changes, sentence, unchecked):
    with pytest.raises(ValueError, match=sentence):
        Experiment(**changes)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"betta": 3, "beta": 2.0, "T": 0, "epochs": 1.5, "network": "x"}, ["beta", "T", "network", "epochs", "betta"]),
        ({"beta": 0.1, "T": 2000, "seed": -1}, [None, "seed"]),
        ({"schedule": "linear", "beta_min": 0.03, "batch_size": 0}, [None, "batch_size"]),
        ({"schedule": "x", "beta": 2.0, "T": 0}, ["schedule", "T"]),
    ],
)
def test_tells_all_problems_at_once(changes, names, unchecked):
    with pytest.raises(ParameterError) as found:
        Experiment(**changes)
    assert [name for name, _ in found.value.problems] == names
    assert str(found.value) == " ".join(sentence for _, sentence in found.value.problems)
    assert pickle.loads(pickle.dumps(found.value)).problems == found.value.problems


def test_values_by_their_place_are_checked(unchecked):
    with pytest.raises(ParameterError, match=r"^schedule must be text, not 3\.$"):
        Experiment(3)
    with pytest.raises(ParameterError, match=r"there are 16 parameters, schedule, .*; more were given"):
        Experiment(*16 * [""], 1)


def test_equal_parameters_are_the_same_experiment():
    assert {Experiment(beta=0.1, T=20), Experiment("constant", 0.1, T=20)} == {Experiment(beta=0.1, T=20)}
    assert pickle.loads(pickle.dumps(Experiment(T=20))) == Experiment(T=20) != Experiment(T=21)


def test_unused_parameters_are_not_checked():
    Experiment(schedule="cosine", beta=7.0, beta_min=0.5, beta_max=0.1)


def test_builds_the_schedule():
    schedule = Experiment(schedule="linear", beta_min=0.01, beta_max=0.1, T=30).noise_schedule
    assert schedule.beta.tolist() == linear(beta_min=0.01, beta_max=0.1, T=30).beta.tolist()


def test_published_runs():
    low, high = (Experiment(**values).noise_schedule for values in PUBLISHED.values())
    assert low.alpha[-1] == pytest.approx(0.135, abs=5e-4)
    assert high.alpha[-1] == pytest.approx(7e-10, rel=0.02)


@pytest.mark.parametrize(
    ("values", "slug"),
    [
        ({}, "constant-beta0.001-T2000-cnn"),
        ({"schedule": "linear", "T": 1000}, "linear-min0.0001-max0.02-T1000-cnn"),
        ({"schedule": "cosine", "T": 50, "network": "cnn_no_norm"}, "cosine-T50-cnn_no_norm"),
    ],
)
def test_slug_and_folders(values, slug, output):
    experiment = Experiment(**values)
    assert experiment.slug == slug
    assert experiment.run_folder == output / "data" / "runs" / slug / "mnist_5k-seed0"
    assert experiment.figures_folder == output / "data" / "runs" / slug / "figures"
    assert experiment.with_values(run_name="mine").run_folder.name == "mine"


# Other forms of the same value

TWENTY = [20.0, np.int64(20), np.uint8(20), np.float32(20), np.array(20), torch.tensor(20), torch.tensor(20.0)]
TENTH = [np.float64(0.1), np.float32(0.1), np.float16(0.1), np.array(0.1), torch.tensor(0.1)]


@pytest.mark.parametrize("name", ["T", "epochs", "batch_size", "seed"])
def test_integers_may_come_in_other_types(name, unchecked):
    expected = Experiment(beta=0.1, **({"T": 30} | {name: 20}))
    for value in TWENTY:
        same_experiment(Experiment(beta=0.1, **({"T": 30} | {name: value})), expected)


@pytest.mark.parametrize("name", ["beta", "beta_min", "beta_max", "learning_rate"])
def test_numbers_may_come_in_other_types(name, unchecked):
    values = {"schedule": "linear" if name.startswith("beta_") else "constant", "beta_max": 0.2, "T": 30}
    expected = Experiment(**(values | {name: 0.1}))
    for value in TENTH:
        same_experiment(Experiment(**(values | {name: value})), expected)


def test_parameters_of_restorations_may_come_in_other_types(unchecked):
    expected = RestorationExperiment("heat", 20, 0.5, norm=1, sigma=0.1, seed=20)
    for integer, number in zip(TWENTY, [*TENTH, 0.1, 0.1], strict=True):
        given = {"T": integer, "severity": torch.tensor(0.5), "norm": np.float64(1), "sigma": number, "seed": integer}
        same_experiment(RestorationExperiment("Heat", **given), expected)


def same_experiment(experiment, expected) -> None:
    """Equal, also as names and as JSON."""
    assert experiment == expected
    assert (experiment.slug, experiment.title) == (expected.slug, expected.title)
    assert json.dumps(experiment.description) == json.dumps(expected.description)
    assert repr(experiment) == repr(expected)


@pytest.mark.parametrize(
    ("name", "spellings", "expected"),
    [
        ("schedule", ["Cosine", "COSINE", " cosine"], "cosine"),
        ("network", ["LeanUNet", "lean-unet", "Lean UNet", "LEAN_UNET"], "lean_unet"),
        ("network", ["CNN no norm", "cnn-no-norm", "CnnNoNorm"], "cnn_no_norm"),
        ("dataset", ["FashionMNIST", "fashion-mnist", "Fashion MNIST"], "fashion_mnist"),
        ("dataset", ["MNIST", "Mnist"], "mnist"),
        ("lr_schedule", ["OneCycle", "one-cycle", "One cycle"], "one_cycle"),
    ],
)
def test_other_spellings_are_the_same_experiment(name, spellings, expected):
    for spelling in spellings:
        same_experiment(Experiment(**{name: spelling}), Experiment(**{name: expected}))


# Schedules of one's own


def test_a_custom_schedule_is_known_by_its_betas(output):
    betas = [1e-4 + k / 29 * (0.02 - 1e-4) for k in range(30)]
    experiment = Experiment(schedule="custom", betas=betas, T=7, network="lean_unet")
    assert experiment.T == experiment.noise_schedule.T == experiment.objective.T == 30
    assert experiment.noise_schedule.beta.tolist() == [0, *betas]
    assert re.fullmatch(r"custom-T30-[0-9a-f]{8}-lean_unet", experiment.slug)
    assert experiment.title == "custom schedule, β from 0.0001 to 0.02, T = 30, lean_unet"
    assert experiment.identity.keys() == {"schedule", "T", "betas", "network"}
    assert json.loads(json.dumps(experiment.description)) == experiment.description
    assert pickle.loads(pickle.dumps(experiment)) == experiment
    assert len({experiment, experiment.with_values(betas=list(betas)), experiment.with_values(T=5)}) == 1
    other = experiment.with_values(betas=[*betas[:-1], 0.021])
    assert other.slug != experiment.slug
    assert other.identity != experiment.identity
    assert experiment.with_values(schedule="cosine", betas=()).T == 30


@pytest.mark.parametrize("kind", [tuple, np.array, torch.tensor, lambda betas: np.array(betas, dtype=np.float32)])
def test_betas_may_come_in_other_types(kind, unchecked):
    same_experiment(Experiment("custom", betas=kind([0.1, 0.25, 0.3])), Experiment("custom", betas=[0.1, 0.25, 0.3]))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"beta": [0.1, 0.2]},
            'beta must be a number, not [0.1, 0.2]. For a β of its own at each step take schedule="custom"',
        ),
        ({"beta": (0.1,)}, 'take schedule="custom" and betas=[β_1, …, β_T].'),
        ({"beta": np.array([0.1, 0.2])}, 'take schedule="custom" and betas=[β_1, …, β_T].'),
        ({"schedule": "linear", "beta_max": torch.zeros(3)}, 'take schedule="custom" and betas=[β_1, …, β_T].'),
        ({"betas": [0.1]}, "betas must be empty for the schedule 'constant', not 1 numbers: leave them out, or take"),
        ({"schedule": "Cosine", "betas": [0.1, 0.2]}, "betas must be empty for the schedule 'cosine', not 2 numbers"),
        ({"schedule": "custom"}, "betas must hold β_1 … β_T, and not be empty."),
        ({"schedule": "custom", "betas": [0.1, 2]}, "betas[1] = β_2 must lie strictly between 0 and 1, not 2."),
        ({"schedule": "custom", "betas": 300 * [0.9]}, "betas = [0.9 … 0.9]: alpha at T = 300 is 1e-300, below 1e-60"),
    ],
)
def test_betas_that_do_not_fit_are_refused(values, sentence, unchecked):
    with pytest.raises(ParameterError, match=re.escape(sentence)) as found:
        Experiment(**values)
    assert len(found.value.problems) == 1


def test_output_is_the_project_by_default(monkeypatch):
    monkeypatch.delenv("DDPM_OUTPUT", raising=False)
    experiment = Experiment()
    assert experiment.run_folder.parents[3] == experiment.shipped_folder.parents[2]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_description_names_what_the_schedule_uses(schedule):
    experiment = Experiment(schedule=schedule, betas=[0.1, 0.2] if schedule == "custom" else [])
    uses = {"constant": {"beta"}, "linear": {"beta_min", "beta_max"}, "cosine": set(), "custom": {"betas"}}
    names = uses[schedule]
    assert experiment.identity.keys() == {"schedule", "T", "network"} | names
    assert experiment.description.keys() == experiment.identity.keys() | {"batch_size", "seed"}
    cycle = experiment.with_values(lr_schedule="one_cycle").description
    assert cycle.keys() - experiment.description.keys() == {"lr_schedule", "epochs"}


def test_with_values_checks_again():
    assert Experiment().with_values(T=10).T == 10
    with pytest.raises(ValueError, match=r"T must be in 1…1000000, not 0\."):
        Experiment().with_values(T=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_first_weights_depend_on_the_seed_only(name):
    state = torch.get_rng_state()
    experiment = Experiment(network=name)
    first = checkpoints.digest(experiment.make_network().state_dict())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert checkpoints.digest(experiment.make_network().state_dict()) == first
    assert checkpoints.digest(experiment.with_values(seed=1).make_network().state_dict()) != first


# Runs


def test_open_run_continues_or_refuses(tiny):
    data = tiny.load_data()
    for _ in tiny.train(tiny.open_run(data, resume=False), data):
        pass
    assert tiny.open_run(data).step == 2
    with pytest.raises(CheckpointError, match="already holds a run: resume it, choose another seed, or delete"):
        tiny.open_run(data, resume=False)
    with pytest.raises(CheckpointError, match=r"holds a run with learning_rate = 0\.0002, not 0\.01"):
        tiny.with_values(learning_rate=0.01).open_run(data)
    with pytest.raises(CheckpointError, match="holds a run with batch_size = 8, not 4"):
        tiny.with_values(batch_size=4).open_run(data)
    with pytest.raises(CheckpointError, match="holds a run with data_sha256 = "):
        tiny.open_run(replace(data, train=data.train[1:]))


# Decoders


def ship(experiment: Experiment, **changes) -> dict:
    """Put first weights where shipped ones belong, labelled."""
    label = experiment.identity | {"epoch": 50, "dataset": "mnist", "validation_loss": 0.0245} | changes
    network = experiment.make_network()
    label["probe"] = checkpoints.probe(network)
    checkpoints.save(experiment.shipped_folder / "weights.safetensors", network.state_dict(), label)
    return network.state_dict()


def refused(*_):
    raise AssertionError("it must not train")


def test_trains_where_there_is_nothing_and_says_so(tiny):
    decoder = tiny.load_decoder()
    why = "since there is neither a run of yours nor are there shipped weights for constant schedule, "
    assert decoder.source.startswith(f"Weights trained here just now, {why}")
    assert ": 1 epoch on mnist_5k" in decoder.source
    assert decoder.description["epoch"] == 1
    assert not decoder.network.training
    assert not any(parameter.requires_grad for parameter in decoder.network.parameters())
    again = tiny.load_decoder()
    assert again.source.startswith("Weights from your own run")
    assert checkpoints.digest(again.network.state_dict()) == checkpoints.digest(decoder.network.state_dict())


def test_shipped_decoder(tiny, monkeypatch):
    state = ship(tiny)
    monkeypatch.setattr(Experiment, "train", refused)
    for weights in ("shipped", "auto"):
        decoder = tiny.load_decoder(weights)
        assert decoder.source == "Weights shipped with the project: 50 epochs on mnist, validation loss 0.0245."
        assert checkpoints.digest(decoder.network.state_dict()) == checkpoints.digest(state)


def test_the_own_run_comes_before_the_shipped_one(tiny, monkeypatch):
    ship(tiny)
    assert "trained here just now" in tiny.load_decoder("run").source
    monkeypatch.setattr(Experiment, "train", refused)
    assert "from your own run" in tiny.load_decoder("auto").source
    assert "shipped with the project" in tiny.load_decoder("shipped").source


@pytest.mark.parametrize("weights", ["run", "shipped"])
def test_decoder_of_another_schedule(weights, tiny):
    ship(tiny, beta=0.2)
    path = tiny.shipped_folder / "weights.safetensors"
    if weights == "run":
        tiny.run_folder.mkdir(parents=True)
        path.rename(tiny.run_folder / "best.safetensors")
    with pytest.raises(CheckpointError, match=r"has beta = 0\.2, but 0\.1 was asked for"):
        tiny.load_decoder(weights)


@pytest.mark.parametrize("weights", ["run", "shipped"])
def test_truncated_decoder(weights, tiny):
    ship(tiny)
    path = tiny.shipped_folder / "weights.safetensors"
    content = path.read_bytes()[:-100]
    if weights == "run":
        path = tiny.run_folder / "best.safetensors"
        path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        tiny.load_decoder(weights)


def test_unknown_weights():
    with pytest.raises(ValueError, match="must be one of auto, run, shipped, or a file that is there, not 'best'"):
        Experiment().load_decoder("best")
