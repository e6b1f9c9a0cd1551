"""Generalization: bounds hold where they should, and PAC-Bayes is computed as printed."""

import math

import numpy as np
import pytest

from theory.checks import Estimate
from theory.generalization import Gap, coupled, excess, gaps, generalization_cells
from theory.pac_bayes import RADII, certificates, complexity, worst_error
from theory.problems import Logistic, digits


def test_gaps_lie_below_the_corrected_bounds_and_a_learning_lambda_breaks_the_printed_term():
    found = gaps((60,), 10, 300, 0)
    assert len(found) == 6
    for gap in found:
        assert gap.gap.mean < gap.convex
        assert np.isnan(gap.corrected) == (gap.decay_over_L != 2)
        if not np.isnan(gap.corrected):
            assert gap.corrected == pytest.approx(2 * gap.convex)
    trivial = [g for g in found if g.decay_over_L == 2]
    learned = [g for g in found if g.decay_over_L != 2 and g.rho == 0]
    assert min(g.error for g in trivial) > 0.85
    assert learned[0].error < 0.8
    assert learned[0].gap.low > learned[0].printed


def test_two_neighbouring_runs_stay_within_the_stability_bound():
    for pair in coupled(60, 10, 200, 0):
        assert 0 < pair.distance.mean < pair.convex


def test_theorem_one():
    plain, _, large = excess(100, 3, 60, 0)
    assert plain.regularized.high < plain.corrected
    assert plain.plain.low > 30 * plain.regularized.high  # decay of 2L, not chance
    assert large.corrected > plain.corrected + 1
    found = generalization_cells([], [plain, large])
    verdicts = {(c.statement, c.setting["rho"]): c.verdict for c in found}
    assert verdicts["excess", 0.0] == "holds"
    assert verdicts["theorem1_printed", 0.0] == "holds"
    assert ("theorem1_printed", large.rho) not in verdicts


def test_a_negative_gap_counts_by_its_size():
    gap = Gap(10, 0.0, 1.0, 2.0, Estimate(-0.5, -0.6, -0.4, 5), 1.0, 0.3, 0.2, 0.0, 0.0)
    verdicts = {c.statement: c.verdict for c in generalization_cells([gap], [])}
    assert verdicts == {"stability": "violated", "stability_convex": "violated"}


def test_complexity_is_the_appendix_formula():
    k, n, norm, rho, delta = 64, 1200, 3.0, 0.5, 0.05
    inside = (
        k * np.log(1 + norm**2 / rho**2 * (1 + np.sqrt(np.log(n) / k)) ** 2)
        + 4 * np.log(n / delta)
        + 8 * np.log(6 * n + 3 * k)
    )
    assert complexity(k, n, norm, np.array([rho]), delta) == pytest.approx(
        [np.sqrt(inside / (n - 1))]
    )
    assert complexity(640, n, norm, np.array([rho]), delta) > complexity(
        k, n, norm, np.array([rho]), delta
    )


def test_worst_error_bounds_every_perturbation_found():
    rng = np.random.default_rng(0)
    images, labels, _, _ = digits(rng, 120)
    mask = rng.random(640) < 0.5
    problem = Logistic(images, labels, mask=mask, ridge=1e-3)
    w = problem.minimizer()
    rhos = np.array([0.0, 0.3, 1.0, 3.0])
    bound = worst_error(problem, w[0], rhos)
    assert bound[0] == pytest.approx(problem.error(w)[0])
    assert np.all(np.diff(bound) >= 0)
    for rho, limit in zip(rhos, bound, strict=True):
        # Ascent on the loss, and random directions: none may exceed the certificate.
        step = problem.gradient(w)
        worse = [w + rho * step / np.linalg.norm(step)]
        random = rng.standard_normal((40, 640)) * mask
        worse.append(w + rho * random / np.linalg.norm(random, axis=1, keepdims=True))
        assert problem.error(np.concatenate(worse)).max() <= limit + 1e-12


def test_the_certificate_is_attained_by_the_perturbation_that_cauchy_schwarz_names():
    images, labels, _, _ = digits(np.random.default_rng(0), 60)
    problem = Logistic(images, labels, ridge=1e-2)
    w = problem.minimizer()
    scores = w.reshape(10, 64) @ images[0]
    y = labels[0]
    other = int(np.argsort(scores)[-2]) if np.argmax(scores) == y else int(np.argmax(scores))
    radius = (scores[y] - scores[other]) / np.sqrt(2)
    push = np.zeros((10, 64))
    push[y], push[other] = -images[0], images[0]
    push *= radius / np.sqrt(2)
    single = Logistic(images[:1], labels[:1])
    assert worst_error(single, w[0], np.array([radius * 0.999])) == 0
    assert single.error(w + 0.999 * push.reshape(1, -1)) == 0
    assert single.error(w + 1.001 * push.reshape(1, -1)) == 1
    assert worst_error(single, w[0], np.array([radius * 1.001])) == 1


def test_the_radii_do_not_depend_on_the_data():
    other = certificates((0.1,), 30, 1)
    assert {item.rho for item in (*certificates((0.1,), 30, 0), *other)} <= set(RADII)
    assert np.all(np.diff(RADII) > 0)


def test_the_radii_share_the_failure_probability(monkeypatch):
    # A union bound over the radii, and with the mask over the C(640, k) masks as well. With every
    # worst error 1 the best radius is the largest, so that both prices are those at a known one.
    monkeypatch.setattr("theory.pac_bayes.worst_error", lambda problem, w, rho: np.ones(len(rho)))
    radii = 12
    assert len(RADII) == radii
    (item,) = certificates((0.1,), 100, 0)
    k, n, norm = item.k, item.n, item.norm
    assert item.complexity == pytest.approx(complexity(k, n, norm, item.rho, 0.05 / radii))
    assert item.complexity > complexity(k, n, norm, item.rho, 0.05) + 1e-4
    assert item.rho == RADII[-1]
    assert item.bound == pytest.approx(1 + item.complexity)
    both = 0.05 / (radii * math.comb(640, k))
    assert item.with_mask == pytest.approx(1 + complexity(k, n, norm, item.rho, both))


def test_certificates_count_active_weights():
    dense, sparse = certificates((1.0, 0.1), 100, 0)
    assert (dense.k, sparse.k) == (640, 64)
    for item in (dense, sparse):
        assert item.bound == pytest.approx(item.worst_error + item.complexity)
        assert item.worst_error >= item.train_error
        assert item.bound >= item.test_error
        assert item.vacuous == (item.bound >= 1)
    assert dense.with_mask == pytest.approx(dense.bound)
    assert sparse.with_mask > sparse.bound + 0.05
