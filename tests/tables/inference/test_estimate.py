"""The estimate by hand, and the level of its tests."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables.inference.estimate import fit, shrunk
from tables.inference.rules import (
    Rule,
    decide,
)


def test_the_estimate_by_hand():
    ours = np.array([[91.0, 92.0, 93.0], [81.0, 83.0, 82.0]])
    theirs = np.array([[90.0, 91.0, 89.0], [80.0, 80.0, 83.0]])
    found = fit(ours, theirs, np.array([0.5, 0.5]))
    assert found.effects == pytest.approx([2.0, 1.0]) and found.estimate == pytest.approx(1.5)
    first, second = np.array([1.0, 1.0]), np.array([1.0, 3.0])  # variances of the arms
    assert not found.paired and not found.seeds
    assert found.cell_se == pytest.approx([math.sqrt(2 / 3), math.sqrt(4 / 3)])
    assert found.cell_df == pytest.approx([2 * 4 / 2, 2 * 16 / 10])
    assert found.se == pytest.approx(math.sqrt((2 + 4) / 4 / 3))
    every = np.concatenate([first, second])
    assert found.df == pytest.approx(2 * 6**2 / (every**2).sum())
    assert found.spread == pytest.approx(math.sqrt(every.mean()))


def test_one_cell_is_welchs_test():
    from scipy import stats

    rng = np.random.default_rng(0)
    ours, theirs = 90 + rng.standard_normal((1, 5)), 88 + 3 * rng.standard_normal((1, 5))
    found = fit(ours, theirs, np.ones(1))
    welch = stats.ttest_ind(ours[0], theirs[0], equal_var=False)
    assert float(found.estimate / found.se) == pytest.approx(welch.statistic)
    assert float(found.df) == pytest.approx(welch.df)


def test_no_cell_borrows_anothers_spread():
    rng = np.random.default_rng(0)
    ours, theirs = 90 + rng.standard_normal((2, 3, 5))
    weights = np.full(3, 1 / 3)
    one = fit(ours, theirs, weights)
    steady = np.array([[0.01], [0.01], [1.0]])
    other = fit(90 + steady * (ours - 90), 90 + steady * (theirs - 90), weights)
    assert other.cell_se[2] == pytest.approx(one.cell_se[2])
    assert other.cell_df[2] == pytest.approx(one.cell_df[2])
    alone = fit(ours[2:], theirs[2:], np.ones(1))
    assert alone.cell_se[0] == pytest.approx(one.cell_se[2])


def test_pairs_and_seeds_are_taken_where_the_records_show_them():
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((2, 8, 10))
    shared = 3 * rng.standard_normal((8, 10))
    weights = np.full(8, 1 / 8)
    plain = fit(90 + noise[0], 90 + noise[1], weights)
    pairs = fit(90 + noise[0] + shared, 90 + noise[1] + shared, weights)
    assert not plain.paired and abs(plain.correlation) < 0.3
    assert 8 * 9 < plain.df <= 2 * 8 * 9
    assert pairs.paired and 9 < pairs.df <= 8 * 9 and pairs.correlation > 0.8
    assert pairs.cell_df.tolist() == [9] * 8
    assert pairs.se < 1.3 * plain.se  # what the arms share cancels
    by_seed = 2 * rng.standard_normal((1, 10))
    seeds = fit(90 + noise[0] + by_seed, 90 + noise[1], weights)
    gains = (noise[0] + by_seed - noise[1]).mean(0)
    assert seeds.seeds and seeds.df == 9
    assert seeds.se == pytest.approx(gains.std(ddof=1) / math.sqrt(10))


@pytest.mark.parametrize(("cells", "seeds"), [(1, 3), (4, 5)])
def test_the_tests_of_pairs_and_seeds_have_their_level(cells, seeds):
    rng = np.random.default_rng(2)
    arms = 90 + rng.standard_normal((2, 20_000, cells, seeds))
    found = fit(*arms, np.full(cells, 1 / cells))
    # Of several cells the spreads are estimated, too: then pairs are seen more rarely.
    assert found.paired.mean() <= 0.007
    assert cells > 1 or found.paired.mean() == pytest.approx(0.005, abs=0.002)
    assert found.seeds.mean() == pytest.approx(0.05 if cells > 1 else 0.0, abs=0.006)


def test_what_does_not_scatter_at_all_has_no_error():
    still = fit(np.full((2, 3), 91.0), np.full((2, 3), 90.0), np.full(2, 0.5))
    assert (still.estimate, still.se, still.df) == (1.0, 0.0, 2.0)
    assert still.cell_df.tolist() == [2.0, 2.0] and still.correlation == 0.0


@given(st.floats(-5, 5), st.floats(0.5, 3), st.integers(0, 1000))
def test_the_estimate_follows_shifts_and_scales(shift, scale, seed):
    rng = np.random.default_rng(seed)
    ours, theirs = 50 + rng.standard_normal((2, 3, 5))
    weights = np.array([0.2, 0.3, 0.5])
    one, moved = fit(ours, theirs, weights), fit(ours + shift, theirs, weights)
    assert moved.estimate == pytest.approx(one.estimate + shift, abs=1e-9)
    turned = fit(theirs, ours, scale * weights)
    assert turned.estimate == pytest.approx(-scale * one.estimate, abs=1e-9)
    assert turned.se == pytest.approx(scale * one.se)


def test_a_batch_is_its_experiments_one_by_one():
    rng = np.random.default_rng(3)
    ours, theirs = 90 + rng.standard_normal((2, 40, 3, 5))
    weights = np.full(3, 1 / 3)
    whole = decide(fit(ours, theirs, weights), 1, Rule(everywhere=True))
    for i in range(40):
        assert decide(fit(ours[i], theirs[i], weights), 1, Rule(everywhere=True)) == whole[i]


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="weights"):
        fit(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(3))
    with pytest.raises(ValueError):
        fit(np.zeros((2, 1)), np.zeros((2, 1)), np.zeros(2))


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=6), st.floats(0.01, 2))
def test_shrinking_keeps_the_mean_and_draws_inwards(effects, se):
    values = np.array(effects)
    drawn = shrunk(values, np.full(len(values), se))
    assert drawn.mean() == pytest.approx(values.mean(), abs=1e-9)
    assert np.all(np.abs(drawn - values.mean()) <= np.abs(values - values.mean()) + 1e-12)
    sure = shrunk(values, np.full(len(values), 1e-9))
    assert sure == pytest.approx(values, abs=1e-6)
