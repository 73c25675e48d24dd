"""Weights of the user's own, from a file: what is found in it, and what is refused in one sentence."""

import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ddpm_utils import checkpoints
from ddpm_utils.batch.grid import read_grid
from ddpm_utils.batch.parameters import check_parameters
from ddpm_utils.batch.provenance import made_of
from ddpm_utils.batch.sweep import main_job
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.training.experiments import PUBLISHED, Experiment
from ddpm_utils.training.restorations import RestorationExperiment
from ddpm_utils.training.run import EpochRecord, Run

EXPERIMENT = Experiment(beta=0.1, T=20, network="lean_unet")


@pytest.fixture(scope="module")
def trained() -> dict[str, torch.Tensor]:
    """Weights that no seed gives."""
    state = EXPERIMENT.with_values(seed=7).make_network().state_dict()
    return {name: tensor.contiguous() + 0.01 for name, tensor in state.items()}


def prefixed(state: dict, prefix: str) -> dict:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def adam_state() -> dict:
    return {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}


CONTENTS = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "optimizer": adam_state(), "epoch": 12},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer_state_dict": adam_state(), "loss": 0.1},
    "module": lambda state: prefixed(state, "module."),
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "both": lambda state: {"model": prefixed(state, "module._orig_mod.")},
    "network": lambda state: {"hyper_parameters": {"T": 20}, "state_dict": prefixed(state, "network.")},
    "lightning with a loss": lambda s: {"state_dict": prefixed(s, "decoder.") | {"perceptual.weight": torch.ones(3)}},
    "ema": lambda state: {"model": {n: 0 * t for n, t in state.items()}, "ema": state},
    "ema of two": lambda s: {
        "model": {n: 0 * t for n, t in s.items()},
        "ema": {"step": torch.tensor(3)} | prefixed({n: 0 * t for n, t in s.items()}, "online_model.")
        | prefixed(s, "ema_model."),
    },
    "the same twice": lambda state: {"model": state, "best": dict(state)},
    "half": lambda state: {name: tensor.half() for name, tensor in state.items()},
}  # fmt: skip


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["own.ckpt", "old.pt"])
def test_a_file_of_torch_is_understood(content, name, trained, tmp_path):
    path = tmp_path / name
    torch.save(CONTENTS[content](trained), path, _use_new_zipfile_serialization=name != "old.pt")
    decoder = EXPERIMENT.load_decoder(path)
    for own, tensor in decoder.network.state_dict().items():
        torch.testing.assert_close(tensor, trained[own], rtol=1e-3, atol=1e-3)
    assert not decoder.network.training
    assert not any(parameter.requires_grad for parameter in decoder.network.parameters())
    assert decoder.source.startswith(f"Weights of your own, from {name}: 42 tensors, ")
    assert "\n" not in decoder.source


def test_the_source_says_what_was_found(trained, tmp_path):
    def source(content: str) -> str:
        torch.save(CONTENTS[content](trained), tmp_path / "own.pt")
        return EXPERIMENT.load_decoder(tmp_path / "own.pt").source

    beginning = source("plain").removesuffix(".")
    assert sum(tensor.numel() for tensor in trained.values()) == int(beginning.split()[-2].replace(",", ""))
    removed = "the prefix {!r} of their names was removed"
    assert source("module") == f"{beginning}; {removed.format('module.')}."
    assert source("both") == f"{beginning}; {removed.format('model.module._orig_mod.')}."
    found = f"{beginning}; {removed.format('state_dict.')}; 2 other tensors are not used; epoch 12."
    assert source("state_dict") == found
    assert f"{removed.format('ema.ema_model.')}; 85 other tensors are not used." in source("ema of two")


def test_safetensors_of_any_origin(trained, tmp_path):
    experiment, path = EXPERIMENT, tmp_path / "own.safetensors"
    safetensors.torch.save_file(prefixed(trained, "module."), path, {"format": "pt"})
    assert "prefix 'module.'" in experiment.load_decoder(path).source
    for description in ({}, {"schedule": "constant", "epoch": 3, "dataset": "mnist"}):
        checkpoints.save(path, trained, description)
        decoder = experiment.load_decoder(str(path))
        assert decoder.description == description
    assert decoder.source.endswith("; epoch 3; trained on mnist.")
    checkpoints.save(path, checkpoints.compress(trained), {})
    for own, tensor in experiment.load_decoder(path).network.state_dict().items():
        torch.testing.assert_close(tensor, trained[own], rtol=1e-2, atol=1e-2)


