"""The grid: its runs give the numbers that a plain loop gives, and its verdicts can fail."""

import numpy as np
import pytest

from theory import corrected
from theory.checks import outcome
from theory.grid import Arm, Grid, arms, cells, problems, simulate
from theory.iterate import iterate
from theory.lemma import lemma_cells
from theory.problems import Quadratic

SMALL = Grid(8, 3, (5, 20), (5, 10), (1.0, 0.3), dim=6, examples=40)
CONFIDENCE = 0.99999


def test_records_are_those_of_a_plain_loop():
    problem = Quadratic(np.diag([0.5, 2.0]), np.array([1.0, -1.0]))
    arm = Arm(0.5, 0.3, 0.0, decay=0.1, momentum=0.5, schedule="both")
    (record,) = simulate(problem, [arm], 9, [7], np.random.default_rng(0))
    eta = arm.step(2.0)
    assert eta == pytest.approx(0.5 * 0.25 / (1.5 * 2.2))
    plain, decayed, weighted, steps, steepest = 0.0, 0.0, 0.0, 0.0, 0.0
    w = problem.start()
    m, g = np.zeros(2), None
    for t in range(7):
        u = w if g is None else w + 0.3 / np.sqrt(t) * g / np.linalg.norm(g)
        slope = problem.hessian @ (w - problem.center)
        g = problem.hessian @ (u - problem.center)
        step = eta / np.sqrt(t + 1)
        plain += slope @ slope
        decayed += (slope + 0.2 * w) @ (slope + 0.2 * w)
        weighted += step * slope @ slope
        steps += step
        steepest = max(steepest, np.linalg.norm(g))
        m = 0.5 * m + g + 0.2 * w
        w = w - step * m
    assert record.gradient == pytest.approx([plain / 7])
    assert record.gradient_decayed == pytest.approx([decayed / 7])
    assert record.gradient_weighted == pytest.approx([weighted / steps])
    assert record.steepest == pytest.approx(steepest)
    assert record.value_decayed == pytest.approx(problem.loss(w[None]) + 0.1 * w @ w)


def test_noisy_arms_get_all_seeds_and_deterministic_ones_a_single_run():
    problem = Quadratic(np.eye(3), np.ones(3))
    records = list(
        simulate(problem, [Arm(1, 0.1, 0.0), Arm(1, 0.1, 0.5)], 6, [3, 9], np.random.default_rng(0))
    )
    assert [(r.T, len(r.value)) for r in records] == [(3, 1), (3, 6), (9, 1), (9, 6)]
    assert records[3].variance == pytest.approx(0.25)


def test_small_grid_holds_everywhere_and_covers_every_optimization_bound():
    found = []
    for problem, density in problems(SMALL, 0):
        logistic = problem.name.startswith("logistic")
        settings = arms((1.0,) if logistic else (0.0, 0.5), full=False)
        horizons = SMALL.logistic_horizons if logistic else SMALL.horizons
        records = list(simulate(problem, settings, SMALL.seeds, horizons, np.random.default_rng(1)))
        found += cells(problem, density, records, CONFIDENCE)
    for name in (
        "smooth", "pl", "weight_decay", "pl_decay", "momentum", "scheduled", "scheduled_radius",
    ):  # fmt: skip
        checked = outcome(name, found)
        assert checked.count("violated") == 0, checked.worst
        assert checked.count("holds") > 0.5 * len(checked.cells)
    assert {cell.setting["density"] for cell in found} == {1.0, 0.3}


