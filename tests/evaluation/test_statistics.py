"""Statistics of feature sets against known answers: coverage in simulations, closed forms, constructed sets."""

import piq
import pytest
import torch
from scipy.stats import kstest

from ddpm_utils.evaluation import metrics, statistics
from ddpm_utils.evaluation.statistics import fid_difference_test, fid_infinity, permutation_test, precision_recall


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small matrices are slower with several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fast_fid(fake: torch.Tensor, real: torch.Tensor) -> float:
    moments = statistics._moments(real)
    return statistics._frechet(statistics._moments(fake), moments, statistics._root(moments.covariance))


def mean_distance(first: torch.Tensor, second: torch.Tensor) -> float:
    return (first.mean(0) - second.mean(0)).norm().item()


# The interval of the FID


def test_the_interval_covers_the_expected_fid():
    """The reals are fixed; 60 sets of fakes. The expected FID is the mean over 400 other sets of the same size."""
    count, width = 200, 4
    real = normal(count, width)
    fakes = normal(460, count, width, seed=1) * 1.3
    fakes[..., 0] += 1
    expected = sum(fast_fid(fake, real) for fake in fakes[60:]) / 400
    covered = 0
    for seed, fake in enumerate(fakes[:60]):
        low, high = metrics.fid_interval(fake, real, resamples=20, seed=seed)
        assert low <= fast_fid(fake, real) <= high
        covered += low <= expected <= high
    assert 0.88 <= covered / 60 <= 1


def test_the_interval_contains_its_estimate_and_is_at_least_zero():
    """Also where the FID is nearly its bias, and where a basic bootstrap interval excludes the estimate."""
    for seed in range(10):
        fake, real = normal(60, 8, seed=seed), normal(60, 8, seed=100 + seed)
        low, high = metrics.fid_interval(fake, real, resamples=10)
        assert 0 <= low <= metrics.fid(fake, real) <= high
        assert metrics.fid_interval(real, real, resamples=10)[0] == 0


def test_the_interval_is_made_of_fids():
    """The deviation is the standard deviation of `fid` over resamples that are drawn here again."""
    fake, real = normal(50, 3) + 1, normal(70, 3, seed=1)
    generator = torch.Generator().manual_seed(7)
    draws = [torch.randint(50, (50,), generator=generator) for _ in range(5)]
    deviation = torch.tensor([metrics.fid(fake[draw], real) for draw in draws], dtype=torch.float64).std().item()
    low, high = metrics.fid_interval(fake, real, resamples=5, seed=7)
    assert low == pytest.approx(metrics.fid(fake, real) - 1.96 * deviation, rel=1e-9)
    assert high == pytest.approx(metrics.fid(fake, real) + 1.96 * deviation, rel=1e-9)


def test_the_interval_needs_two_resamples():
    with pytest.raises(ValueError, match=r"resamples must be at least 2 \(got 1\)"):
        metrics.fid_interval(normal(20, 3), normal(20, 3), resamples=1)


# The FID from moments


@pytest.mark.parametrize(("counts", "width"), [((300, 200), 8), ((40, 60), 50)])
def test_fid_from_moments_is_the_fid(counts, width):
    """Also with singular covariances, of fewer features than dimensions."""
    fake = normal(counts[0], width) @ normal(width, width, seed=1) + 0.3
    real = normal(counts[1], width, seed=2) @ normal(width, width, seed=3)
    assert fast_fid(fake, real) == pytest.approx(metrics.fid(fake, real), rel=1e-6)


# FID∞


@pytest.mark.parametrize(("shift", "scale"), [(1.0, 1.3), (0.0, 1.0)])
def test_fid_infinity_removes_the_bias(shift, scale, monkeypatch):
    """The FID of N(0, I) and N(μ, s² I) is ‖μ‖² + width · (s − 1)²; 40 pairs of sets."""
    monkeypatch.setattr(statistics, "HALF_SAMPLES", 2)
    count, width = 200, 6
    exact = shift**2 + width * (scale - 1) ** 2
    plain, extrapolated = [], []
    for seed in range(40):
        fake, real = normal(count, width, seed=seed) * scale, normal(count, width, seed=1000 + seed)
        fake[:, 0] += shift
        plain.append(fast_fid(fake, real))
        extrapolated.append(fid_infinity(fake, real, points=6, seed=seed)[0])
    errors = torch.tensor([plain, extrapolated], dtype=torch.float64) - exact
    bias, standard_error = errors.mean(1), errors.std(1) / 40**0.5
    assert bias[0] > 4 * standard_error[0]
    assert bias[1].abs() < 2.5 * standard_error[1]
    assert bias[1].abs() < bias[0] / 2


