"""The tighter smooth bounds: what they contain, which theta is best, and that they are attained."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.beyond import BEST_THETA, EXTREMAL, SMOOTH_BEST, SMOOTH_FAMILY
from theory.checks import outcome
from theory.corrected import SMOOTH, WEIGHT_DECAY
from theory.grid import Arm, cells, simulate
from theory.probes import probe
from theory.problems import Quadratic
from theory.statements import evaluate

_SETTINGS = st.fixed_dictionaries(
    {
        "L": st.floats(0.1, 10),
        "lambda": st.sampled_from([0.0, 0.5, 3.0]),
        "rho": st.floats(1e-3, 5),
        "sigma": st.floats(0, 3),
        "F_0": st.floats(0, 9),
        "T": st.integers(1, 10_000),
    }
)


def _numbers(point, step):
    """``point`` at eta (L + lambda) = ``step``."""
    return {**point, "F_*": 0.0, "eta": step / (point["L"] + point["lambda"])}


@settings(deadline=None)
@given(_SETTINGS, st.floats(0.01, 1.0))
def test_theta_one_is_the_bound_that_it_sharpens(point, step):
    numbers = _numbers(point, step)
    old = WEIGHT_DECAY.value(**numbers)
    assert SMOOTH_FAMILY.value(**numbers, theta=1.0) == pytest.approx(old, rel=1e-9)
    assert SMOOTH_BEST.value(**numbers) <= old * (1 + 1e-12)
    if not point["lambda"]:
        assert old == pytest.approx(SMOOTH.value(**numbers))


@settings(deadline=None)
@given(_SETTINGS, st.floats(0.01, 1.9), st.floats(0.01, 1.0))
def test_the_best_theta_is_at_most_one_and_no_theta_gives_less(point, step, theta):
    numbers = _numbers(point, step)
    best, at = float(SMOOTH_BEST.value(**numbers)), float(evaluate(BEST_THETA, numbers))
    assert 0 < at <= 1 + 1e-12
    assert SMOOTH_FAMILY.value(**numbers, theta=at) == pytest.approx(best, rel=1e-7)
    if SMOOTH_FAMILY.admits(**numbers, theta=theta, beta=0.0):
        assert SMOOTH_FAMILY.value(**numbers, theta=theta) >= best * (1 - 1e-9)


@settings(deadline=None)
@given(_SETTINGS, st.floats(0.01, 1.9))
def test_without_a_radius_it_is_the_classical_bound(point, step):
    numbers = _numbers({**point, "rho": 0.0}, step)
    spent = 2 * point["F_0"] / (numbers["eta"] * point["T"]) + step * point["sigma"] ** 2
    assert SMOOTH_BEST.value(**numbers) == pytest.approx(spent / (2 - step), rel=1e-12)
    assert SMOOTH_FAMILY.value(**numbers, theta=1e-9) == pytest.approx(spent / (2 - step), rel=1e-6)


@pytest.mark.parametrize("step", [0.1, 0.9, 1.0, 1.3, 1.9])
def test_the_floor_is_that_of_the_worst_perturbation(step):
    numbers = {"L": 3.0, "lambda": 0.0, "rho": 0.2, "sigma": 0.0, "F_0": 0.0, "T": 1}
    floor = float(SMOOTH_BEST.value(**_numbers(numbers, step)))
    furthest = float(EXTREMAL.value(a=step, rho=0.2))
    assert floor == pytest.approx((3 * furthest) ** 2, rel=1e-12)


def test_which_settings_are_admitted():
    numbers = {"L": 1.0, "lambda": 0.0, "rho": 0.1, "sigma": 1.0, "F_0": 1.0, "F_*": 0.0, "T": 9}
    assert SMOOTH_BEST.admits(**numbers, beta=0.0, eta=1.99)
    assert not SMOOTH_BEST.admits(**numbers, beta=0.0, eta=2.0)
    assert not SMOOTH_BEST.admits(**numbers, beta=0.5, eta=0.1)
    assert SMOOTH_FAMILY.admits(**numbers, beta=0.0, eta=1.6, theta=0.5)
    assert not SMOOTH_FAMILY.admits(**numbers, beta=0.0, eta=1.7, theta=0.5)
    assert not SMOOTH_FAMILY.admits(**numbers, beta=0.0, eta=0.1, theta=1.1)
    assert SMOOTH_BEST.largest_step(L=2.0, **{"lambda": 0.0}) == pytest.approx(0.95)
    assert SMOOTH_FAMILY.at(theta=1.0).largest_step(L=1.0, **{"lambda": 0.0}) < 1.5
    with pytest.raises(
        ValueError, match="smooth_family: no largest step, no value given for theta"
    ):
        SMOOTH_FAMILY.largest_step(L=1.0, **{"lambda": 0.0})


@pytest.mark.parametrize("statement", [SMOOTH_FAMILY, SMOOTH_BEST], ids=lambda s: s.name)
def test_probes_hold_and_are_attained_and_reach_beyond_one(statement):
    found = outcome(statement.name, probe(statement))
    assert found.verdict == "holds"
    assert found.worst.ratio > 0.99
    assert found.worst_where(eta=1.4) is not None


def test_runs_at_long_steps_are_judged_by_the_tighter_bound_alone():
    problem = Quadratic(np.eye(2), np.ones(2))
    arm = Arm(1.0, 0.1, 0.0, limits=SMOOTH_BEST)
    assert arm.step(1.0) == pytest.approx(1.9)
    records = list(simulate(problem, [arm], 1, [3, 90], np.random.default_rng(0)))
    judged = {cell.statement for cell in cells(problem, 1.0, records, 0.99)}
    assert {name for name in judged if "printed" not in name} == {"smooth_best"}


def test_the_classical_bound_is_attained_by_noise_where_the_old_one_is_not():
    problem = Quadratic(np.eye(1), np.zeros(1))
    arm = Arm(0.1, 0.0, 1.0, limits=SMOOTH_BEST)
    records = list(simulate(problem, [arm], 400, [4000], np.random.default_rng(0)))
    ratios = {c.statement: c.ratio for c in cells(problem, 1.0, records, 0.99)}
    assert ratios["smooth_best"] > 0.95
    assert ratios["smooth"] < 0.6
