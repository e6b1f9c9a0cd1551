"""Identities to machine precision, over many random problems."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.equivalences import (
    change_of_variables,
    distance_on_line,
    dunkl_williams,
    gradient_error,
    masked_and_restricted,
    orbit,
)
from theory.iterate import iterate
from theory.problems import Logistic, Quadratic, digits, rotated

SEEDS = st.integers(0, 10_000)


def _problem(seed, dim=6, masked=False, sigma=0.3):
    rng = np.random.default_rng(seed)
    mask = rng.random(dim) < 0.6 if masked else np.ones(dim, dtype=bool)
    mask[0] = True
    hessian = rotated(np.geomspace(0.05, 1.0, dim), rng)
    return Quadratic(hessian, rng.standard_normal(dim), sigma=sigma, mask=mask)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.floats(0.01, 1.0), st.floats(0.0, 2.0), st.booleans())
def test_change_of_variables(seed, eta, rho, masked):
    problem = _problem(seed, masked=masked)
    start = np.tile(problem.start(), (3, 1))
    assert change_of_variables(problem, start, 60, eta, rho, seed) < 1e-12


@settings(deadline=None, max_examples=10)
@given(SEEDS)
def test_the_perturbation_takes_back_part_of_the_last_step(seed):
    problem, eta, rho = _problem(seed), 0.2, 0.1
    before = None
    start = problem.start()[None]
    for now in iterate(
        problem, "s2sam", start, 20, eta=eta, rho=rho, rng=np.random.default_rng(seed)
    ):
        if before is not None:
            length = np.linalg.norm(before.g)
            assert now.u == pytest.approx(before.w - (eta - rho / length) * before.g, abs=1e-13)
        before = now


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.floats(0.01, 1.0), st.floats(0.0, 2.0))
def test_masked_equals_restricted(seed, eta, rho):
    assert masked_and_restricted(_problem(seed, masked=True), 60, eta, rho, seed) < 1e-11


@settings(deadline=None, max_examples=100)
@given(SEEDS, st.integers(1, 8), st.floats(-6, 6))
def test_dunkl_williams(seed, dim, logarithm):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, 50, dim))
    ratio = dunkl_williams(x, np.exp(logarithm) * y)
    assert np.all(ratio <= 1 + 1e-12)


def test_dunkl_williams_is_attained_and_would_fail_with_a_smaller_constant():
    x = np.array([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]])
    y = np.array([[-5.0, 0.0], [-7.0, 0.0], [1.0, 1.0]])
    assert dunkl_williams(x, y) == pytest.approx([1.0, 1.0, 0.0])


def test_gradient_error_against_sam():
    images, labels, _, _ = digits(np.random.default_rng(0), 60)
    assert 0 < gradient_error(Logistic(images, labels), 60, 1.0, 0.5, 0) <= 1 + 1e-12
    isotropic = Quadratic(2 * np.eye(3), np.zeros(3), sigma=0.5)
    tight = gradient_error(isotropic, 200, 0.1, 0.1, 0, rows=40)
    assert tight == pytest.approx(1.0, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.1, 50), st.floats(0.05, 0.9), st.floats(1e-3, 10), st.floats(0.05, 20))
def test_distance_rho_in_one_dimension(curvature, ratio, rho, start):
    steps = int(np.ceil(np.log(1e-9 * rho / (start + rho)) / np.log(1 - ratio))) + 2
    distance = distance_on_line(curvature, ratio / curvature, rho, start, steps)
    assert distance == pytest.approx(1.0, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 3.5), st.floats(0.01, 10), st.floats(0, 2 * np.pi))
def test_the_circle_is_an_orbit(ratio, rho, phase):
    angle = np.arccos(1 - ratio / 2)

    def point(t):
        return rho * np.array([[np.cos(phase + t * angle), np.sin(phase + t * angle)]])

    problem = Quadratic(np.eye(2), np.zeros(2))
    start = point(0) - point(-1)
    assert np.linalg.norm(start) == pytest.approx(rho * np.sqrt(ratio))
    runs = iterate(
        problem, "s2sam", start, 12, eta=ratio, rho=rho, rng=np.random.default_rng(0),
        previous=point(-1),
    )  # fmt: skip
    for moment in runs:
        assert moment.u == pytest.approx(point(moment.t), abs=1e-9 * rho)
        assert np.linalg.norm(moment.after) == pytest.approx(rho * np.sqrt(ratio))


def test_random_starts_reach_the_circle_in_the_plane_and_rho_on_the_line():
    distance, squared = orbit((1.0, 1.0), 0.04, 0.1, 1500, 6, 0)
    assert distance == pytest.approx(np.full(6, 0.2), rel=1e-6)
    assert squared == pytest.approx(np.full(6, 0.04), rel=1e-6)
    line, floor = orbit((1.0,), 0.04, 0.1, 1200, 6, 0)
    assert line == pytest.approx(np.ones(6), rel=1e-6)
    assert floor == pytest.approx(np.ones(6), rel=1e-6)
