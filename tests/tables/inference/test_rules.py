"""Verdicts and their power on experiments whose effects are known exactly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables.inference.estimate import fit, widened
from tables.inference.looks import LOOKS, levels
from tables.inference.precision import Precision
from tables.inference.reading import NOT_MEASURED
from tables.inference.rules import (
    AVERAGE,
    FAILS,
    HOLDS,
    MARGIN,
    NO_LARGER,
    POWER,
    UNDECIDED,
    Rule,
    all_of,
    cells_apart,
    decide,
    effects_apart,
    holm,
    power,
    repeated_interval,
    seeds_to_find,
)
from tables.inference.scale import Scale


def reference_holm(p, level):
    rejected = [False] * len(p)
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] > level / (len(p) - rank):
            break
        rejected[i] = True
    return rejected


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=8), st.floats(0.001, 0.2))
def test_holm_against_its_plain_version(p, share):
    assert holm(np.array(p), share).tolist() == reference_holm(p, share)


def made(effects, spread=0.2, seeds=5, seed=1):
    """An experiment whose effects are exactly these, with noise of exactly this spread."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((2, len(effects), seeds))
    noise -= noise.mean(-1, keepdims=True)
    noise *= spread / noise.std(-1, ddof=1, keepdims=True)
    ours, theirs = 90 + noise
    return fit(ours + np.array(effects)[:, None], theirs, np.full(len(effects), 1 / len(effects)))


@pytest.mark.parametrize(
    ("effects", "rule", "verdict"),
    [
        ((2.0, 2.0, 2.0), Rule(), HOLDS),
        ((-2.0, -2.0, -2.0), Rule(), FAILS),
        ((2.0, 2.0, 2.0), Rule(everywhere=True), HOLDS),
        ((2.0, 2.0, 0.0), Rule(everywhere=True), AVERAGE),
        ((9.0, 9.0, -2.0), Rule(everywhere=True), FAILS),
        ((9.0, 9.0, -2.0), Rule(), HOLDS),
        ((0.15, 0.15, 0.15), Rule(), UNDECIDED),
        ((-0.2, -0.2, -0.2), Rule(bound=-0.5), HOLDS),
        ((-0.8, -0.8, -0.8), Rule(bound=-0.5), FAILS),
        ((-0.5, -0.5, -0.5), Rule(bound=-0.5), UNDECIDED),
    ],
)
def test_verdicts(effects, rule, verdict):
    assert decide(made(effects), 1, rule) == verdict


def test_no_larger_needs_a_short_interval():
    assert decide(made((0.0,) * 12, spread=0.1), 1, Rule()) == NO_LARGER
    assert decide(made((0.0,) * 12, spread=1.0), 1, Rule()) == UNDECIDED
    assert decide(made((-0.6,) * 12, spread=0.1), 1, Rule(bound=-0.5)) == FAILS


def test_what_diverged_keeps_anything_from_holding():
    assert decide(made((2.0, 2.0)), 1, Rule(everywhere=True), lost=True) == UNDECIDED
    assert decide(made((-2.0, -2.0)), 1, Rule(), lost=True) == FAILS


def test_a_gain_below_the_margin_is_not_called_none_for_a_run_that_diverged():
    small = made((0.1,) * 12, spread=0.02)
    assert decide(small, 1, Rule()) == HOLDS
    assert decide(small, 1, Rule(), lost=True) == UNDECIDED  # above 0, but not of all that was run
    assert decide(made((0.0,) * 12, spread=0.02), 1, Rule(), lost=True) == NO_LARGER


def test_another_scale_has_its_own_margin_and_its_own_word():
    smooth = Scale("log points", 10.0, "fall")
    assert decide(made((1.0,) * 12), 1, Rule(scale=smooth)) == HOLDS  # no margin above 0
    assert decide(made((0.0,) * 12), 1, Rule(scale=smooth)) == "no fall of 10 log points"
    assert decide(made((0.0,) * 12, spread=30.0), 1, Rule(scale=smooth)) == UNDECIDED
    assert (Rule(scale=smooth).target, Rule(bound=-0.5).target) == (10.0, 0.5)


def test_a_claim_of_parts_is_as_its_worst_part_is():
    none = "no fall of 10 log points"
    assert all_of([HOLDS, HOLDS]) == HOLDS and all_of([HOLDS, AVERAGE]) == AVERAGE
    assert all_of([HOLDS, UNDECIDED]) == all_of([NOT_MEASURED, HOLDS]) == UNDECIDED
    assert all_of([NOT_MEASURED] * 2) == NOT_MEASURED
    assert all_of([NOT_MEASURED, UNDECIDED]) == UNDECIDED
    assert all_of([UNDECIDED, none]) == all_of([none, HOLDS]) == none
    assert all_of([none, FAILS, UNDECIDED]) == FAILS


