"""The rules' errors and power on simulated records whose truth is known."""

import math

import numpy as np
import pytest

from tables.inference.__main__ import main
from tables.inference.page import page
from tables.inference.rules import (
    AVERAGE,
    FAILS,
    HOLDS,
    STATED,
)
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
        # Degrees of freedom are taken at their mean: a little too good where there are few.
        assert (verdicts == HOLDS).mean() == pytest.approx(computed, abs=0.06)


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


@pytest.mark.parametrize(("cells", "effect"), [(1, 0.4), (1, 1.0), (3, 0.2), (24, 0.1)])
def test_power_is_as_computed(cells, effect):
    scenario = Scenario("", (effect,) * cells, ())
    for look, verdicts in enumerate(simulate(scenario, HISTORIES, seed=1)):
        computed = computed_power(scenario, look)
        assert (verdicts == HOLDS).mean() == pytest.approx(computed, abs=0.06)


def test_the_page_states_its_numbers_with_their_n(tmp_path, capsys):
    text = page(100)
    main(["--experiments", "100", "--page", str(tmp_path / "page.md")])
    assert (tmp_path / "page.md").read_text() == text
    with pytest.raises(SystemExit) as stopped:
        main(["--experiments", "1"])
    assert stopped.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    assert "100 simulated histories" in text and "{" not in text
    assert all(scenario.name in text for scenario in (*SCENARIOS, *BEYOND, *TOGETHER))
