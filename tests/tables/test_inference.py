"""The rules' errors and power on records whose truth is known, and their parts by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tables.inference.__main__ import main
from tables.inference.looks import ALPHA, LOOKS, increments, level, levels, spent
from tables.inference.page import page
from tables.inference.pooled import fit, residuals, shrunk, widened
from tables.inference.reading import NOT_MEASURED
from tables.inference.rules import (
    AVERAGE,
    FAILS,
    HOLDS,
    MARGIN,
    NO_LARGER,
    POWER,
    STATED,
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
from tables.inference.study import (
    SCENARIOS,
    Scenario,
    computed_power,
    coverage,
    ever,
    naive,
    simulate,
)
from tables.inference.study_beyond import (
    BEYOND,
    POWERS,
    TOGETHER,
    along_directions,
    together,
    types_apart,
)

# -- looks ---------------------------------------------------------------------------------------


def test_all_looks_together_spend_the_error_and_no_look_spends_it_before():
    assert sum(increments()) == pytest.approx(ALPHA, rel=1e-12)
    assert spent(0.0) == 0.0 and spent(1.0) == pytest.approx(ALPHA)
    pairs = zip(increments(), levels(), strict=True)
    assert all(0 < own <= p * (1 + 1e-9) < ALPHA for own, p in pairs)
    assert levels()[0] == pytest.approx(increments()[0], rel=1e-9)


def test_a_process_without_effect_leaves_the_bounds_as_often_as_is_spent():
    # Plain simulation of the looks' z statistics beside the numerical integration.
    rng = np.random.default_rng(0)
    times = np.array(LOOKS) / LOOKS[-1]
    steps = rng.standard_normal((400_000, len(LOOKS))) * np.sqrt(np.diff(times, prepend=0.0))
    z = steps.cumsum(1) / np.sqrt(times)
    left = np.logical_or.accumulate(z > stats.norm.isf(levels()), axis=1).mean(0)
    expected = [spent(t) for t in times]
    assert left == pytest.approx(expected, abs=4 * math.sqrt(ALPHA / 400_000))


def test_few_degrees_of_freedom_get_the_looks_own_share():
    assert level(2, 4) == increments()[2] and level(2, 100) == levels()[2]


# -- the pooled model ----------------------------------------------------------------------------


def test_the_estimate_by_hand():
    ours = np.array([[91.0, 92.0, 93.0], [81.0, 83.0, 82.0]])
    theirs = np.array([[90.0, 91.0, 89.0], [80.0, 80.0, 83.0]])
    found = fit(ours, theirs, np.array([0.5, 0.5]))
    assert found.effects == pytest.approx([2.0, 1.0]) and found.estimate == pytest.approx(1.5)
    errors = np.array([100 - 91.0, 100 - 81.5])
    squares = np.array([2 + 2, 2 + 6])  # of both arms about their means
    phi = (squares / errors).sum() / 8
    assert found.df == 8 and not found.paired and not found.seeds
    assert found.se == pytest.approx(math.sqrt(phi * 2 / 3 * (errors / 4).sum()))
    assert found.cell_se == pytest.approx(np.sqrt(phi * 2 / 3 * errors))
    assert found.spread == pytest.approx(math.sqrt(phi * errors.mean()))


def test_other_cells_add_to_what_is_known_of_the_spread():
    rng = np.random.default_rng(0)
    ours, theirs = 90 + rng.standard_normal((2, 1, 3))
    others = 80 + rng.standard_normal((4, 3))
    squares, df = residuals(others)
    by_hand = sum(((y - y.mean()) ** 2).sum() / (100 - y.mean()) for y in others)
    assert (squares, df) == (pytest.approx(by_hand), 8)
    alone, more = (fit(ours, theirs, np.ones(1), o) for o in ((0.0, 0), (squares, df)))
    assert (alone.df, more.df) == (4, 12) and alone.estimate == more.estimate
    error = 100 - (ours.mean() + theirs.mean()) / 2
    phi = alone.spread**2 / error
    assert more.spread**2 / error == pytest.approx((4 * phi + squares) / 12)


def test_pairs_and_seeds_are_taken_where_the_records_show_them():
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((2, 8, 10))
    shared = 3 * rng.standard_normal((8, 10))
    weights = np.full(8, 1 / 8)
    plain = fit(90 + noise[0], 90 + noise[1], weights)
    pairs = fit(90 + noise[0] + shared, 90 + noise[1] + shared, weights)
    assert not plain.paired and plain.df == 2 * 8 * 9 and abs(plain.correlation) < 0.3
    assert pairs.paired and pairs.df == 8 * 9 and pairs.correlation > 0.8
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
    assert found.paired.mean() == pytest.approx(0.005, abs=0.002)
    assert found.seeds.mean() == pytest.approx(0.05 if cells > 1 else 0.0, abs=0.006)


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


# -- rules ---------------------------------------------------------------------------------------


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


def test_another_scale_has_its_own_margin_and_its_own_word():
    smooth = Scale("log points", 10.0, "fall", even=True)
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


def test_values_that_scatter_alike_have_no_error_rate():
    # Of minus the logarithm of something large: far from any percentage, and moved as a whole.
    rng = np.random.default_rng(4)
    ours, theirs = -500 + rng.standard_normal((2, 3, 5))
    weights = np.full(3, 1 / 3)
    found = fit(ours, theirs, weights, even=True)
    squares = sum(((y - y.mean()) ** 2).sum() for arm in (ours, theirs) for y in arm)
    assert found.spread == pytest.approx(math.sqrt(squares / 24))
    assert found.se == pytest.approx(math.sqrt(2 * squares / 24 / 5 / 3))
    moved = fit(ours + 900, theirs + 900, weights, even=True)
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


# -- the study -----------------------------------------------------------------------------------

HISTORIES = 4000


HELD = [s for s in (*SCENARIOS, *BEYOND) if s.held]


@pytest.mark.parametrize("scenario", HELD, ids=lambda s: s.name)
def test_errors_are_at_most_what_is_stated(scenario):
    wrong = ever(simulate(scenario, HISTORIES), scenario.wrong)
    assert wrong <= STATED + 2 * math.sqrt(STATED * (1 - STATED) / HISTORIES)


@pytest.mark.parametrize("claim", TOGETHER, ids=lambda c: c.name)
def test_a_claim_of_parts_errs_at_most_as_stated(claim):
    allowed = claim.stated + 2 * math.sqrt(claim.stated * (1 - claim.stated) / HISTORIES)
    assert together(claim, HISTORIES) <= allowed


def test_types_one_by_one_err_at_most_as_stated_and_are_found():
    histories = 1000
    for share in types_apart(histories):
        assert share <= STATED + 2 * math.sqrt(STATED * (1 - STATED) / histories)
    up, down = types_apart(200, gain=2.0)
    assert up > 0.95 and down < 0.05


@pytest.mark.parametrize(
    ("claim", "scenario"), POWERS[::3], ids=lambda x: x if isinstance(x, str) else ""
)
def test_the_power_beyond_accuracy_is_as_computed(claim, scenario):
    for look, verdicts in enumerate(simulate(scenario, HISTORIES, seed=1)):
        computed = computed_power(scenario, look)
        assert (verdicts == HOLDS).mean() == pytest.approx(computed, abs=0.035)


def test_directions_that_differ_make_neither_a_fall_nor_a_rise():
    histories = 1000
    added, left = (along_directions(histories, tau=10.0, sampled=yes) for yes in (True, False))
    for wrong, stated in (((HOLDS, AVERAGE), STATED), ((FAILS,), 2 * STATED)):
        assert ever(added, wrong) <= stated + 2 * math.sqrt(stated * (1 - stated) / histories)
        assert ever(left, wrong) > 0.1  # what adding the directions' scatter avoids


def test_a_fall_is_found_along_all_directions():
    last = along_directions(200, fall=40.0, tau=10.0)[-1]
    assert np.isin(last, (HOLDS, AVERAGE)).mean() > 0.9


def test_the_price_of_what_is_not_promised_is_seen():
    worst = max(ever(simulate(s, HISTORIES), s.wrong) for s in SCENARIOS if not s.held and s.kappa)
    assert STATED < worst < 0.1
    assert naive(SCENARIOS[0], HISTORIES) > 2 * STATED  # what spending the error avoids


def test_the_intervals_of_all_looks_hold_the_truth_at_once():
    assert coverage(HISTORIES) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize(
    ("cells", "others", "effect"), [(1, 0, 0.4), (1, 6, 0.4), (3, 0, 0.2), (24, 0, 0.1)]
)
def test_power_is_as_computed(cells, others, effect):
    scenario = Scenario("", (effect,) * cells, (), others=others)
    for look, verdicts in enumerate(simulate(scenario, HISTORIES, seed=1)):
        computed = computed_power(scenario, look)
        assert (verdicts == HOLDS).mean() == pytest.approx(computed, abs=0.035)


def test_power_and_seeds_go_together():
    se, df = 0.12, 40
    assert power(0.0, se, df, 0) == pytest.approx(levels()[0])
    assert power(0.5, se, df, 0) > power(0.3, se, df, 0)
    n = seeds_to_find(MARGIN, se, df, 0)
    assert n in LOOKS[1:]
    k = LOOKS.index(n)
    scaled = se * math.sqrt(LOOKS[0] / n), df * (n - 1) / (LOOKS[0] - 1)
    assert power(MARGIN, *scaled, k) >= POWER > power(MARGIN, se, df, 0)
    assert seeds_to_find(MARGIN, 5.0, df, 0) is None
    assert (power(1.0, 0.0, 4, 0), power(0.0, 0.0, 4, 0)) == (1.0, 0.0)


def test_intervals_widen_with_the_look_that_spends_less():
    fitted = made((0.0,) * 24)
    widths = [float(np.subtract(*repeated_interval(fitted, k)[::-1])) for k in range(len(LOOKS))]
    assert sorted(widths, reverse=True) == [widths[i] for i in np.argsort(levels())]


def test_the_page_states_its_numbers_with_their_n(tmp_path, capsys):
    text = page(100)
    main(["--experiments", "100", "--page", str(tmp_path / "page.md")])
    assert (tmp_path / "page.md").read_text() == text
    with pytest.raises(SystemExit) as stopped:
        main(["--experiments", "1"])
    assert stopped.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    assert "100 simulated histories" in text and "{" not in text
    assert all(scenario.name in text for scenario in (*SCENARIOS, *BEYOND, *TOGETHER))
