"""Stability thresholds, stationary behaviour, regimes and rates, against their formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.iterate import iterate
from theory.problems import Logistic, Quadratic, digits
from theory.rates import rates
from theory.regime import DIRECTIONS, regime
from theory.stability import amplitudes, predicted, thresholds
from theory.stationary import linear_check, mean_field, stationary


@pytest.fixture(scope="module")
def found():
    return thresholds(fast=True)


def test_every_threshold_agrees_with_its_formula(found):
    assert all(item.agrees for item in found)
    assert {(item.rule, item.normalized) for item in found} == {
        (rule, normalized) for rule in ("sgd", "sam", "s2sam") for normalized in (True, False)
    }


def test_thresholds_tell_the_rules_apart(found):
    by = {(item.rule, item.normalized, item.rho_h): item.measured for item in found}
    assert by["sam", False, 0.5] < by["sgd", False, 0.0] - 0.5 < by["s2sam", False, 0.5] - 1.4
    assert by["s2sam", True, 1.0] > by["sam", True, 1.0] + 0.5


def test_beyond_rho_h_one_s2sam_without_normalisation_diverges():
    problem = Quadratic(np.eye(1), np.zeros(1))
    for rho, shrinks in ((0.95, True), (1.05, False)):
        (*_, last) = iterate(
            problem, "s2sam", np.ones((1, 1)), 2000, eta=0.5, rho=rho,
            rng=np.random.default_rng(0), normalize=False,
        )  # fmt: skip
        assert (abs(last.after[0, 0]) < 1) == shrinks


@settings(deadline=None, max_examples=40)
@given(st.floats(1.001, 2.618), st.floats(-2, 2))
def test_bounded_up_to_the_limit_as_proved(ratio, start):
    problem = Quadratic(np.eye(1), np.zeros(1))
    bound = 2 * max(1.0, ratio - 1) + 1e-9
    for moment in iterate(
        problem, "s2sam", np.array([[start]]), 400, eta=ratio, rho=1.0,
        rng=np.random.default_rng(0),
    ):  # fmt: skip
        assert abs(moment.u[0, 0]) <= bound
        assert abs(moment.after[0, 0]) <= bound + 1


def test_heavy_ball_on_a_quadratic():
    h, eta, rho = np.array([0.3, 2.0]), 0.2, 0.4
    problem = Quadratic(np.diag(h), np.zeros(2))
    start = np.array([[1.0, -2.0]])
    before, now = start[0], None
    for moment in iterate(
        problem, "s2sam", start, 30, eta=eta, rho=rho, rng=np.random.default_rng(0), normalize=False
    ):
        if now is not None:
            step = now - eta * h * now + rho * h * (now - before)
            before, now = now, step
        else:
            now = before - eta * h * before
        assert moment.after[0] == pytest.approx(now, abs=1e-12)


def test_amplitudes_match_the_limit_cycles():
    ratios = np.array([0.5, 1.5, 1.9])
    sizes = amplitudes(ratios, 1500)
    assert sizes["sam"] == pytest.approx(ratios / (2 - ratios), rel=1e-6)
    assert sizes["s2sam"][0] == pytest.approx(1.0)
    a = ratios[1:]
    assert sizes["s2sam"][1:] == pytest.approx(1 + 2 * (a - 1) / (1 + (a - 1) ** 2), rel=1e-6)
    assert sizes["sgd"] == pytest.approx(np.zeros(3), abs=1e-9)
    assert np.isinf(amplitudes(np.array([2.7]), 1500)["s2sam"][0])
    assert predicted("s2sam", True, 0.0) == pytest.approx(((1 + 5**0.5) / 2) ** 2)


def test_stationary_variance_is_the_exact_one():
    for rule, ratio, r, value in linear_check(48, 1500, 3):
        assert value.low < 1.02, (rule, ratio, r)
        assert value.high > 0.98, (rule, ratio, r)
        assert value.high - value.low < 0.3


def test_mean_field_predicts_the_normalised_loss():
    for item in stationary((1.0,), 0.5, 8, 1600, 0):
        assert item.loss_w.mean == pytest.approx(item.predicted_w, rel=0.06)
        assert item.loss_u.mean == pytest.approx(item.predicted_u, rel=0.06)


def test_mean_field_of_sgd_is_the_closed_form_and_unstable_radii_are_nan():
    h = np.array([0.5, 1.0])
    w, u, _ = mean_field("sgd", h, 0.3, 0.2, 0.01)
    assert w == pytest.approx(0.04 * 0.01 / (1 - (1 - 0.2 * h) ** 2))
    assert np.array_equal(w, u)
    assert np.isnan(mean_field("s2sam", h, 10.0, 0.2, 0.01)[0]).any()


def test_noise_decides_between_ascent_and_undoing():
    images, labels, _, _ = digits(np.random.default_rng(0), 100)
    noisy = Logistic(images, labels, ridge=0.001, batch=1)
    calm = Logistic(images, labels, ridge=0.001, batch=64)
    wild = regime(noisy, 1, 1 / noisy.smoothness, 0.2, 4, 60, 0)
    quiet = regime(calm, 64, 0.1 / calm.smoothness, 0.2, 4, 60, 0)
    assert wild.reach.mean < 1 < quiet.reach.mean
    assert wild.increase["s2sam"].mean < 0 < quiet.increase["s2sam"].low
    assert wild.cosine.mean < quiet.cosine.low
    assert wild.noise_share.mean > quiet.noise_share.mean
    assert set(wild.increase) == set(DIRECTIONS)
    # Along the full gradient the loss rises most of the directions that know no more.
    assert quiet.increase["full"].mean > quiet.increase["sam"].mean > quiet.increase["noise"].mean


def test_an_increase_is_divided_by_the_random_one_of_its_own_runs():
    # With one active weight the noise and a random direction are both +1 or -1, so that in every
    # run the two increases are equal, and their ratio is 1 without any error; the increase itself,
    # the divisor, differs between runs.
    images, labels, _, _ = digits(np.random.default_rng(0), 60)
    mask = np.arange(640) == 64 + 20
    problem = Logistic(images, labels, ridge=0.001, batch=2, mask=mask)
    found = regime(problem, 2, 1 / problem.smoothness, 0.5, 4, 60, 0)
    divisor = found.increase_random
    assert divisor.high > (1 + 1e-4) * divisor.mean
    noise = found.increase["noise"]
    assert [noise.low, noise.mean, noise.high] == pytest.approx([1, 1, 1], rel=1e-9)


def test_rates():
    found = rates(4, 1024, 0)
    by = {(rate.problem, rate.shrinking): rate for rate in found}
    assert len(by) == 6
    for (name, shrinking), rate in by.items():
        assert np.all(rate.means <= rate.bounds), name
        if shrinking:
            assert rate.tail.mean < -0.4, name
    line = by["scalar quadratic, no noise", False]
    assert line.tail.mean == pytest.approx(0, abs=0.05)
    assert line.means[-1] / line.bounds[-1] > 0.9
