import pytest
import torch

from ddpm_utils.diffusion.samplers import ddim
from ddpm_utils.diffusion.schedules import SPACINGS, constant
from ddpm_utils.diffusion.solvers import METHODS, Method, fewest_calls
from ddpm_utils.evaluation.recorded import Row, read_rows
from ddpm_utils.randomness import Noise
from ddpm_utils.system.errors import CheckpointError
from ddpm_utils.system.files import read_csv
from ddpm_utils.training.experiments import PUBLISHED, Experiment
from maintenance.records import samplers
from maintenance.records.samplers import points_for, record_comparison, to_csv

pytestmark = pytest.mark.usefixtures("short_bootstrap")


@pytest.mark.parametrize("calls", [1, 2, 3, 10])
@pytest.mark.parametrize("name", METHODS)
def test_methods_keep_to_their_calls(name, calls):
    made = []

    def decoder(z, time):
        made.append(1)
        return torch.zeros_like(z)

    method = METHODS[name]
    chain = method.subset(constant(beta=0.1, T=30), calls)
    *_, last = method.sampler(decoder, chain, torch.zeros(1, 1, 4, 4), Noise([0], (1, 4, 4)))
    assert last.t == 0
    assert len(made) == (calls - 1 + calls % 2 if name == "Heun" else calls)


def test_a_harsh_schedule_takes_more_calls():
    """At β = 0.1 the signal falls by 1e12 in 262 steps: evenly spread ones must lie closer together."""
    even, harsh, gentle = Method(ddim), constant(beta=0.1, T=1000), constant(beta=0.001, T=1000)
    assert fewest_calls(gentle, 2, [even]) == 2
    assert fewest_calls(harsh, 2, [even]) == 4
    assert fewest_calls(harsh, 10, [even]) == 10
    assert fewest_calls(harsh, 2, [even, METHODS["DDIM, η = 0"]]) == 8
    assert fewest_calls(constant(beta=0.1, T=3), 10, [even]) == 3
    assert not METHODS["Heun"].can_walk(harsh, 20)
    assert not even.can_walk(constant(beta=0.1, T=3), 4)


def test_heun_is_asked_for_odd_numbers_only():
    assert METHODS["Heun"].counts((1, 2, 3, 10)) == [1, 3, 9]
    assert METHODS["DDIM, η = 0"].counts((1, 2, 3, 10)) == [1, 2, 3, 10]


def test_points():
    calls = points_for("calls", T=40)
    assert len(calls) == sum(n < 40 for method in METHODS.values() for n in method.counts(samplers.CALLS)) + 1
    assert calls[-1][0] == "ancestral, σ² = β"
    assert calls[-1][2] == 40
    spacings = points_for("spacings", T=40)
    assert len({(name, method.spacing) for name, method, _ in spacings}) == 4 * len(METHODS)
    with pytest.raises(ValueError, match="choice must be calls or spacings, not 'all'"):
        points_for("all", T=40)


def test_rows_survive_a_file(tmp_path):
    rows = [Row("DDIM, η = 0", "karras", 10, 50, 1.5, 1.25, 1.75, 0.5), Row("Heun", "even", 3, 50, 2.0, 1.0, 3.0, 0.5)]
    assert read_rows(tmp_path / "rows.csv") == []
    (tmp_path / "rows.csv").write_bytes(to_csv(rows))
    assert read_rows(tmp_path / "rows.csv") == rows


@pytest.fixture
def experiment(output, monkeypatch, tmp_path) -> Experiment:
    """The shipped high-β weights on the embedded digits, which would be recorded in a folder of the test."""
    weights = Experiment(**PUBLISHED["high β"]).load_decoder("shipped")
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "weights.safetensors").touch()
    monkeypatch.setattr(Experiment, "load_decoder", lambda self, name: weights)
    monkeypatch.setattr(Experiment, "shipped_folder", tmp_path / "shipped")
    monkeypatch.setattr(samplers, "METHODS", {"DDIM, η = 0": Method(ddim), "twice": Method(ddim)})
    monkeypatch.setattr(samplers, "CALLS", (1, 2))
    return Experiment(**PUBLISHED["high β"] | {"T": 5}, dataset="mnist_5k")


def test_a_comparison_goes_on_after_a_stop(experiment):
    class Stopped(Exception):
        pass

    seen = []

    def stop_at_second(row):
        seen.append(row)
        if len(seen) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        record_comparison(experiment, samples=20, on_row=stop_at_second)
    path = experiment.shipped_folder / "calls.csv"
    assert not path.exists()
    later = []
    assert record_comparison(experiment, samples=20, on_row=later.append) == path
    rows = read_rows(path)
    assert rows == seen + later
    assert [(row.sampler, row.calls) for row in rows] == [
        *[("DDIM, η = 0", 1), ("DDIM, η = 0", 2), ("twice", 1), ("twice", 2), ("DDIM, η = 0", 5)],
    ]
    assert [row.fid for row in rows[:2]] == [row.fid for row in rows[2:4]]  # the same method, the same numbers


def test_a_change_of_spacing_leaves_no_old_rows(experiment, monkeypatch):
    record_comparison(experiment, samples=20, on_row=lambda row: None)
    monkeypatch.setitem(samplers.METHODS, "twice", Method(ddim, "quadratic"))
    rows = read_rows(record_comparison(experiment, samples=20, on_row=lambda row: None))
    assert [row.spacing for row in rows if row.sampler == "twice"] == ["quadratic", "quadratic"]


def test_needs_shipped_weights(output):
    with pytest.raises(CheckpointError, match=r"there are no shipped weights of constant-beta0\.5-T3-cnn: record"):
        record_comparison(Experiment(beta=0.5, T=3))


def test_the_spacings_are_those_that_did_best_on_validation_digits():
    table = read_csv(Experiment(**PUBLISHED["low β"]).shipped_folder / "spacings.csv")
    assert set(table.spacing) == set(SPACINGS)
    ranks = table.assign(rank=table.groupby(["sampler", "calls"]).fid.rank())
    mean = ranks.groupby(["sampler", "spacing"])["rank"].mean()
    assert {name: method.spacing for name, method in METHODS.items()} == {name: mean[name].idxmin() for name in METHODS}
