"""Worlds: expectations are exact, true premises hold in them and false ones do not."""

from dataclasses import replace

import numpy as np
import pytest
import sympy

from theory import corrected
from theory.checks import outcome
from theory.iterate import iterate
from theory.probes import probe
from theory.problems import Quadratic
from theory.proofs import PROOFS
from theory.proofs.steps import Cited, Identity, Inequality, Premise, Proof
from theory.worlds import WORLDS, refuted, unseen, worlds_of
from theory.worlds.check import join
from theory.worlds.tree import Tree

_WITH_WORLDS = [proof for proof in PROOFS if proof.name in WORLDS]


def test_a_trees_means_are_expectations():
    base = Quadratic(np.array([[2.0]]), np.zeros(1))
    tree = Tree(base, np.array([0.5]), 6)
    start = np.full((tree.paths, 1), 1.5)
    eta = 0.2
    mean, second = 1.5, 1.5**2
    for moment in iterate(tree, "sgd", start, 6, eta=eta, rho=0.0, rng=np.random.default_rng(0)):
        mean, second = (1 - 2 * eta) * mean, (1 - 2 * eta) ** 2 * second + (eta * 0.5) ** 2
        assert moment.after.mean() == pytest.approx(mean, rel=1e-13)
        assert (moment.after**2).mean() == pytest.approx(second, rel=1e-13)
    with pytest.raises(ValueError, match="a tree of depth 6 has 64 rows and as many steps"):
        tree.draw(64, None)


@pytest.mark.parametrize("proof", _WITH_WORLDS, ids=lambda p: p.name)
def test_every_premise_and_step_holds_in_every_world_and_none_goes_unseen(proof):
    world = worlds_of(proof)
    assert refuted(proof, world) == []
    assert unseen(proof, world) == []


def test_every_proof_of_a_statement_has_worlds():
    assert {p.name for p in PROOFS if p.proves} <= set(WORLDS)


@pytest.mark.parametrize("proof", [p for p in _WITH_WORLDS if p.proves], ids=lambda p: p.name)
def test_each_premise_with_its_sign_turned_is_refuted(proof):
    """A premise that no world could contradict would not be tested at all."""
    world = worlds_of(proof)
    equalities = set()
    for step, premise in proof.premises:
        turned = Proof(
            "x", "", (), "", (replace(step, certificate=[(Premise(-premise.expr, "-"),)]),)
        )
        if "premise: -" not in refuted(turned, world):
            equalities.add(premise.why)
    # The noise of every world has exactly the variance sigma^2.
    assert equalities <= {r"variance at most $\sigma^2$"}


def test_a_false_claim_is_named():
    x = sympy.Symbol("x", real=True)
    wrong = Inequality("square", x, x**2, [(Premise(x**2 - x, "x is large"),)])
    equal = Identity("same", x, 2 * x)
    proof = Proof("p", "", (), "", (wrong, equal, Cited("text", "why")))
    assert refuted(proof, join([{"x": 2.0}])) == ["identity: same"]
    assert refuted(proof, join([{"x": 0.5}])) == [
        "step: square", "premise: x is large", "identity: same",
    ]  # fmt: skip
    assert unseen(proof, join([{"y": 1.0}])) == [
        "step: square", "premise: x is large", "identity: same",
    ]  # fmt: skip


def test_a_step_is_held_only_against_the_worlds_that_it_is_about():
    x = sympy.Symbol("x", real=True)
    step = Inequality("", sympy.Integer(0), x, [(Premise(x, "x"),)], when={"flag": 1})
    proof = Proof("p", "", (), "", (step,))
    assert refuted(proof, join([{"x": -1.0, "flag": 0.0}])) == []
    assert refuted(proof, join([{"x": -1.0, "flag": 1.0}])) == ["step: ", "premise: x"]


def test_a_quoted_statement_must_admit_the_worlds_and_say_what_is_quoted():
    x = sympy.Symbol("x", nonnegative=True)
    quoted = Premise.quoting(corrected.SMOOTH.right - x, "smooth", corrected.SMOOTH)
    step = Inequality("", x, corrected.SMOOTH.right, [(quoted,)])
    proof = Proof("p", "", (), "", (step,))
    numbers = {
        "L": 1.0, "eta": 1.0, "lambda": 0.0, "beta": 0.0, "rho": 0.0, "sigma": 0.0, "T": 1.0,
        "F_0": 1.0, "F_*": 0.0, "x": 0.5,
    }  # fmt: skip
    assert refuted(proof, join([numbers])) == []
    assert proof.misquoted() == ()
    far = {**numbers, "eta": 1.5}
    assert refuted(proof, join([far])) == ["assumptions of smooth, quoted: smooth"]
    other = replace(quoted, expr=quoted.expr + 1)
    assert replace(proof, steps=(replace(step, certificate=[(other,)]),)).misquoted() == (other,)


@pytest.mark.parametrize("statement", corrected.CORRECTED[:7], ids=lambda s: s.name)
def test_probes_hold_at_the_edge_and_are_attained(statement):
    found = outcome(statement.name, probe(statement))
    assert found.verdict == "holds"
    assert found.worst.ratio > 0.99
    if statement is corrected.MOMENTUM:
        assert found.worst_where(beta=0.0).ratio > 0.5