def test_a_comparison_counts_once_for_the_simplest_bound_that_admits_it():
    problem = Quadratic(np.eye(2), np.ones(2))
    settings = [Arm(1, 0.1, 0.0), Arm(1, 0.1, 0.0, decay=0.5), Arm(1, 0.1, 0.0, momentum=0.5)]
    records = list(simulate(problem, settings, 1, [3, 9], np.random.default_rng(0)))
    found = cells(problem, 1.0, records, CONFIDENCE)
    counted = {name: sum(c.statement == name for c in found) for name in ("smooth", "pl")}
    assert counted == {"smooth": 2, "pl": 2}
    assert [c.statement for c in found if c.setting["beta"]] == ["momentum"] * 2
    assert {c.statement for c in found if c.setting["lambda"]} == {
        "weight_decay", "pl_decay", "smooth_family", "smooth_best", "optimization_printed",
        "optimization_printed_over_T",
    }  # fmt: skip
    assert outcome("smooth", found).runs == 1


@pytest.mark.parametrize("factor", ["eta L sigma^2", "L^2 rho^2"])
def test_a_bound_without_one_of_its_terms_is_caught(factor):
    problem = Quadratic(np.eye(1), np.zeros(1))
    arm = Arm(1.0, 0.0, 1.0) if factor == "eta L sigma^2" else Arm(0.5, 1.0, 0.0)
    records = list(simulate(problem, [arm], 200, [400], np.random.default_rng(0)))
    (cell,) = [c for c in cells(problem, 1.0, records, CONFIDENCE) if c.statement == "smooth"]
    assert cell.verdict != "violated"
    assert cell.ratio > 0.9
    part = arm.eta * arm.sigma**2 if factor == "eta L sigma^2" else arm.rho**2
    assert cell.left.low > cell.right - 0.3 * part


def test_masks_change_the_constants_that_enter():
    everything = problems(SMALL, 0)
    dense = {p.name: p.smoothness for p, density in everything if density == 1.0}
    sparse = {p.name: p.smoothness for p, density in everything if density == 0.3}
    assert all(sparse[name] < dense[name] for name in dense)
    for problem, density in everything:
        assert problem.active == pytest.approx(density * problem.dim, abs=1)


def test_lemma_one():
    found = lemma_cells(200, 0)
    assert outcome("lemma1_equal_printed", found).verdict == "violated"
    for name in ("lemma1_equal", "lemma1_equal_convex", "lemma1_different"):
        checked = outcome(name, found)
        assert checked.verdict == "holds"
        assert checked.worst.ratio > 0.95


def test_lemma_one_on_different_samples_needs_a_step_that_the_paper_does_not_limit():
    name = "lemma1_different"
    edge = [c for c in lemma_cells(200, 0, (1.5,)) if c.setting["lambda"] == 2 * c.setting["L"]]
    assert [c.setting["eta"] * c.setting["lambda"] for c in edge] == pytest.approx([1] * len(edge))
    for kind in (name, f"{name}_printed"):
        cells_of = [c for c in edge if c.statement == kind]
        assert len(cells_of) == 6
        assert {c.verdict for c in cells_of} == {"holds"}
    beyond = [c for c in lemma_cells(200, 0, (3.0,)) if c.setting["lambda"] == 2 * c.setting["L"]]
    assert {c.statement for c in beyond} == {"lemma1_equal_printed", f"{name}_printed"}
    wrong = [c for c in beyond if c.statement == f"{name}_printed" and c.verdict == "violated"]
    assert "robust regression" in {c.problem for c in wrong}
    # No cell of the report is beyond: what it says of the cells is of eta lambda below 1.
    assert max(c.setting["eta"] * c.setting["lambda"] for c in lemma_cells(20, 0)) < 1


def test_orbit_in_the_grid_uses_the_same_iteration():
    problem = Quadratic(np.eye(1) * 2, np.zeros(1))
    (record,) = simulate(problem, [Arm(0.5, 0.2, 0.0)], 1, [50], np.random.default_rng(0))
    (*_, last) = iterate(
        problem, "s2sam", problem.start()[None], 50, eta=0.25, rho=0.2,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert record.value == pytest.approx(problem.loss(last.after))
    assert corrected.SMOOTH.constants == ("F_*", "F_0", "L", "T", "eta", "rho", "sigma")
