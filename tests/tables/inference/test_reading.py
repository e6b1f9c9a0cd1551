"""From records to verdicts: looks, what is missing, what diverged, and effects' weights."""

import re

import numpy as np
import pytest
from workplaces import made_body, tiny

from paper_repro.experiment.records import Records
from paper_repro.optim import OPTIMIZERS
from tables.base import Cell, Delta, last_accuracy
from tables.inference.estimate import fit
from tables.inference.reading import NOT_MEASURED, interaction, judge, mean, rise
from tables.inference.rules import AVERAGE, FAILS, HOLDS, NO_LARGER, UNDECIDED, Rule

SGD = OPTIMIZERS.spec("sgd")
EVERY = Rule(everywhere=True)
NOISE = np.random.default_rng(5).normal(0, 0.1, (2, 9, 20))


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path / "results")


def delta(records, number, effect, seeds=3, skip=()):
    """Difference ``number``: 20 runs an arm, of which the first ``seeds`` have records."""
    base, ours = [], []
    for s in range(20):
        base.append(tiny(seed=s, batch_size=8 + number, optimizer=SGD))
        ours.append(tiny(seed=s, batch_size=8 + number))
        if s < seeds and s not in skip:
            noise = NOISE[:, number, s]
            records.write(base[-1], "finished", made_body(last=90 + noise[0]))
            records.write(ours[-1], "finished", made_body(last=90 + effect + noise[1]))
    return Delta(Cell(tuple(ours)), Cell(tuple(base)))


def found(records, effects, rule=EVERY, seeds=3, build=mean):
    deltas = {f"cell {i}": delta(records, i, e, seeds) for i, e in enumerate(effects)}
    return judge(build, deltas, records, last_accuracy, rule, "mean Δ")


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ((2.0, 2.0, 2.0), HOLDS),
        ((2.0, 2.0, 0.1), AVERAGE),
        ((2.0, 2.0, -2.0), FAILS),
        ((-1.0, -1.0, -1.0), FAILS),
        ((0.0,) * 9, NO_LARGER),
    ],
)
def test_verdicts_at_three_seeds(records, effects, verdict):
    finding = found(records, effects)
    assert finding.verdict == verdict and finding.look == 0
    assert f"of {len(effects)} differences (look at n = 3)" in finding.evidence
    assert ("(cell 2)" in finding.evidence) == (effects[-1] == -2.0)


def test_the_evidence_is_the_estimates(records):
    finding = found(records, (0.5, 0.7), Rule())
    fitted = fit(90 + NOISE[1, :2, :3] + [[0.5], [0.7]], 90 + NOISE[0, :2, :3], np.full(2, 0.5))
    assert finding.evidence.startswith(f"mean Δ: {float(fitted.estimate):+.2f} [")
    assert f"a run's spread {float(fitted.spread):.2f}" in finding.evidence
    assert "power for 0.2 points above 0: " in finding.evidence


@pytest.mark.parametrize(("seeds", "n"), [(3, 3), (4, 3), (5, 5), (9, 5), (10, 10), (20, 20)])
def test_between_two_looks_the_earlier_one_stands(records, seeds, n):
    finding = found(records, (0.5, 0.5), seeds=seeds)
    assert f"(look at n = {n})" in finding.evidence
    fewer = found(records, (0.5, 0.5), seeds=n)  # writes the same records again
    assert fewer == finding


def test_before_three_seeds_nothing_is_decided(records):
    assert found(records, (5.0, 5.0), seeds=0).verdict == NOT_MEASURED
    finding = found(records, (5.0, 5.0), seeds=2)
    assert finding.verdict == UNDECIDED and finding.look is None
    assert "no look yet, 2 of 2 differences measured, 0 with 3 seeds" in finding.evidence
    assert finding.evidence.endswith("points (n = 2)")


def test_before_the_first_look_an_effect_is_by_its_weights(records):
    pair = {"a": delta(records, 0, 1.0, 2), "b": delta(records, 1, 3.0, 1)}
    means = [
        np.mean(NOISE[1, i, :n] - NOISE[0, i, :n]) + e for i, (e, n) in enumerate(((1, 2), (3, 1)))
    ]
    finding = judge(interaction, pair, records, last_accuracy, Rule(), "interaction")
    assert finding.evidence.endswith(f"; {means[0] - means[1]:+.2f} points (n = 1 to 2)")
    finding = judge(mean, pair, records, last_accuracy, Rule(), "mean Δ")
    assert finding.evidence.endswith(f"; {np.mean(means):+.2f} points (n = 1 to 2)")


