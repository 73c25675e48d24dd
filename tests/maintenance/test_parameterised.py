"""Targets and weightings, at a tiny size: each network has the same unweighted loss, and every sampler is measured."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from ddpm_utils.data.datasets import Dataset
from ddpm_utils.diffusion.exact import ExactDecoder
from ddpm_utils.diffusion.solvers import METHODS
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.classifier import load_classifier
from ddpm_utils.evaluation.samples import shuffled_test
from ddpm_utils.training.experiments import Experiment
from maintenance.records import parameterised, seeds
from maintenance.records.parameterised import SPACINGS, measure, record_parameterisation

COUNT = 20  # the fewest that FID takes


@pytest.fixture(scope="module")
def fewer(digits) -> Dataset:
    """Enough for the exact decoder, and to compare with."""
    return replace(digits, train=digits.train[:100], test=digits.test[:100])


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Twenty samples, of five calls each."""
    monkeypatch.setattr(parameterised, "SAMPLES", COUNT)
    monkeypatch.setattr(parameterised, "CALLS", 5)


class Silent(nn.Module):
    """Finds no noise."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))  # its device says where to measure

    def forward(self, z, time):
        return torch.zeros_like(z)


def compute(name: str, work):
    return work()


@pytest.mark.parametrize("values", [{}, {"target": "velocity", "weighting": "min_snr"}], ids=["plain", "weighted"])
def test_a_network_that_finds_no_noise_has_the_loss_1(values, fewer):
    """E[ε²], with any weighting in training."""
    names = []
    experiment = Experiment("cosine", T=40, **values)
    found = measure(experiment, fewer, Silent(), Silent(), lambda name, work: names.append(name) or work())
    assert found["test loss"] == pytest.approx(1, abs=0.01)
    assert found["loss at steps"] == pytest.approx([1.0] * len(found["steps"]), abs=0.03)
    assert (found["steps"][0], found["steps"][-1]) == (1, 40)
    assert list(found["FID"]) == [f"{method}, {spacing}" for method in METHODS for spacing in SPACINGS]
    assert len(names) == len(set(names)) == 2 + len(found["FID"])
    assert (found["samples"], found["calls"]) == (COUNT, 5)
    real = metrics.features(load_classifier()[0].embed, shuffled_test(fewer, 2 * COUNT))
    assert found["FID floor"] == pytest.approx(metrics.fid(real[COUNT:], real[:COUNT]))
    json.dumps(found)


def test_samples_are_the_decoders_by_each_method_and_of_seeds_of_their_own(fewer):
    """The exact decoder draws training images; a silent one draws noise."""
    drawn, scores = {}, {}
    for seed in (0, 1):
        experiment = Experiment("cosine", T=40, seed=seed)
        exact = ExactDecoder(fewer.train.images, experiment.noise_schedule)
        scores[seed] = measure(experiment, fewer, Silent(), exact, compute)["FID"]
    silent = measure(experiment, fewer, Silent(), Silent(), compute)["FID"]
    drawn = scores[0]
    assert len(set(drawn.values())) == len(drawn)  # no method or spacing is taken for another
    assert all(drawn[name] < silent[name] / 2 for name in drawn)
    assert all(drawn[name] != scores[1][name] for name in drawn)


def test_what_is_trained_is_recorded_and_what_diverged_is_listed(fewer, tmp_path, monkeypatch):
    experiments = [Experiment("cosine", T=40, target=target) for target in ("noise", "image", "velocity")]
    monkeypatch.setattr(parameterised, "PATH", tmp_path / "parameterisation.json")
    monkeypatch.setattr(seeds, "PARAMETERISED", experiments)
    monkeypatch.setattr(seeds, "is_trained", lambda experiment: experiment not in experiments[1:])
    monkeypatch.setattr(seeds, "divergence", lambda experiment: "NaN" * (experiment == experiments[2]))
    monkeypatch.setattr(seeds, "load", lambda experiment: type("Found", (), {"network": Silent()}))
    monkeypatch.setattr(parameterised, "named_data", lambda experiment: fewer)
    monkeypatch.setattr(parameterised, "ledger_for", lambda *arguments: compute)
    monkeypatch.setattr(parameterised, "measure", lambda experiment, *others: {"measured": experiment.target})
    found = json.loads(record_parameterisation(print).read_text(encoding="utf-8"))
    about = {"network": "cnn", "epochs": experiments[0].epochs, "weighting": experiments[0].weighting, "seed": 0}
    assert found["targets"] == [
        about | {"target": "noise", "measured": "noise"},
        about | {"target": "velocity", "diverged": "NaN"},
    ]
    assert found["device"]