def test_the_interval_of_fid_infinity_covers_the_exact_fid(monkeypatch):
    monkeypatch.setattr(statistics, "HALF_SAMPLES", 10)
    count, width, sets, shift, scale = 320, 4, 50, 1.0, 1.3
    exact = shift**2 + width * (scale - 1) ** 2
    inside = narrow = 0
    for seed in range(sets):
        fake, real = normal(count, width, seed=seed) * scale, normal(count, width, seed=1000 + seed)
        fake[:, 0] += shift
        value, (low, high) = fid_infinity(fake, real, points=5, seed=seed)
        assert low < value < high
        inside += low <= exact <= high
        narrow += abs(value - exact) <= (high - low) / 6  # a third of the margin, 0.65 deviations
    assert 0.9 <= inside / sets <= 1
    assert 0.4 < narrow / sets < 0.7  # 0.49 is expected: the interval is neither too narrow nor too wide


def test_fid_infinity_uses_as_many_reals_as_fakes():
    """More reals must not change the slope in 1/n: the intercept stays unbiased."""
    fake, real = normal(400, 4) + 1, normal(4000, 4, seed=1)
    value, (low, high) = fid_infinity(fake, real)
    assert low < 4 < high
    assert fid_infinity(fake, real) == (value, (low, high))
    assert fid_infinity(fake, real, seed=1)[0] != value


@pytest.mark.parametrize(
    ("fakes", "options", "sentence"),
    [
        (159, {}, r"at least 160 images \(got 159 and 160\)"),
        (160, {"points": 2}, r"points must be at least 3 \(got 2\)"),
    ],
)
def test_fid_infinity_refuses(fakes, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        fid_infinity(normal(fakes, 2), normal(160, 2), **options)


# Permutation tests


def test_p_values_of_real_against_real_are_uniform():
    ps = [
        permutation_test(*normal(80, 3, seed=seed).split(40), mean_distance, permutations=49, seed=seed)
        for seed in range(150)
    ]
    assert kstest(ps, "uniform").pvalue > 0.05
    assert min(ps) >= 1 / 50


def test_p_values_of_equal_fids_are_uniform():
    real = normal(200, 4, seed=5000)
    ps = [
        fid_difference_test(*normal(80, 4, seed=seed).split(40), real, permutations=19, seed=seed) for seed in range(60)
    ]
    assert kstest(ps, "uniform").pvalue > 0.05


def test_the_statistic_is_the_difference_of_fids():
    """With sets so similar that p lies between its extremes; `fid` computes the statistic here."""
    first, second, real = normal(40, 3), normal(30, 3, seed=1), normal(50, 3, seed=2)

    def difference(one, other):
        return abs(metrics.fid(one, real) - metrics.fid(other, real))

    expected = permutation_test(first.double(), second.double(), difference, permutations=39)
    assert fid_difference_test(first, second, real, permutations=39) == expected
    assert 0.1 < expected < 0.9


def test_p_values_of_different_sets_are_small():
    real, same, shifted = normal(200, 4), normal(200, 4, seed=1), normal(200, 4, seed=2) + 0.5
    assert permutation_test(same, shifted, mean_distance, permutations=99) == 1 / 100
    assert fid_difference_test(same, shifted, real, permutations=99) == 1 / 100
    assert fid_difference_test(shifted, same, real, permutations=99) == 1 / 100
    assert permutation_test(same, real, mean_distance, permutations=99) > 0.05


def test_p_value_counts_equal_statistics():
    """A constant statistic gives 1; it also receives sets of the original sizes."""
    sizes = []

    def constant(first, second):
        sizes.append((len(first), len(second)))
        return 0.0

    assert permutation_test(normal(20, 2), normal(30, 2), constant, permutations=9) == 1
    assert sizes == [(20, 30)] * 10


def test_permutations_mix_both_sets():
    """Every permutation holds all features exactly once."""
    first, second = torch.zeros(20, 1), torch.ones(30, 1)
    counts = []

    def ones(one, other):
        counts.append((one.sum().item(), one.sum().item() + other.sum().item()))
        return 0.0

    permutation_test(first, second, ones, permutations=50)
    mixed = [count for count, total in counts[1:] if total == 30]
    assert len(mixed) == 50
    assert sum(mixed) / 50 == pytest.approx(12, abs=1)  # 20 · 30/50


# Precision and recall


def clusters(*centres: float, count: int = 50, seed: int = 0) -> torch.Tensor:
    """Narrow clusters in three dimensions, `count` features around each centre."""
    return torch.cat([normal(count, 3, seed=seed + i) * 0.1 + centre for i, centre in enumerate(centres)])


def test_precision_and_recall_of_constructed_sets():
    real = clusters(0, 10)
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real + 1000, real) == (0, 0)
    assert precision_recall(real[:50], real) == (1, 0.5)
    assert precision_recall(torch.cat([real, clusters(-20, count=100, seed=5)]), real) == (0.5, 1)


