"""How a mutant is made: a statement or a proof with one thing wrong.

A mutant is made *consistently* where it can be: the wrong thing is put into the statement and into
every step that uses it, so that the algebra still adds up and only what the symbols mean is wrong.
"""

__all__ = [
    "Change",
    "Mutant",
    "changed_step",
    "condition",
    "edge",
    "everywhere",
    "left",
    "proof_named",
    "right",
    "scaled",
    "step_of",
]

from collections.abc import Callable
from dataclasses import dataclass, replace

import sympy

from theory.objections import objections
from theory.proofs import PROOFS
from theory.proofs.steps import (
    Cited,
    Identity,
    Inequality,
    NormSquare,
    Premise,
    Proof,
    Square,
    Step,
)
from theory.statements import Assumption, Left, Statement
from theory.symbols import eta


@dataclass(frozen=True)
class Mutant:
    """A wrong proof, with what is wrong and of which kind: premise, left side or right side."""

    name: str
    kind: str
    proof: Proof

    def caught(self) -> str:
        """The first objection; empty if there is none."""
        return next(objections(self.proof), "")


Change = Callable[[sympy.Expr], sympy.Expr]


def proof_named(name: str) -> Proof:
    """The proof of that name."""
    return next(proof for proof in PROOFS if proof.name == name)


def _proof_of(statement: Statement) -> Proof:
    return next(proof for proof in PROOFS if statement in proof.proves)


def changed_step(step: Step, change: Change) -> Step:
    """The step with the change made in every expression of it."""
    if isinstance(step, Cited):
        return step
    if isinstance(step, Identity):
        return replace(step, left=change(step.left), right=change(step.right))
    certificate = [tuple(_factor(f, change) for f in term) for term in step.certificate]
    return Inequality(
        step.text, change(step.smaller), change(step.bigger), certificate, dict(step.when)
    )


def _factor(factor: object, change: Change) -> object:
    if isinstance(factor, Premise):
        return Premise(change(factor.expr), factor.why, factor.quote)
    if isinstance(factor, Square):
        return Square(change(factor.root))
    if isinstance(factor, NormSquare):
        return Premise(change(factor.expr), "a square")
    return change(sympy.sympify(factor))


def everywhere(name: str, kind: str, proof: Proof, change: Change) -> Mutant:
    """The change made in the statements and in every step."""
    steps = tuple(changed_step(step, change) for step in proof.steps)
    proves = tuple(replace(s, right=change(s.right)) for s in proof.proves)
    return Mutant(name, kind, replace(proof, steps=steps, proves=proves))


def scaled(symbol: str, factor: sympy.Expr) -> Change:
    """Every occurrence of a symbol times a factor."""

    def change(expr: sympy.Expr) -> sympy.Expr:
        return expr.subs({s: factor * s for s in expr.free_symbols if s.name == symbol})

    return change


def _with(name: str, kind: str, old: Statement, new: Statement) -> Mutant:
    proof = _proof_of(old)
    proves = tuple(new if s is old else s for s in proof.proves)
    return Mutant(name, kind, replace(proof, proves=proves))


def right(name: str, statement: Statement, expr: sympy.Expr) -> Mutant:
    """Another right side."""
    return _with(name, "right side", statement, replace(statement, right=expr))


def left(name: str, statement: Statement, measure: Callable[..., object]) -> Mutant:
    """Another left side."""
    changed = replace(statement, left=Left(statement.left.latex, measure))  # type: ignore[arg-type]
    return _with(name, "left side", statement, changed)


def condition(name: str, statement: Statement, old: Assumption, new: object) -> Mutant:
    """Another condition on the constants (None: no condition)."""
    kept = tuple(a if a is not old else Assumption("", new) for a in statement.assumptions)
    if new is None:
        kept = tuple(a for a in statement.assumptions if a is not old)
    return _with(name, "premise", statement, replace(statement, assumptions=kept))


def step_of(statement: Statement) -> Assumption:
    """The condition of a statement that bounds the step size."""
    return next(a for a in statement.assumptions if a.bounds_step)


def edge(name: str, statement: Statement, limit: sympy.Expr) -> Mutant:
    """Another largest step, excluded itself where the old one is."""
    old = step_of(statement)
    return condition(name, statement, old, old.condition.func(eta, limit))
