"""Hot against cold at equal information, at a tiny size: networks whose restorations are known, and a reader."""

from dataclasses import replace

import pytest
import torch

from ddpm_utils.cold.degradations import Degradation
from ddpm_utils.cold.mixtures import DEGRADATIONS
from ddpm_utils.cold.restoration import degrade
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.restoration import GAUSSIAN, GREY
from ddpm_utils.evaluation.samples import shuffled_test
from ddpm_utils.system.files import to_images
from ddpm_utils.training.restorations import RestorationExperiment
from maintenance.records import information
from maintenance.records.controls import RoundedExperiment, to_8_bits
from maintenance.records.information import LEVELS, WAYS, Referee, level_steps, measure_reader
from maintenance.records.information import measure_restoration as measure

COUNT = 20  # the fewest that FID takes
ROUNDING = 1 / 255 / 12**0.5  # deviation of the errors of rounding to multiples of 1/255
FEW = {"restored": COUNT, "calls": 2, "new": COUNT, "calls of new": 2}


@pytest.fixture(scope="module")
def fewer(digits) -> Dataset:
    """Enough to fit the starts to, and to compare with."""
    return replace(digits, train=digits.train[:200], test=digits.test[:100])


@pytest.fixture(scope="module")
def originals(fewer):
    """What is restored: twenty digits."""
    return shuffled_test(fewer, 3 * COUNT)[:COUNT]


class Ledger(dict):
    """Remembers each part by its name, which no other part may have."""

    def __call__(self, name: str, compute):
        assert name not in self
        self[name] = compute()
        return self[name]


def test_a_restoration_that_knows_the_digits_brings_them_back(originals, fewer):
    """Exactly, but that algorithm 2 keeps the errors of rounding: z_t − D(x, t) is added to what comes back."""
    remember, T = Ledger(), 8
    experiment = RestorationExperiment("blur", T=T)
    found = measure(experiment, fewer, lambda z, time: originals, remember, levels=level_steps(T), sizes=FEW)
    rows = found["restored"]
    ways = [*((way, "exact") for way in WAYS), ("direct R", "8 bits"), ("algorithm 2", "8 bits")]
    assert [(row["t"], row["way"], row["bits"]) for row in rows] == [(t, *way) for t in (2, 4, 6, 8) for way in ways]
    for row in rows:
        kept = row["way"] == "algorithm 2" and row["bits"] == "8 bits"
        assert row["RMSE"] == pytest.approx(ROUNDING, rel=0.2) if kept else row["RMSE"] < 1e-6
        assert row["class kept"] == 1
    features = metrics.features(Referee(fewer, COUNT).embed, shuffled_test(fewer, 3 * COUNT))
    perfect, floor = (metrics.fid(features[k * COUNT : (k + 1) * COUNT], features[COUNT : 2 * COUNT]) for k in (0, 2))
    assert rows[0]["FID"] == pytest.approx(perfect)
    assert found["floor"] == found["floor of new"] == pytest.approx(floor)
    assert found["sizes"] == FEW
    assert len(remember) == len(rows) + len(found["new"])


def test_new_digits_are_compared_with_test_digits_and_with_training_digits(originals, fewer):
    """Answers from the training set are copies. Answers from the test set have the FID of real digits."""
    experiment = RestorationExperiment("blur", T=4)
    known, one = fewer.train.images[:COUNT], {}
    for name, answer in {"training": known, "test": originals}.items():
        new = measure(experiment, fewer, lambda z, time, a=answer: a, Ledger(), levels=[], sizes=FEW)["new"]
        assert {entry["start"] for entry in new} == {GREY, GAUSSIAN}
        one[name] = next(entry for entry in new if entry["way"] == "algorithm 1")  # it forgets where it started
    assert one["training"]["copies"] == 1
    assert one["test"]["copies"] == 0
    real = metrics.features(Referee(fewer, COUNT).embed, shuffled_test(fewer, 3 * COUNT))
    assert one["test"]["FID"] == pytest.approx(metrics.fid(real[:COUNT], real[COUNT : 2 * COUNT]))
    low, high = one["test"]["FID interval"]
    assert low < one["test"]["FID"] < high
    assert (to_images(one["test"]["pictures"]) - originals[:10]).abs().max() < 0.01
    assert 0 <= one["test"]["precision"] <= 1