def test_files_of_a_run_and_of_an_average(trained, tmp_path):
    network = EXPERIMENT.make_network()
    network.load_state_dict(trained)
    run = Run(network, folder=tmp_path, description=EXPERIMENT.description)
    run.finish_epoch(EpochRecord(1, 0.5, 0.5, 1.0))
    for name, prefix in {"best": "", "last": "network."}.items():
        decoder = EXPERIMENT.load_decoder(tmp_path / f"{name}.safetensors")
        assert checkpoints.digest(decoder.network.state_dict()) == checkpoints.digest(run.network.state_dict())
        assert f"{prefix!r}" in decoder.source or not prefix
        with pytest.raises(CheckpointError, match=r"has T = 20, but 30 was asked for\.$"):
            EXPERIMENT.with_values(T=30).load_decoder(tmp_path / f"{name}.safetensors")
    torch.save(AveragedModel(network).state_dict(), tmp_path / "swa.pt")
    assert "prefix 'module.'" in EXPERIMENT.load_decoder(tmp_path / "swa.pt").source


def refusal(path: Path, experiment=EXPERIMENT) -> str:
    with pytest.raises(CheckpointError) as found:
        experiment.load_decoder(path)
    sentence = str(found.value)
    assert sentence.startswith(str(path))
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "git" not in sentence
    assert "delete" not in sentence
    return sentence.removeprefix(str(path))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: {n: t for n, t in s.items() if "leave" not in n}, ": missing leave.weight, leave.bias; choose the"),
        (
            lambda s: {n: t for n, t in s.items() if "up" not in n},
            ": missing up.0.first.weight, up.0.first.bias, up.0.second.weight and 3 more; choose",
        ),
        (lambda s: s | {"label.weight": torch.ones(2)}, ": unexpected label.weight; choose the network"),
        (
            lambda s: s | {"leave.bias": torch.ones(2)},
            ": different leave.bias (real numbers of shape (2,), not real numbers of shape (4,)); choose",
        ),
        (
            lambda s: {n: t.round().to(torch.int8) for n, t in s.items() if "leave" in n} | {"a": torch.ones(1)},
            "unexpected a, different leave.weight (other numbers of shape (4, 48, 3, 3), not real",
        ),
        (lambda s: {"conv.weight": torch.ones(2)}, "unexpected conv.weight; choose"),
        (lambda s: {"model": prefixed(s, "net.") | {"net.x": torch.ones(1)}}, " under the prefix 'model.net.': unexp"),
        (lambda s: {}, ": missing "),
        (lambda s: [torch.ones(3)], ": missing "),
        (lambda s: torch.ones(3), ": missing "),
        (lambda s: {"epoch": 3, "note": "nothing"}, ": missing "),
        (lambda s: s | {"enter.bias": torch.full((48,), torch.nan)}, " holds values that are not finite, in enter."),
        (lambda s: s | {"leave.bias": -torch.ones(4) / 0}, " holds values that are not finite, in leave.bias: "),
        (lambda s: {"model": s, "other": {n: 2 * t for n, t in s.items()}}, " holds several sets of weights that fit"),
        (lambda s: nn.Linear(2, 2), " holds more than tensors, or is damaged; nothing else is read, since a pickle"),
        (lambda s: {"state_dict": s, "path": Path("x")}, " holds more than tensors, or is damaged"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(change, sentence, trained, tmp_path):
    torch.save(change(trained), tmp_path / "own.pt")
    assert sentence in refusal(tmp_path / "own.pt")


def test_a_pickle_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "touched",)

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    assert " holds more than tensors" in refusal(tmp_path / "evil.pt")
    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    assert " holds more than tensors" in refusal(tmp_path / "evil.ckpt")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("kind", ["pt", "old.pt", "safetensors", "own.safetensors"])
