"""Verdicts: intervals cover, and each verdict can come out."""

import numpy as np
import pytest

from theory.checks import Cell, Estimate, estimate, judge, outcome, ratio_of_means, slope


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        found = estimate(rng.exponential(size=50) * 0 + rng.normal(3, 2, 50), 0.9)
        hits += found.low <= 3 <= found.high
    assert 0.88 < hits / 2000 < 0.92


def test_a_single_deterministic_run_is_a_point():
    assert estimate(np.array([2.0]), 0.99) == Estimate(2.0, 2.0, 2.0, 1)


@pytest.mark.parametrize("samples", [np.array([]), np.array([1.0, np.nan]), np.array([np.inf])])
def test_bad_samples(samples):
    with pytest.raises(ValueError, match="finite samples"):
        estimate(samples, 0.99)


def test_the_interval_of_a_ratio_counts_the_divisor_by_the_formula():
    # q = 4 / 2 = 2, e = (x - 2 y) / 2 = (-1, 1, 0): sd 1, and t_2 at 50% is sqrt(2 / 3).
    found = ratio_of_means(np.array([2.0, 4.0, 6.0]), np.array([2.0, 1.0, 3.0]), 0.5)
    half = np.sqrt(2) / 3
    assert (found.mean, found.n) == (pytest.approx(2), 3)
    assert (found.low, found.high) == (pytest.approx(2 - half), pytest.approx(2 + half))
    # A constant dividend scatters not at all, its ratio does.
    divisor = np.array([0.9, 1.0, 1.1])
    constant = ratio_of_means(np.full(3, 5.0), divisor, 0.5)
    assert constant.high - 5 == pytest.approx(5 * 0.1 * half)
    # What is proportional to the divisor run by run has the ratio exactly.
    exact = ratio_of_means(3 * divisor, divisor, 0.99)
    assert [exact.low, exact.mean, exact.high] == pytest.approx([3, 3, 3], rel=1e-12)
    assert ratio_of_means(np.array([6.0]), np.array([2.0]), 0.99) == Estimate(3.0, 3.0, 3.0, 1)


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_the_interval_of_a_ratio_covers_where_a_divisor_taken_as_known_does_not(shared):
    rng = np.random.default_rng(1)
    covered = known = 0
    for _ in range(4000):
        # Six runs; the spreads of the report's regimes: 2% of the dividend, 6% of the divisor.
        common, own = rng.normal(0, 0.05, 6), rng.normal(0, 0.02, 6)
        x, y = 130 * (1 + shared * common + own), 1 + common + rng.normal(0, 0.03, 6)
        found, wrong = ratio_of_means(x, y, 0.99), estimate(x / y.mean(), 0.99)
        covered += found.low <= 130 <= found.high
        known += wrong.low <= 130 <= wrong.high
    assert 0.985 < covered / 4000 < 0.995
    # A divisor taken as known: too narrow, or too wide where the two rise and fall together.
    assert known / 4000 > 0.997 if shared else known / 4000 < 0.9


def test_ratios_without_an_interval():
    with pytest.raises(ValueError, match="paired runs are as many as each other, not 3 and 2"):
        ratio_of_means(np.ones(3), np.ones(2), 0.99)
    with pytest.raises(ValueError, match="a divisor whose interval excludes 0"):
        ratio_of_means(np.ones(3), np.array([-1.0, 1.0, 2.0]), 0.99)
    with pytest.raises(ValueError, match="finite samples"):
        ratio_of_means(np.array([1.0, np.nan]), np.array([1.0, 1.1]), 0.9)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 99.0])
def test_bad_confidence(confidence):
    with pytest.raises(ValueError, match="confidence"):
        estimate(np.ones(3), confidence)


@pytest.mark.parametrize(
    "low, high, right, verdict",
    [
        (1.0, 2.0, 2.5, "holds"),
        (1.0, 2.0, 1.5, "inconclusive"),
        (1.0, 2.0, 0.5, "violated"),
        (1.0, 1.0, 1.0 - 1e-14, "holds"),
        (1.0, 1.0, 1.0 - 1e-6, "violated"),
        (1e-17, 1e-17, 0.0, "holds"),
    ],
)
def test_judge(low, high, right, verdict):
    assert judge(Estimate((low + high) / 2, low, high, 5), right) == verdict


def _cell(left, right, spread=0.0, name="a"):
    return Cell(name, "p", {"x": left}, Estimate(left, left - spread, left + spread, 4), right)


def test_outcome_counts_and_finds_the_worst():
    cells = [_cell(1, 2), _cell(3, 2), _cell(2, 2, spread=1), _cell(9, 1, name="b")]
    found = outcome("a", cells)
    assert found.verdict == "violated"
    assert [found.count(v) for v in ("holds", "violated", "inconclusive")] == [1, 1, 1]
    assert found.worst.ratio == 1.5
    assert found.runs == 12
    assert outcome("a", [_cell(1, 2)]).verdict == "holds"
    assert outcome("a", [_cell(1, 2), _cell(2, 2, spread=1)]).verdict == "inconclusive"
    with pytest.raises(ValueError, match="no run checked the statement 'c'"):
        outcome("c", cells)


def test_runs_that_several_cells_share_count_once():
    def at(T, source):
        return Cell("a", "p", {"T": T, "beta": T / 10}, Estimate(T, T, T, 4), 20.0, source)

    found = outcome("a", [at(1, "x"), at(2, "x"), at(3, "y"), at(4, "")])
    assert found.runs == 12
    assert found.worst_where(beta=0.25).setting["T"] == 4
    assert found.worst_where(beta=0.9) is None


def test_a_left_side_that_overflowed_is_a_violation():
    assert judge(Estimate(np.inf, np.inf, np.inf, 1), 1e9) == "violated"
    assert judge(Estimate(np.nan, np.nan, np.nan, 1), 1e9) == "violated"


def test_slope_recovers_a_power_law():
    rng = np.random.default_rng(1)
    horizons = np.array([16, 64, 256, 1024])
    samples = 3.0 * horizons[:, None] ** -0.5 * rng.uniform(0.8, 1.2, (4, 40))
    found = slope(horizons, samples, rng)
    assert found.low < -0.5 < found.high
    assert found.high - found.low < 0.1
    flat = slope(horizons, np.ones((4, 3)), rng)
    assert flat.mean == pytest.approx(0, abs=1e-12)