def test_an_estimated_context_makes_both_algorithms_one(fewer):
    experiment = RestorationExperiment("noise", T=4)
    found = measure(experiment, fewer, lambda z, time: 0 * z, Ledger(), levels=[4], sizes=FEW)
    assert {row["way"] for row in [*found["restored"], *found["new"]]} == {"direct R", "algorithm 2"}


def test_a_restoration_that_does_nothing_leaves_what_the_degradation_did(originals, fewer):
    """The exact latents and the rounded ones; also of a network that was trained on rounded latents."""
    for kind in (RestorationExperiment, RoundedExperiment):
        experiment = kind("blur", T=4)
        rows = measure(experiment, fewer, lambda z, time: z, Ledger(), levels=[2, 4], sizes=FEW)["restored"]
        for row in (row for row in rows if row["way"] == "direct R"):
            z, _ = degrade(DEGRADATIONS["blur"][0](T=4, severity=1.0), originals, row["t"])
            z = to_8_bits(z) if row["bits"] == "8 bits" else z
            expected = (z.clamp(-0.5, 0.5) - originals).square().flatten(1).mean(1).sqrt().mean().item()
            assert row["RMSE"] == pytest.approx(expected, rel=1e-5)


def test_a_restoration_trained_with_noise_gets_noise(originals, fewer):
    experiment = RestorationExperiment("blur", T=4, sigma=0.1)
    exact, *_ = measure(experiment, fewer, lambda z, time: z, Ledger(), levels=[4], sizes=FEW)["restored"]
    z, _ = degrade(DEGRADATIONS["blur"][0](T=4, severity=1.0), originals, 4, sigma=0.1)
    rmse = (z.clamp(-0.5, 0.5) - originals).square().flatten(1).mean(1).sqrt().mean().item()
    assert exact["RMSE"] == pytest.approx(rmse, rel=1e-5)


def test_levels_are_steps():
    assert level_steps(100) == [25, 50, 75, 100]
    assert level_steps(2) == [1, 1, 2, 2]  # 0.5 and 1.5 are rounded to even numbers, and t is at least 1


# Reading


class Faint(Degradation):
    """Images of which so little is left that 8 bits hold nothing."""

    def __init__(self, T: int = 4):
        self.T = T

    def __call__(self, x, t, context=None):
        return x * 0.003


@pytest.fixture
def few_steps(monkeypatch):
    """Two training steps of the reader."""
    monkeypatch.setattr(information, "READ", information.READ | {"steps": 2, "batch": 16})


def test_a_reader_is_measured_at_every_level(few_steps, fewer):
    before = torch.get_rng_state()
    found = [measure_reader(DEGRADATIONS["blur"][0](T=8, severity=1.0), fewer, bits) for bits in ("exact", "8 bits")]
    assert [entry["bits"] for entry in found] == ["exact", "8 bits"]
    for entry in found:
        assert entry["t"] == [2, 4, 6, 8]
        assert len(entry["accuracy"]) == len(LEVELS)
        assert all(0 <= share <= 1 for share in entry["accuracy"])
        assert entry["test images"] == 100
        assert entry["seconds"] > 0
        assert entry["device"]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_reader_of_nothing_names_the_same_digit_for_all(few_steps, fewer):
    """Latents that are rounded to 0 are all alike; exact ones are not."""
    seen = []
    inner = information.Whitening.forward

    class Watched(information.Whitening):
        def forward(self, z):
            seen.append(inner(self, z))
            return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(information, "Whitening", Watched)
        found = measure_reader(Faint(), fewer, "8 bits")
        assert all((white == 0).all() for white in seen)
        seen.clear()
        measure_reader(Faint(), fewer, "exact")
    shares = torch.bincount(fewer.test.labels.long(), minlength=10) / len(fewer.test)
    assert all(any(read == pytest.approx(share.item()) for share in shares) for read in found["accuracy"])
    white = torch.cat([z for k, z in enumerate(seen) if k % 3 < 2])  # of training images: two steps, then the test
    assert white.std().item() == pytest.approx((199 / 784) ** 0.5, rel=0.1)  # 200 images span 199 of 784 directions