def test_damage_anywhere_is_refused(kind, trained, tmp_path):
    path, small = tmp_path / f"own.{kind}", {name: trained[name] for name in list(trained)[:2]}
    if kind.endswith("pt"):
        torch.save(small, path, _use_new_zipfile_serialization=kind == "pt")
    elif kind == "safetensors":
        safetensors.torch.save_file(small, path)
    else:
        checkpoints.save(path, small, {})
    content = path.read_bytes()
    for length in (0, 1, 7, 9, 10, 60, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert refusal(path)
    path.write_bytes(content[:20] + bytes(20) + content[40:])
    assert refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html><html>",
        b"version https://git-lfs.github.com/spec/v1\n",
        bytes(100),
        b"\x89HDF" + bytes(99),
    ],
)
def test_a_file_of_another_kind_is_refused(content, tmp_path):
    (tmp_path / "own.pt").write_bytes(content)
    assert refusal(tmp_path / "own.pt").startswith((" is empty: fetch it again", " holds no weights: it is neither"))


@pytest.mark.parametrize("weights", ["mine", "", ".", "missing.pt", "a\0b", "~nobody/x", None, 3, "x" * 5000])
def test_what_is_no_file_is_refused(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if isinstance(weights, str):
        with pytest.raises(
            ValueError, match="weights must be one of auto, run, shipped, or a file that is there, not "
        ):
            EXPERIMENT.load_decoder(weights)
    with pytest.raises(ValueError, match="weights must be one of auto, run, shipped, or a file that is there, not "):
        check_parameters("03_sampling", weights=weights)


def test_a_changed_network_is_refused_by_the_probe_of_the_file(trained, tmp_path):
    network = EXPERIMENT.make_network()
    network.load_state_dict(trained)
    probe = checkpoints.probe(network)
    checkpoints.save(tmp_path / "own", trained, {"probe": probe})
    assert "probe" not in EXPERIMENT.load_decoder(tmp_path / "own").description
    checkpoints.save(tmp_path / "own", trained, {"probe": [2 * value for value in probe]})
    assert " does not fit LeanUNet, which answers otherwise" in refusal(tmp_path / "own")


def test_restorations_take_a_file(tmp_path):
    experiment = RestorationExperiment("fade", T=5)
    torch.save({"model": experiment.make_network().state_dict()}, tmp_path / "own.pt")
    assert "prefix 'model.'" in experiment.load_decoder(tmp_path / "own.pt").source


# Batches


@pytest.fixture
def own(trained, tmp_path, monkeypatch) -> Path:
    """A file of weights in the current folder, which is also the user's home."""
    torch.save(trained, tmp_path / "own.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "own.pt"


@pytest.mark.parametrize("name", ["own.pt", "./own.pt", "~/own.pt"])
def test_a_grid_and_the_main_job_hold_the_whole_path(name, own):
    grid = (
        f"experiments:\n  - {{beta: 0.1, T: 20, network: lean_unet}}\nnotebooks: {{03_sampling: {{weights: {name}}}}}\n"
    )
    (own.parent / "grid.yaml").write_text(grid, encoding="utf-8")
    (entry,) = read_grid(own.parent / "grid.yaml")
    assert entry.notebooks["03_sampling"]["weights"] == str(own)
    chains = main_job([Experiment(**PUBLISHED["high β"], dataset="mnist")], own.parent, {"weights": name})
    assert [job.parameters.get("weights", "") for job in chains[0]] == ["", "", str(own), str(own)]
    assert EXPERIMENT.load_decoder(name).source.startswith("Weights of your own, from own.pt")


def test_a_grid_keeps_names_and_refuses_what_is_missing(own):
    grid = "experiments:\n  - {beta: 0.1, T: 20}\nnotebooks: {03_sampling: {weights: %s}}\n"
    for name in ("run", "shipped", "auto"):
        (own.parent / "grid.yaml").write_text(grid % name, encoding="utf-8")
        assert read_grid(own.parent / "grid.yaml")[0].notebooks["03_sampling"]["weights"] == name
    for name in ("missing.pt", "3", "."):
        (own.parent / "grid.yaml").write_text(grid % name, encoding="utf-8")
        with pytest.raises(
            ValueError, match="weights of 03_sampling must be one of auto, run, shipped, or a file that"
        ):
            read_grid(own.parent / "grid.yaml")


def test_results_depend_on_the_content_of_the_file(own, trained):
    def parts() -> dict[str, str]:
        return made_of(EXPERIMENT, "03_sampling", {"weights": str(own)})

    before = parts()
    assert parts() == before
    torch.save({name: 2 * tensor for name, tensor in trained.items()}, own)
    assert {name for name, value in parts().items() if value != before[name]} == {"data"}