def test_the_level_of_the_values_does_not_matter():
    # Of minus the logarithm of something large: far from any percentage, and moved as a whole.
    rng = np.random.default_rng(4)
    ours, theirs = -500 + rng.standard_normal((2, 3, 5))
    weights = np.full(3, 1 / 3)
    found, moved = fit(ours, theirs, weights), fit(ours + 900, theirs + 900, weights)
    assert moved.se == pytest.approx(found.se) and moved.estimate == pytest.approx(found.estimate)


def test_a_sample_adds_its_own_scatter_to_the_error():
    each = [made((x, x + 1.0), seed=i) for i, x in enumerate((1.0, 2.0, 3.0))]
    plain = made((2.0, 3.0))
    wide = widened(plain, each)
    assert wide.estimate == plain.estimate and np.all(wide.effects == plain.effects)
    more = np.var([1.5, 2.5, 3.5], ddof=1) / 3
    assert wide.se == pytest.approx(math.sqrt(plain.se**2 + more))
    assert wide.cell_se == pytest.approx(np.sqrt(plain.cell_se**2 + 1 / 3))
    df = (plain.se**2 + more) ** 2 / (plain.se**4 / plain.df + more**2 / 2)
    assert wide.df == pytest.approx(df) and 2 < wide.df < plain.df
    alike = widened(plain, [plain] * 3)
    assert alike.se == pytest.approx(plain.se) and alike.df == pytest.approx(plain.df)


def test_effects_one_by_one_are_held_against_their_number():
    near, far, back = (made((x,) * 4, spread=0.2, seeds=5) for x in (0.25, 2.0, -2.0))
    above, below = effects_apart([near, far, back], 1)
    assert above.tolist() == [True, True, False] and below.tolist() == [False, False, True]
    above, _ = effects_apart([near, *[made((0.0,) * 4)] * 30], 1)  # one of many
    assert not above.any()


def test_which_cells_lie_apart():
    above, below = cells_apart(made((3.0, 0.0, -3.0)), 1)
    assert above.tolist() == [True, False, False] and below.tolist() == [False, False, True]


def test_power_and_seeds_go_together():
    se, df = 0.12, 40
    assert power(0.0, se, df, 0) == pytest.approx(levels()[0])
    assert power(0.5, se, df, 0) > power(0.3, se, df, 0)
    n = seeds_to_find(MARGIN, Precision(se**2, df), 0)
    assert n in LOOKS[1:]
    k = LOOKS.index(n)
    scaled = se * math.sqrt(LOOKS[0] / n), df * (n - 1) / (LOOKS[0] - 1)
    assert power(MARGIN, *scaled, k) >= POWER > power(MARGIN, se, df, 0)
    assert seeds_to_find(MARGIN, Precision(25.0, df), 0) is None
    assert (power(1.0, 0.0, 4, 0), power(0.0, 0.0, 4, 0)) == (1.0, 0.0)


def test_seeds_do_not_shrink_what_a_sample_adds():
    known = Precision(runs=0.09, runs_df=12, sample=0.04, sample_df=4)
    assert known.se == pytest.approx(math.sqrt(0.13))
    assert known.df == pytest.approx(0.13**2 / (0.09**2 / 12 + 0.04**2 / 4))
    more = known.with_seeds(20, 3)
    assert more.runs == pytest.approx(0.09 * 3 / 20) and more.runs_df == 12 * 19 / 2
    assert (more.sample, more.sample_df) == (0.04, 4) and more.df < 8
    effect = 4 * math.sqrt(0.04)  # found at the last look if all shrank
    assert seeds_to_find(effect, Precision(0.13, known.df), 0) is not None
    assert seeds_to_find(3 * math.sqrt(0.04), known, 0) is None


def test_what_does_not_scatter_has_its_own_degrees_of_freedom():
    assert Precision(0.0, 8.0).df == 8.0 and Precision(0.0, 8.0).se == 0.0


def test_a_widened_fit_says_what_is_of_the_sample():
    each = [made((x, x + 1.0), seed=i) for i, x in enumerate((1.0, 2.0, 3.0))]
    plain = made((2.0, 3.0))
    known = widened(plain, each).precision
    assert (known.sample, known.sample_df) == (pytest.approx(1 / 3), 2)
    assert known.runs == pytest.approx(float(plain.se) ** 2)
    assert known.runs_df == plain.precision.df == float(plain.df)
    assert plain.precision.sample == 0.0


def test_intervals_widen_with_the_look_that_spends_less():
    fitted = made((0.0,) * 24)
    widths = [float(np.subtract(*repeated_interval(fitted, k)[::-1])) for k in range(len(LOOKS))]
    assert sorted(widths, reverse=True) == [widths[i] for i in np.argsort(levels())]