def test_precision_and_recall_count_k_neighbours_and_the_edge():
    """On a line of integers the radius is 1 for k = 1 and 2, and 2 for k = 3; the ends are wider."""
    real = torch.arange(40.0)[:, None]
    fake = torch.cat([real[:1].expand(20, 1), torch.full((20, 1), 40.5)])  # 1.5 beyond the end, where the radius is k
    assert [precision_recall(fake, real, k)[0] for k in (1, 2, 3)] == [0.5, 1, 1]
    assert precision_recall(real + 40, real, k=1)[0] == 1 / 40  # at a distance of exactly 1
    assert precision_recall(real + 40, real, k=2)[0] == 2 / 40


def test_recall_takes_the_radii_of_the_fakes():
    """Reals exactly their own radius, 1, from the nearest fake. `piq.PR` compares it with the wrong radius."""
    real = torch.arange(40.0)[:, None]
    fake = -1 - torch.arange(40.0)[:, None] / 1000
    assert precision_recall(fake, real, k=1) == (1 / 40, 0)
    assert piq.PR(nearest_k=1).compute_metric(real, fake)[1] > 0


def test_precision_and_recall_as_piq():
    """On random features, where no distances are equal."""
    fake, real = normal(300, 8) * 0.8, normal(200, 8, seed=1)
    expected = piq.PR(nearest_k=3).compute_metric(real.double(), fake.double())
    found = precision_recall(fake, real)
    assert found == pytest.approx([value.item() for value in expected], abs=1e-6)
    assert found[0] > found[1] > 0.2


def test_an_offset_and_the_type_do_not_matter():
    """Distances from matrix products would be lost at an offset of 1,000,000, also in float64."""
    fake, real = normal(60, 3) / 1000, normal(60, 3, seed=1) / 1000
    expected = precision_recall(fake, real)
    assert 0.3 < expected[0] < 1
    assert precision_recall(fake.double() + 1e6, real.double() + 1e6) == expected
    assert precision_recall(fake, real.double()) == expected


@pytest.mark.parametrize("k", [0, 20])
def test_precision_and_recall_refuse_k(k):
    with pytest.raises(ValueError, match=rf"k must be between 1 and 19 \(got {k}\)"):
        precision_recall(normal(20, 2), normal(30, 2), k)


# Wrong features


@pytest.mark.parametrize(
    "call",
    [
        fid_infinity,
        precision_recall,
        lambda one, other: permutation_test(one, other, mean_distance),
        lambda one, other: fid_difference_test(one, other, other),
    ],
)
def test_wrong_features_are_refused(call, unchecked):
    good, bad = normal(200, 3), normal(200, 3)
    bad[7, 1] = float("nan")
    with pytest.raises(ValueError, match=r"1 of 200 .* not finite"):
        call(bad, good)
    with pytest.raises(ValueError, match=r"1 of 200 .* not finite"):
        call(good, bad)
    with pytest.raises(ValueError, match=r"at least 20 images on each side, but there are 19"):
        call(good, good[:19])
    with pytest.raises(ValueError, match=r"\(n, width\), with the same width in all sets \(got \(200, 3\), \(200, 2\)"):
        call(good, good[:, :2])


def test_no_permutations_are_refused():
    with pytest.raises(ValueError, match=r"permutations must be at least 1 \(got 0\)"):
        permutation_test(normal(20, 2), normal(20, 2), mean_distance, permutations=0)
