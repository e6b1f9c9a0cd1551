"""What no paper has: stability with momentum, and the smoothing law."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.beyond import MOMENTUM_STABLE
from theory.iterate import iterate
from theory.problems import Quadratic, Robust
from theory.problems.mixture import mixture
from theory.smoothing import drifts, spreads
from theory.stability import heavy_thresholds, predicted, root_cells, wander
from theory.worlds.heavy import disagreements, points


def test_the_conditions_tell_stable_from_unstable_at_every_point():
    assert disagreements(MOMENTUM_STABLE, 5000) == 0
    cells, outside = root_cells(MOMENTUM_STABLE, 3000)
    assert outside > 300
    assert all(cell.verdict == "holds" for cell in cells)
    assert max(cell.ratio for cell in cells) > 0.999


@settings(deadline=None, max_examples=30)
@given(
    st.floats(0.01, 4.0), st.floats(0.0, 1.2), st.sampled_from([0.0, 0.5, 0.9]),
)  # fmt: skip
def test_runs_shrink_where_the_conditions_hold_and_grow_where_they_do_not(a, r, beta):
    admitted = MOMENTUM_STABLE.admits(a=a, r=r, beta=beta)
    edges = [predicted("s2sam", False, r, beta)] if r < 1 else [0.0]
    if min(abs(a - edge) for edge in edges) < 0.05 or abs(r - 1) < 0.02:
        return  # decided too slowly for a short run
    problem = Quadratic(np.eye(1), np.zeros(1))
    sizes = []
    with np.errstate(over="ignore", invalid="ignore"):
        for moment in iterate(
            problem, "s2sam", np.ones((1, 1)), 6000, eta=a, rho=r,
            rng=np.random.default_rng(0), normalize=False, momentum=beta,
        ):  # fmt: skip
            sizes.append(abs(moment.after[0, 0]))
    late, middle = max(sizes[-600:]), max(sizes[2000:2600])
    assert (late < middle or late < 1e-300) == admitted


def test_measured_thresholds_with_momentum_agree_and_s2sam_falls_behind_sgd():
    found = heavy_thresholds(fast=True)
    assert all(item.agrees for item in found)
    limits = {(item.rule, item.rho_h): item.measured for item in found}
    assert limits["s2sam", 0.02] > limits["sgd", 0.0] > limits["s2sam", 0.05] + 1
    assert predicted("s2sam", False, 0.0277, 0.9) > 3.8 > predicted("s2sam", False, 0.0278, 0.9)
    assert predicted("s2sam", False, 0.5) == pytest.approx(3.0)


def test_points_cover_both_sides_for_each_momentum():
    for beta in (0.0, 0.5, 0.9, 0.99):
        stable = [p.radius < 1 for p in points(4000) if p.beta == beta]
        assert 20 < sum(stable) < len(stable) - 20


def test_normalised_s2sam_wanders_further_with_momentum_than_sam():
    sizes = wander(0.9, np.array([0.1, 2.0]), 2000)
    assert sizes["s2sam"] == pytest.approx([2.57, 20.0], abs=0.05)
    assert np.all(sizes["sam"] < sizes["s2sam"] / 4)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(0.01, 0.5), st.floats(0.01, 0.5))
def test_the_smoothing_law_holds_along_any_run_as_matrices(seed, eta, rho):
    rng = np.random.default_rng(seed)
    problem = Robust(rng.standard_normal((10, 3)), rng.standard_normal(10), sigma=0.4)
    left, squares = np.zeros((3, 3)), np.zeros((3, 3))
    before = None
    start = rng.standard_normal((1, 3))
    for moment in iterate(
        problem, "s2sam", start, 30, eta=eta, rho=rho, rng=rng, normalize=False
    ):  # fmt: skip
        if before is not None:
            left += np.outer(moment.u, moment.u) - np.outer(moment.w, moment.w)
            squares += np.outer(before, before)
        before, last = moment.g[0], moment.w
    ends = np.outer(start, start) - np.outer(last, last)
    right = rho * (rho - eta) * squares + rho / eta * ends
    assert left == pytest.approx(right, rel=1e-10, abs=1e-12)


def test_sams_mean_is_the_penalised_minimum_and_s2sams_is_not():
    by = {(d.normalize, d.rule): d for d in drifts(32, 8000, 0)}
    assert by[False, "sam"].mean_w.low < 1 < by[False, "sam"].mean_w.high
    assert by[False, "sam"].mean_w.low > 0.5
    assert by[False, "s2sam"].mean_w.low < 0 < by[False, "s2sam"].mean_w.high
    assert by[False, "s2sam"].mean_w.high < 0.5
    # Normalised: u keeps the mean, the deployed w does not.
    ours = by[True, "s2sam"]
    assert ours.mean_u.low < 0 < ours.mean_u.high < 0.2 < ours.mean_w.low


def test_u_is_spread_more_than_w_only_beyond_the_last_step():
    found = spreads(8, 2000, 0)
    for item in found:
        if abs(item.reach - 1) > 0.1:
            assert (item.measured.mean > 0) == (item.reach > 1)
        if not item.normalize:
            slack = 2 * (item.measured.high - item.measured.low)
            assert item.measured.mean == pytest.approx(item.law, abs=slack)


def test_the_mixtures_minima():
    problem = mixture(1)
    bottom = problem.minimizer()
    assert problem.gradient(bottom[None])[0] == pytest.approx(np.zeros(3), abs=1e-12)
    w = problem.penalised(0.2, False)
    slopes = problem.slopes(w[None])[0]
    pulled = problem.gradient(w[None])[0] + 0.2 * np.einsum(
        "nij,nj->i", problem.hessians, slopes
    ) / len(slopes)
    assert pulled == pytest.approx(np.zeros(3), abs=1e-12)
    mean = np.mean([problem.sample_gradient(w[None], np.array([i]))[0] for i in range(6)], axis=0)
    assert mean == pytest.approx(problem.gradient(w[None])[0])
    assert problem.noise_variance(w[None])[0] == pytest.approx(
        (slopes**2).sum(axis=1).mean() - (mean**2).sum()
    )
    with pytest.raises(ValueError, match="without weight decay only"):
        problem.infimum(0.1)
