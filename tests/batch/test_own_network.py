"""A network of the user's own, by name: trained, found again, refused if it does not fit, noticed when it changes."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddpm_utils import checkpoints
from ddpm_utils.__main__ import main
from ddpm_utils.batch.grid import read_grid
from ddpm_utils.batch.jobs import Job, execute
from ddpm_utils.batch.provenance import made_of
from ddpm_utils.batch.sweep import plan, prospects
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.places import PROJECT
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.parameters import ParameterError
from ddpm_utils.training.restorations import RestorationExperiment
from tests import light_notebooks

NETWORK = '''"""A network of one layer."""

from torch import nn

from own_parts import WIDTH


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(1, WIDTH, 3, padding=1), nn.SiLU(), nn.Conv2d(WIDTH, 1, 3, padding=1))

    def forward(self, z, time):
        return self.layer(z) * time[:, None, None, None]


class Other(Tiny):
    pass


class Flat(Tiny):
    def forward(self, z, time):
        return self.layer(z).flatten(1)


class Needy(Tiny):
    def __init__(self, channels):
        super().__init__()


def three():
    return 3


class Clockless(Tiny):
    def forward(self, z):
        return z


NUMBER = 3
'''
VALUES = {"beta": 0.1, "T": 20, "network": "own_network:Tiny", "epochs": 1, "batch_size": 8}


@pytest.fixture
def module(tmp_path, monkeypatch) -> Path:
    """The user's module, in a folder on Python's path."""
    folder = tmp_path / "work"
    folder.mkdir()
    path = folder / "own_network.py"
    path.write_text(NETWORK, encoding="utf-8")
    (folder / "own_parts.py").write_text("WIDTH = 4\n", encoding="utf-8")
    (folder / "own_broken.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    for name in ("own_network", "own_parts", "own_broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return path


@pytest.fixture
def few(digits, monkeypatch):
    """Two steps of training."""
    few = replace(digits, train=digits.train[:16], validation=digits.validation[:8])
    monkeypatch.setattr(Experiment, "load_data", lambda self: few)
    return few


def test_trains_resumes_and_is_found_again(module, few, output):
    experiment = Experiment(**VALUES)
    assert experiment.slug == "constant-beta0.1-T20-own_network.Tiny"
    assert experiment.slug != experiment.with_values(network="own_network:Other").slug
    decoder = experiment.load_decoder()
    assert type(decoder.network).__name__ == "Tiny"
    assert "trained here just now" in decoder.source
    longer = experiment.with_values(epochs=2)
    run = longer.open_run(few)
    assert run.step == 2
    assert [progress.step for progress in longer.train(run, few)] == [3, 4]
    assert longer.load_decoder("run").description["network"] == "own_network:Tiny"


def test_its_weights_are_for_it_alone(module, few, output):
    experiment = Experiment(**VALUES)
    experiment.load_decoder()
    other = experiment.with_values(network="own_network:Other")
    other.run_folder.parent.mkdir(parents=True)
    experiment.run_folder.rename(other.run_folder)
    with pytest.raises(CheckpointError, match="has network = 'own_network:Tiny', but 'own_network:Other' was"):
        other.load_decoder("run")


def test_its_first_weights_depend_on_the_seed_only(module):
    state = torch.get_rng_state()
    experiment = RestorationExperiment("fade", network="own_network:Tiny")
    first = checkpoints.digest(experiment.make_network().state_dict())
    assert torch.equal(torch.get_rng_state(), state)
    assert checkpoints.digest(experiment.make_network().state_dict()) == first
    assert experiment.slug == "fade-T50-own_network.Tiny"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("own_network", "be one of cnn, .*, or module:class for a network of your own, not 'own_network'."),
        ("own_network:", "be one of cnn, "),
        ("../own_network:Tiny", "be one of cnn, "),
        (f"own_network:{'T' * 100}", "be one of cnn, "),
        ("missing_module:Tiny", "name a class of .*'missing_module:Tiny' (ModuleNotFoundError: No module named 'mi"),
        ("own_broken:Tiny", "name a class of .*'own_broken:Tiny' (ZeroDivisionError: "),
        ("own_network:Missing", "name a class of .* (AttributeError: module 'own_network' has no attribute 'Missing')"),
        ("own_network:NUMBER", "return an nn.Module when it is called without arguments, .* (TypeError: 'int' object"),
        ("own_network:Needy", "return an nn.Module when .* (TypeError: .* 'channels')"),
        ("own_network:three", "return an nn.Module when .* (TypeError: it returned int)"),
        ("own_network:Flat", "map z of shape (n, 1, 28, 28) and .* (ValueError: (2, 1, 28, 28) gave (2, 784))"),
        ("own_network:Clockless", "map z of shape (n, 1, 28, 28) and .* (TypeError: "),
    ],
)
def test_refuses_what_does_not_fit(module, unchecked, name, reason):
    pattern = "network must " + re.escape(reason).replace(r"\.\*", ".*")
    with pytest.raises(ParameterError, match=pattern) as found:
        Experiment(network=name)
    assert [parameter for parameter, _ in found.value.problems] == ["network"]
    assert "\n" not in str(found.value)


def grid(folder: Path) -> Path:
    path = folder / "grid.yaml"
    experiment = "{network: ['own_network:Tiny', lean_unet], beta: 0.1, T: 20}"
    path.write_text(f"experiments:\n  - {experiment}\nnotebooks: {{02_training: }}\n", encoding="utf-8")
    return path


def states(folder: Path) -> list[str]:
    return [line.partition(": ")[2] for line in prospects(plan(read_grid(grid(folder)), folder / "sweep"))]


def test_a_grid_takes_it(module, output):
    own, _ = read_grid(grid(output))
    assert own.name == "constant-beta0.1-T20-own_network.Tiny"
    assert own.notebooks["02_training"]["network"] == "own_network:Tiny"
    assert states(output) == ["to be executed"] * 2
    grid(output).write_text(grid(output).read_text().replace("Tiny", "Flat"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"network must map z .*'own_network:Flat'"):
        read_grid(output / "grid.yaml")


@pytest.mark.parametrize(
    ("file", "text", "counts"),
    [
        ("own_network.py", NETWORK.replace("SiLU", "ReLU"), True),
        ("own_network.py", NETWORK.replace("A network of", "The network with") + "# more\n", False),
        ("own_parts.py", "WIDTH = 5\n", True),
        ("own_broken.py", "2 / 0\n", False),
    ],
)
def test_changed_code_is_noticed(module, file, text, counts):
    experiments = [Experiment(**VALUES), Experiment(**VALUES | {"network": "cnn"})]
    before = [made_of(experiment, "02_training", {}) for experiment in experiments]
    (module.parent / file).write_text(text, encoding="utf-8")
    after = [made_of(experiment, "02_training", {}) for experiment in experiments]
    changed = [{name for name in one if one[name] != other[name]} for one, other in zip(before, after, strict=True)]
    assert changed == [{"training"} if counts else set(), set()]


def test_parts_of_a_package_are_noticed(tmp_path, monkeypatch):
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "network.py").write_text(NETWORK.replace("own_parts", ".parts"), encoding="utf-8")
    (package / "parts.py").write_text("WIDTH = 4\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    experiment = Experiment(**VALUES | {"network": "own_package.network:Tiny"})
    assert experiment.slug.endswith("-own_package.network.Tiny")
    before = made_of(experiment, "02_training", {})["training"]
    (package / "parts.py").write_text("WIDTH = 5\n", encoding="utf-8")
    assert made_of(experiment, "02_training", {})["training"] != before


def test_the_command_finds_it_in_the_current_folder(module, output, capsys, monkeypatch):
    """In a process of its own, which starts without that folder on Python's path, as the script `ddpm` does."""
    code = "import sys; sys.path.remove(''); from ddpm_utils.__main__ import main; sys.exit(main())"
    arguments = ["train", "network=own_network:Tiny", "dataset=mnist_5k", "epochs=1", "batch_size=1600", "T=20"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONSAFEPATH": ""}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, cwd=module.parent, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert "0 steps done" in done.stdout
    assert main(["train", "network=own_network:Flat"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_kernel_finds_it_in_the_current_folder(module, output, tmp_path, monkeypatch):
    light_notebooks.write_needed(tmp_path / "light", "02_training", more="print(type(experiment.make_network()))")
    light_notebooks.use(tmp_path / "light", monkeypatch)
    monkeypatch.chdir(module.parent)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    job = Job("02_training", VALUES | {"dataset": "mnist_5k"}, output / "one", output)
    event = execute(job, 1)
    assert event.state == "done", event.message
    assert "<class 'own_network.Tiny'>" in job.target.read_text(encoding="utf-8")
