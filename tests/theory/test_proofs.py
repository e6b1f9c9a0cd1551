"""Proofs: every decidable step holds, every claim is reached, and wrong steps are caught."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sympy

import theory
from theory import corrected
from theory.beyond import BEYOND
from theory.proofs import PROOFS
from theory.proofs.descent import descent_inequality
from theory.proofs.inner import Vector, dot, gram, square
from theory.proofs.render import render
from theory.proofs.scalar import VARIANCE
from theory.proofs.steps import Cited, Identity, Inequality, NormSquare, Premise, Proof, Square
from theory.symbols import L, eta, lam, rho, sigma

_CHECKABLE = [(proof.name, step) for proof in PROOFS for step in proof.checkable]


@pytest.mark.parametrize("name, step", _CHECKABLE, ids=[n for n, _ in _CHECKABLE])
def test_step_holds(name, step):
    assert step.holds(), step.text


@pytest.mark.parametrize("proof", PROOFS, ids=lambda p: p.name)
def test_proof_reaches_its_statements(proof):
    for statement in proof.proves:
        assert proof.reaches(statement)


def test_every_corrected_statement_is_proved():
    proved = {statement.name for proof in PROOFS for statement in proof.proves}
    assert proved == {statement.name for statement in (*corrected.CORRECTED, *BEYOND)}


@pytest.mark.parametrize(
    "wrong",
    [
        {L**2 * rho**2: rho},
        {sigma**2: sigma**2 / 2},
        {rho: rho / 2},
        {eta**2: eta**2 / 3},
    ],
)
def test_descent_with_a_wrong_term_fails(wrong):
    step = descent_inequality()
    broken = replace(step, bigger=step.bigger.subs(wrong))
    assert broken.bigger != step.bigger
    assert not broken.holds()


@pytest.mark.parametrize("name, step", _CHECKABLE, ids=[n for n, _ in _CHECKABLE])
def test_no_step_holds_for_a_perturbed_claim(name, step):
    epsilon = sympy.Symbol("epsilon", positive=True)
    if isinstance(step, Identity):
        assert not replace(step, right=step.right + epsilon).holds()
    else:
        assert not replace(step, bigger=step.bigger - epsilon).holds()


def test_lemma1_without_L_is_not_provable():
    (proof,) = [p for p in PROOFS if p.name == "lemma1"]
    step = proof.steps[1]
    delta = sympy.Symbol("delta", nonnegative=True)
    printed = (1 + eta * L - eta * lam) * delta + 2 * eta * rho
    assert step.holds()
    assert not replace(step, bigger=printed).holds()


def test_certificate_with_a_factor_of_unknown_sign_is_refused():
    x, y = sympy.symbols("x y", real=True)
    assert not Inequality("", sympy.Integer(0), x, [(x,)]).holds()
    assert Inequality("", sympy.Integer(0), x**2, [(Square(x),)]).holds()
    assert not Inequality("", sympy.Integer(0), x * y, [(Square(x),)]).holds()


def test_norm_squares_of_combinations_count_as_nonnegative():
    a, b = Vector.named("a"), Vector.named("b")
    cauchy = Inequality("", 2 * dot(a, b), square(a) + square(b), [(NormSquare(a - b),)])
    assert cauchy.holds()
    assert not replace(cauchy, smaller=3 * dot(a, b)).holds()


def test_gram_is_bilinear_like_real_vectors():
    rng = np.random.default_rng(0)
    x, y, z = rng.standard_normal((3, 5))
    numbers = {"x": x, "y": y, "z": z}
    first = 2 * Vector.named("x") - 3 * Vector.named("y")
    second = Vector.named("y") + 0.5 * Vector.named("z")
    symbolic = dot(first, second).subs(
        {gram(p, q): float(numbers[p] @ numbers[q]) for p in "xyz" for q in "xyz"}
    )
    assert float(symbolic) == pytest.approx((2 * x - 3 * y) @ (y + 0.5 * z))


def test_cited_steps_are_never_verified_and_always_explained():
    cited = [step for proof in PROOFS for step in proof.cited]
    assert cited
    assert all(not step.holds() and step.why for step in cited)


def test_failures_and_page_show_a_false_step():
    x = sympy.Symbol("x")
    proof = Proof("bad", "Bad", (), "setting", (Identity("x is x + 1", x, x + 1),))
    assert len(proof.failures()) == 1
    assert "FAILED" in render([proof])


def test_premise_renames_symbols_simultaneously():
    x, y = sympy.symbols("x y")
    step = Inequality("", x, y, [(Premise(y - x, "given"),)])
    assert step.premise("swapped", {x: y, y: x}).expr == x - y


def test_committed_page_is_the_rendered_one():
    page = Path(theory.__file__).parent / "proofs.md"
    text = render(PROOFS)
    assert page.read_text(encoding="utf-8") == text
    assert "FAILED" not in text
    assert text.count("Not verified by machine") == sum(len(p.cited) for p in PROOFS)
    assert all(isinstance(step, Cited) for proof in PROOFS for step in proof.cited)


@pytest.mark.parametrize("rule", ["sgd", "sam", "s2sam"])
def test_variance_formulas_agree_with_the_lyapunov_equation(rule):
    from theory.stationary import _moments

    h, r, step, noise = 2.0, 0.6, 0.15, 0.3
    values = {"a": step * h, "r": 0.0 if rule == "sgd" else r, "eta": step, "sigma": noise}
    formula = VARIANCE[rule]
    exact = float(formula.subs({s: values[s.name] for s in formula.free_symbols}))
    measured = _moments(rule, np.array([h]), r / h, step, noise**2)[0][0]
    assert measured == pytest.approx(exact, rel=1e-9)
