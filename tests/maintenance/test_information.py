"""Hot against cold at equal information, at a tiny size: networks whose restorations are known, and a reader."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from ddpm_utils.cold.degradations import Degradation
from ddpm_utils.cold.mixtures import DEGRADATIONS
from ddpm_utils.cold.restoration import degrade
from ddpm_utils.data.datasets import Dataset
from ddpm_utils.evaluation import metrics
from ddpm_utils.evaluation.samples import shuffled_test
from ddpm_utils.system.files import to_images
from ddpm_utils.training.experiments import Experiment
from ddpm_utils.training.restorations import RestorationExperiment
from maintenance.records import information
from maintenance.records.controls import RoundedExperiment, to_8_bits
from maintenance.records.information import LEVELS, WAYS, Referee, level_steps, measure_ddpm, measure_reader
from maintenance.records.information import measure_restoration as measure

COUNT = 20  # the fewest that FID takes
ROUNDING = 1 / 255 / 12**0.5  # deviation of the errors of rounding to multiples of 1/255


@pytest.fixture(scope="module")
def fewer(digits) -> Dataset:
    """Enough to fit the starts to, and to compare with."""
    return replace(digits, train=digits.train[:200], test=digits.test[:100])


@pytest.fixture
def originals(fewer, monkeypatch):
    """What is restored: twenty digits."""
    monkeypatch.setattr(information, "Referee", partial(Referee, count=COUNT))
    return shuffled_test(fewer, 3 * COUNT)[:COUNT]


class Ledger(dict):
    """Remembers each part by its name, which no other part may have."""

    def __call__(self, name: str, compute):
        assert name not in self
        self[name] = compute()
        return self[name]


def test_a_restoration_that_knows_the_digits_brings_them_back(originals, fewer):
    """Exactly, but that algorithm 2 keeps the errors of rounding: z_t − D(x, t) is added to what comes back."""
    remember = Ledger()
    found = measure(RestorationExperiment("blur", T=8), fewer, lambda z, time: originals, remember, calls=2)
    rows = found["restored"]
    expected = [(t, way, bits) for t in (2, 4, 6, 8) for bits in ("exact", "8 bits") for way in WAYS]
    assert [(row["t"], row["way"], row["bits"]) for row in rows] == expected
    for row in rows:
        kept = row["way"] == "algorithm 2" and row["bits"] == "8 bits"
        assert row["RMSE"] == pytest.approx(ROUNDING, rel=0.2) if kept else row["RMSE"] < 1e-6
        assert row["class kept"] == 1
        assert ("pictures" in row) == (row["t"] == 8)
        if "pictures" in row:
            assert (to_images(row["pictures"]) - originals[:8]).abs().max() < 0.01
    features = metrics.features(Referee(fewer, COUNT).embed, shuffled_test(fewer, 3 * COUNT))
    perfect, floor = (metrics.fid(features[k * COUNT : (k + 1) * COUNT], features[COUNT : 2 * COUNT]) for k in (0, 2))
    assert rows[0]["FID"] == pytest.approx(perfect)
    assert found["floor"] == pytest.approx(floor)
    assert (found["images"], found["calls"]) == (COUNT, 2)
    assert {row["way"] for row in found["new"]} == {"algorithm 1", "algorithm 2"}  # from each start
    assert len(found["new"]) == 2 * len({row["start"] for row in found["new"]}) > 2
    new = [row["FID"] for row in found["new"] if row["way"] == "algorithm 1"]  # it forgets where it started
    assert new == pytest.approx([perfect] * len(new))
    assert len(remember) == len(rows) + len(found["new"])


def test_a_restoration_that_does_nothing_leaves_what_the_degradation_did(originals, fewer):
    """The exact latents and the rounded ones; also of a network that was trained on rounded latents."""
    for kind in (RestorationExperiment, RoundedExperiment):
        experiment = kind("blur", T=4)
        rows = measure(experiment, fewer, lambda z, time: z, Ledger(), calls=1)["restored"]
        for row in (row for row in rows if row["way"] == "direct R"):
            z, _ = degrade(DEGRADATIONS["blur"][0](T=4, severity=1.0), originals, row["t"])
            z = to_8_bits(z) if row["bits"] == "8 bits" else z
            expected = (z.clamp(-0.5, 0.5) - originals).square().flatten(1).mean(1).sqrt().mean().item()
            assert row["RMSE"] == pytest.approx(expected, rel=1e-5)


def test_a_restoration_trained_with_noise_starts_at_the_end(originals, fewer):
    found = measure(RestorationExperiment("blur", T=4, sigma=0.1), fewer, lambda z, time: z, Ledger(), calls=1)
    assert {row["t"] for row in found["restored"]} == {4}
    exact = next(row for row in found["restored"] if (row["way"], row["bits"]) == ("direct R", "exact"))
    z, _ = degrade(DEGRADATIONS["blur"][0](T=4, severity=1.0), originals, 4, sigma=0.1)
    rmse = (z.clamp(-0.5, 0.5) - originals).square().flatten(1).mean(1).sqrt().mean().item()
    assert exact["RMSE"] == pytest.approx(rmse, rel=1e-5)


@pytest.mark.parametrize("calls", [3, 20])
def test_a_decoder_that_knows_the_digits_brings_them_back(originals, fewer, calls):
    """It finds the noise in z_t, whatever z_t is."""
    experiment = Experiment(beta=0.1, T=20)
    alpha = experiment.noise_schedule.alpha

    def network(z, time):
        a = alpha[round(time[0].item() * 20)]
        return ((z - a**0.5 * originals) / (1 - a) ** 0.5).float()

    remember = Ledger()
    found = measure_ddpm(experiment, fewer, network, remember, calls=calls)
    rows = found["restored"]
    assert [(row["t"], row["bits"]) for row in rows] == [
        (t, bits) for t in (5, 10, 15, 20) for bits in ("exact", "8 bits")
    ]
    assert all(row["RMSE"] < 1e-5 for row in rows)
    assert all(row["class kept"] == 1 for row in rows)
    assert [row["t"] for row in rows if "pictures" in row] == [20, 20]
    (new,) = found["new"]
    assert new["FID"] == pytest.approx(rows[0]["FID"], abs=1e-3)
    assert len(remember) == len(rows) + 1


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
    assert len(set(found["accuracy"])) == 1
    assert any(found["accuracy"][0] == pytest.approx(share.item()) for share in shares)
    white = torch.cat(seen[:8])  # of training images, at four levels in two steps
    assert white.std().item() == pytest.approx((199 / 784) ** 0.5, rel=0.1)  # 200 images span 199 of 784 directions