def test_before_the_first_look_a_rise_of_a_part_is_no_number(records):
    some = {
        "0%": delta(records, 0, 1.0, 4),
        "50%": delta(records, 1, 2.0, 1),
        "90%": delta(records, 2, 3.0, 0),
    }
    rising = lambda d: rise(d, percent)  # noqa: E731
    finding = judge(rising, some, records, last_accuracy, Rule(), "rise of Δ")
    assert finding.verdict == UNDECIDED and finding.evidence == (
        "rise of Δ: no look yet, 2 of 3 differences measured, 1 with 3 seeds; not to be computed "
        "before all 3 are"
    )
    average = judge(mean, some, records, last_accuracy, Rule(), "mean Δ").evidence
    assert re.search(r"; mean Δ of them \+1\.\d\d points \(n = 1 to 4\)$", average)


def test_a_look_waits_for_every_difference_and_takes_the_seeds_that_all_have(records):
    some = {"a": delta(records, 0, 5.0, 5), "b": delta(records, 1, 5.0, 2)}
    waiting = judge(mean, some, records, last_accuracy, EVERY, "mean Δ")
    assert waiting.verdict == UNDECIDED and "1 with 3 seeds" in waiting.evidence
    some = {"a": delta(records, 2, 5.0, 4), "b": delta(records, 3, 5.0, 4, skip=(1,))}
    finding = judge(mean, some, records, last_accuracy, EVERY, "mean Δ")
    noise = NOISE[:, 2:4][..., [0, 2, 3]]
    fitted = fit(95 + noise[1], 90 + noise[0], np.full(2, 0.5))
    assert f"mean Δ: {float(fitted.estimate):+.2f} [" in finding.evidence


def test_a_difference_of_which_a_run_diverged_keeps_the_claim_from_holding(records):
    deltas = {f"cell {i}": delta(records, i, 2.0) for i in range(3)}
    assert judge(mean, deltas, records, last_accuracy, EVERY, "Δ").verdict == HOLDS
    records.write(deltas["cell 0"].treatment.runs[3], "diverged", made_body())
    finding = judge(mean, deltas, records, last_accuracy, EVERY, "Δ")
    assert finding.verdict == UNDECIDED and finding.evidence.endswith("that diverged: 1")
    only = {"cell 0": deltas["cell 0"]}
    assert judge(mean, only, records, last_accuracy, EVERY, "Δ").verdict == UNDECIDED


def test_a_run_that_failed_is_waited_for(records):
    deltas = {"a": delta(records, 0, 2.0)}
    records.write(deltas["a"].treatment.runs[1], "failed", made_body())
    finding = judge(mean, deltas, records, last_accuracy, EVERY, "Δ")
    assert finding.verdict == UNDECIDED and "no look yet" in finding.evidence


# -- weights -------------------------------------------------------------------------------------


def percent(name):
    return float(name.split()[-1].rstrip("%"))


def names(*labels):
    return {label: Delta(Cell(), Cell()) for label in labels}


def test_a_rise_is_the_least_squares_slope_over_the_axis():
    weights = rise(names("0%", "50%", "90%"), percent)
    x, gains = np.array([0.0, 50.0, 90.0]), np.array([0.1, 0.3, 0.9])
    slope = np.polyfit(x, gains, 1)[0]
    effect = sum(term.weight * gain for term, gain in zip(weights.values(), gains, strict=True))
    assert effect == pytest.approx(slope * 90)


def test_a_rise_over_a_span_does_not_depend_on_what_is_left():
    whole = rise(names("90%", "95%", "98%"), percent, 8.0)
    left = rise(names("90%", "95%"), percent, 8.0)
    for terms in (whole, left):
        slope = sum(term.weight * 0.1 * percent(name) for name, term in terms.items())
        assert slope == pytest.approx(0.8)


def test_groups_of_a_rise_have_their_own_level():
    weights = rise(names("A, 90%", "A, 98%", "B, 90%", "B, 98%"), percent)
    assert [t.weight for t in weights.values()] == pytest.approx([-0.5, 0.5, -0.5, 0.5])


def test_an_interaction_is_the_first_minus_the_second():
    assert [t.weight for t in interaction(names("a", "b")).values()] == [1, -1]
    with pytest.raises(ValueError, match="two differences"):
        interaction(names("a"))


def test_what_too_little_is_left_of_is_undecided(records):
    deltas = {"0%": delta(records, 0, 1.0), "90%": delta(records, 1, 2.0)}
    rising = lambda d: rise(d, percent)  # noqa: E731
    assert judge(rising, deltas, records, last_accuracy, Rule(), "rise").verdict == HOLDS
    records.write(deltas["0%"].treatment.runs[4], "diverged", made_body())
    finding = judge(rising, deltas, records, last_accuracy, Rule(), "rise")
    assert finding.verdict == UNDECIDED and "two positions" in finding.evidence
