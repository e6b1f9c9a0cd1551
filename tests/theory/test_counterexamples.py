"""Stored counterexamples to the printed statements, found again by the search and by hypothesis."""

from fractions import Fraction as Q

import numpy as np
import pytest
import sympy
from hypothesis import find, settings
from hypothesis import strategies as st

from theory import corrected, printed
from theory.counterexamples import (
    example_lemma1,
    example_optimization,
    run_line,
    search_all,
)
from theory.one_example import OneExample, example_theorem1
from theory.search import smallest
from theory.symbols import B, delta, eta, lam

STORED = {
    "Lemma 1 without L": {
        "L": Q(2), "rho": Q(1), "eta": Q(1, 2), "lambda": Q(0), "delta": Q(0),
    },
    "Lemma 1 beyond eta lambda = 1": {
        "eta": Q(1), "lambda": Q(2), "delta": Q(1), "B": Q(1),
    },
    "optimization bound, literally": {
        "L": Q(2), "w0": Q(1, 2), "eta": Q(1, 4), "T": Q(16), "lambda": Q(0), "a": Q(0),
        "rho": Q(3),
    },
    "optimization bound, 1/T put back": {
        "L": Q(2), "w0": Q(1, 2), "eta": Q(1, 4), "T": Q(16), "lambda": Q(0), "a": Q(0),
        "rho": Q(3),
    },
    "optimization bound with decay": {
        "eta": Q(1, 16), "T": Q(64), "rho": Q(0), "lambda": Q(2), "a": Q(1), "w0": Q(0), "L": Q(1),
    },
    "Theorem 1, main text": {
        "L": Q(1), "w0": Q(1), "eta": Q(1, 3), "rho": Q(0), "T": Q(8), "n": Q(32),
    },
    "Theorem 1, appendix form": {
        "L": Q(1), "w0": Q(1), "eta": Q(1, 8), "rho": Q(0), "T": Q(64), "n": Q(32),
    },
    "Theorem 1 for F_lambda, main text": {
        "z": Q(100), "T": Q(16), "L z^2": Q(28), "eta L": Q(1, 2),
    },
    "Theorem 1 for F_lambda, appendix form": {
        "z": Q(100), "T": Q(512), "L z^2": Q(64), "eta L": Q(1, 32),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def found():
    return {example.name: example for example in search_all()}


def test_the_search_finds_the_stored_ones(found):
    assert {name: dict(example.setting) for name, example in found.items()} == STORED


def test_each_refutes_its_statement_exactly(found):
    for example in found.values():
        assert isinstance(example.left, Q)
        assert isinstance(example.right, Q)
        assert example.refutes
        assert example.left > Q(21, 20) * example.right


def test_the_lemma_example_by_hand(found):
    example = found["Lemma 1 without L"]
    # Both runs start at 0, perturbed by +1 and -1: steps of -eta L u = -1 and +1, 2 apart.
    assert example.left == 2
    assert example.right == 2 * Q(1, 2) * 1


def test_lemma_one_on_different_samples_is_the_corrected_one_without_its_condition(found):
    printed_one, right_one = printed.LEMMA1_DIFFERENT, corrected.LEMMA1_OTHER
    assert printed_one.right == right_one.right
    assert [a.condition for a in printed_one.assumptions] == [sympy.true]
    for eta_lambda, admitted in ((Q(1, 2), True), (Q(1), True), (Q(3, 2), False)):
        numbers = {"eta": 1, "lambda": eta_lambda, "delta": 1, "B": 1}
        assert printed_one.admits(**numbers)
        assert right_one.admits(**numbers) == admitted
    assert not right_one.admits(**found["Lemma 1 beyond eta lambda = 1"].setting)


def _linear_losses(decay, slope, other, bound):
    """Both sides of Lemma 1 for the losses slope * u at w = 1 and other * u at w' = 0, eta = 1."""
    left = abs((1 - (slope + decay)) - (0 - other))
    return left, printed.LEMMA1_DIFFERENT.exact(eta=1, delta=1, B=bound, **{"lambda": decay})


@pytest.mark.parametrize("decay", [Q(0), Q(1, 2), Q(1)])
@pytest.mark.parametrize("slopes", [(0, 0), (1, 1), (1, -1), (-1, 1)])
def test_lemma_one_on_different_samples_holds_up_to_eta_lambda_one(decay, slopes):
    left, right = _linear_losses(decay, *slopes, 1)
    assert left <= right
    assert (left == right) == (slopes == (-1, 1) or (decay == 1 and slopes == (1, -1)))


@pytest.mark.parametrize("decay", [Q(9, 8), Q(2), Q(3)])
def test_lemma_one_on_different_samples_fails_just_beyond(decay):
    left, right = _linear_losses(decay, 1, -1, 1)
    assert left - right == 2 * (decay - 1)


def test_lemma_one_on_different_samples_fails_without_any_loss():
    # Losses of 0 are B-Lipschitz for every B; the right side is a negative distance.
    assert _linear_losses(Q(3), 0, 0, Q(1, 10)) == (2, Q(-9, 5))


def test_by_how_much_lemma_one_on_different_samples_fails():
    # |w_{t+1} - w'_{t+1}| for B u at w = delta / 2 and -B u at w' = -delta / 2.
    beyond = sympy.Symbol("x", positive=True)  # eta lambda = 1 + x
    left = sympy.Abs((delta / 2 - eta * (B + lam * delta / 2)) * 2)
    gap = (left - printed.LEMMA1_DIFFERENT.right).subs(lam, (1 + beyond) / eta)
    assert sympy.simplify(gap - 2 * beyond * delta) == 0


@pytest.mark.parametrize(
    "name, statement, corrected_statement",
    [
        (
            "optimization bound, literally",
            printed.APPENDIX_OPTIMIZATION,
            corrected.SMOOTH,
        ),
        (
            "optimization bound, 1/T put back",
            printed.APPENDIX_OPTIMIZATION_OVER_T,
            corrected.SMOOTH,
        ),
    ],
)
def test_optimization_examples_with_a_loop_of_their_own(name, statement, corrected_statement):
    p = STORED[name]
    w, previous, total, steepest = p["w0"], None, Q(0), Q(0)
    for _ in range(int(p["T"])):
        total += (p["L"] * w) ** 2
        u = w if previous is None else w + p["rho"] * (1 if previous > 0 else -1)
        previous = p["L"] * u
        steepest = max(steepest, abs(previous))
        w -= p["eta"] * previous
    left = total / int(p["T"])
    numbers = {k: p[k] for k in ("L", "eta", "rho", "lambda", "T")}
    numbers |= {"F_0": p["L"] * p["w0"] ** 2 / 2, "B": steepest}
    assert left > statement.exact(**numbers)
    numbers |= {"F_*": 0, "sigma": 0}
    assert left <= corrected_statement.exact(**{k: Q(v) for k, v in numbers.items()})


def test_weight_decay_refutes_theorem_one_and_not_the_corrected_bound():
    p = STORED["Theorem 1, main text"]
    run = run_line(Q(1), Q(1), p["w0"], p["eta"], Q(0), Q(2), 8)
    # The limit is a L / (L + lambda) = 1/3, not the minimiser 1: the risk tends to 2/9.
    assert abs(run.last - Q(1, 3)) < Q(1, 100)
    left = sum(((L_w + 0) for L_w in run.losses), Q(0)) / 8
    assert left > printed.THEOREM1.exact(
        F_0=run.losses[0], mu=1, eta=p["eta"], T=8, L=1, sigma=0, B=run.steepest, n=32,
        **{"lambda": 2},
    )  # fmt: skip


def _descend(curvature, z, share, steps):
    """Excess of the population's F_lambda, by a loop, and the steepest gradient of both losses."""
    L = curvature / z**2
    lam, eta, w, excess, steepest = 2 * L, share / L, Q(0), Q(0), Q(0)
    for _ in range(steps):
        population = sum(L * (w - x) ** 2 / 4 for x in (z, -z)) + lam * w**2 / 2
        excess += population - L * z**2 / 2  # the smallest value, at 0
        steepest = max(steepest, *(abs(L * (w - x)) for x in (z, -z)))
        w -= eta * (L * (w - z) + lam * w)
    return excess / steps, steepest


@pytest.mark.parametrize("share", [Q(1, 2), Q(1, 3), Q(1, 4), Q(1, 50)])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_the_closed_form_is_that_of_a_loop(share, steps):
    run = OneExample.run(Q(24), Q(7), share, steps)
    assert (run.excess, run.steepest) == _descend(Q(24), Q(7), share, steps)
    assert run.start == 12


@pytest.mark.parametrize(
    "statement, curvature, share, steps",
    [(printed.THEOREM1, 24, Q(1, 4), 200), (printed.APPENDIX_EXCESS, 60, Q(1, 50), 1000)],
)
def test_theorem_one_is_false_for_the_decayed_objective_too(statement, curvature, share, steps):
    excess, bound, everywhere, right = example_theorem1()[statement.name]
    left, steepest = _descend(Q(curvature), Q(1000), share, steps)
    L = Q(curvature, 10**6)
    numbers = {"F_0": Q(curvature, 2), "B": steepest, "sigma": 0, "rho": 0, "n": 1, "T": steps}
    numbers |= {"L": L, "lambda": 2 * L, "eta": share / L}
    assert excess == left
    assert bound == statement.exact(**numbers, mu=3 * L) < everywhere
    assert everywhere == statement.exact(**numbers, mu=2 * L) < left / 2
    assert left < right


def test_the_projects_theorem_one_examples_in_numbers():
    found = example_theorem1()
    main, appendix = found["theorem1_printed"], found["theorem1_appendix_printed"]
    assert [round(float(x), 2) for x in main[:2]] == [3.97, 1.27]
    assert [round(float(x), 2) for x in appendix[:2]] == [9.75, 3.05]


def test_a_search_that_finds_nothing_says_so():
    with pytest.raises(ValueError, match="no counterexample in the whole search space"):
        smallest([{"x": Q(1)}], lambda x: (x, x))


def test_hypothesis_finds_lemma_one_too():
    numbers = st.fractions(min_value=Q(1, 8), max_value=8, max_denominator=8)

    def violated(point):
        L, rho, eta = point
        if eta * L > 1:
            return False
        right = printed.LEMMA1_EQUAL.exact(L=L, rho=rho, eta=eta, delta=Q(0), **{"lambda": Q(0)})
        return 2 * eta * L * rho > right

    L, rho, eta = find(
        st.tuples(numbers, numbers, numbers),
        violated,
        settings=settings(deadline=None, max_examples=500),
    )
    assert L > 1
    assert eta * L <= 1
    assert rho > 0


def test_the_lemmas_equality_fails_even_where_the_inequality_holds():
    # Equal perturbations: the left side is (1 - eta lambda - eta L) delta, below the right side.
    L, eta, rho, delta = Q(1, 2), Q(1, 2), Q(1), Q(1)
    left = (1 - eta * L) * delta
    assert left < printed.LEMMA1_EQUAL.exact(L=L, eta=eta, rho=rho, delta=delta, **{"lambda": 0})
    same_gradient = delta
    assert same_gradient < printed.LEMMA1_DIFFERENT.exact(
        eta=eta, B=1, delta=delta, **{"lambda": 0}
    )


def test_the_projects_examples():
    lemma = example_lemma1()
    assert lemma["left"] == pytest.approx(0.0086)
    assert lemma["printed"] == pytest.approx(0.0028)
    assert lemma["corrected"] == pytest.approx(0.0118)
    run = example_optimization(20_000)
    assert run["over_T"] < run["left"] <= run["corrected"]
    # Closed form: w_t + rho = (w_1 + rho) q^(t-1), q = 1 - eta L, so the mean is a geometric sum.
    q, T = 0.99, 20_000
    s = (0.1 * q + 0.1) * q ** np.arange(T - 1)
    mean = (100.0 + ((100 * (s - 0.1)) ** 2).sum()) / T
    assert run["left"] == pytest.approx(mean, rel=1e-9)
