"""The kinds of step a proof is made of, and how a machine decides each.

``Identity``: two expressions are equal; sympy simplifies the difference to zero.
``Inequality``: ``smaller <= bigger`` by a certificate, a list of products with
``bigger - smaller = sum of the products``; every factor is a perfect square, a squared norm, an
expression whose sign sympy knows from the symbols' assumptions, or a ``Premise``.
``Premise``: an expression that is >= 0 by an assumption, a named lemma, or an earlier step.
A step may say ``when`` it claims something: constants and flags that must have these values.
``Cited``: what a machine cannot decide here (measure theory, a textbook theorem); its reason is
printed with it, and reports mark it as not verified.
"""

__all__ = [
    "Cited",
    "Identity",
    "Inequality",
    "NormSquare",
    "Premise",
    "Proof",
    "Quote",
    "Square",
    "Step",
]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import sympy

from theory.proofs.inner import Vector, square
from theory.statements import Statement


@dataclass(frozen=True)
class Quote:
    """What a premise takes from statements proved elsewhere: the expression, read off them."""

    expr: sympy.Expr
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Premise:
    """``expr >= 0``, because of ``why``; ``quote`` where that is another statement."""

    expr: sympy.Expr
    why: str
    quote: Quote | None = None

    @staticmethod
    def quoting(expr: sympy.Expr, why: str, *statements: Statement) -> "Premise":
        """A premise that statements proved elsewhere give; ``expr`` is built from theirs."""
        return Premise(expr, why, Quote(expr, statements))


@dataclass(frozen=True)
class Square:
    """``root ** 2``, non-negative for real ``root``."""

    root: sympy.Expr

    @property
    def expr(self) -> sympy.Expr:
        """The square itself."""
        return self.root**2


@dataclass(frozen=True)
class NormSquare:
    """``|vector| ** 2``, non-negative in every inner-product space."""

    vector: Vector

    @property
    def expr(self) -> sympy.Expr:
        """The squared norm in Gram symbols."""
        return square(self.vector)


Factor: TypeAlias = Premise | Square | NormSquare | sympy.Expr


def _latex(expr: sympy.Expr) -> str:
    return sympy.latex(expr, order="rev-lex")


def _nonzero_somewhere(expr: sympy.Expr) -> bool:
    """Whether it is far from 0 at one point: then it is not 0, and simplifying is a waste."""
    names = sorted(expr.free_symbols, key=lambda symbol: symbol.name)
    # T, n and k are counts; the other values are multiples of square roots, so none is special.
    point = {
        symbol: 7 + index if symbol.is_integer else sympy.sqrt(2 + index) / 3
        for index, symbol in enumerate(names)
    }
    value = abs(sympy.N(expr.subs(point), 30))
    return bool(value.is_finite and value > 1e-12)


def _vanishes(expr: sympy.Expr) -> bool:
    expr = sympy.sympify(expr)
    if sympy.expand(expr) == 0:
        return True
    return not _nonzero_somewhere(expr) and sympy.simplify(expr) == 0


def _nonnegative(factor: Factor) -> bool:
    if isinstance(factor, Premise | NormSquare):
        return True
    if isinstance(factor, Square):
        return bool(factor.root.is_real)
    return bool(sympy.sympify(factor).is_nonnegative)


def _value(factor: Factor) -> sympy.Expr:
    return (
        factor.expr if isinstance(factor, Premise | Square | NormSquare) else sympy.sympify(factor)
    )


@dataclass(frozen=True)
class Identity:
    """``left == right``; ``shown`` is the LaTeX to print where sympy's would say 0 = 0."""

    text: str
    left: sympy.Expr
    right: sympy.Expr
    shown: str = ""
    when: Mapping[str, float] = field(default_factory=dict)
    verified_by = "sympy: difference simplifies to 0"

    def holds(self) -> bool:
        """Whether sympy simplifies the difference to zero."""
        return _vanishes(self.left - self.right)

    def formula(self) -> str:
        """The step in LaTeX."""
        return self.shown or f"{_latex(self.left)} = {_latex(self.right)}"


@dataclass(frozen=True)
class Inequality:
    """``smaller <= bigger`` with a certificate (see the module)."""

    text: str
    smaller: sympy.Expr
    bigger: sympy.Expr
    certificate: Sequence[tuple[Factor, ...]]
    when: Mapping[str, float] = field(default_factory=dict)

    @property
    def verified_by(self) -> str:
        """One line for reports: what the certificate consists of."""
        premises = list(
            dict.fromkeys(
                f.why for term in self.certificate for f in term if isinstance(f, Premise)
            )
        )
        return "sympy: certificate" + (f" from {'; '.join(premises)}" if premises else "")

    def holds(self) -> bool:
        """Whether the certificate adds up and every factor in it is non-negative."""
        if not all(_nonnegative(factor) for term in self.certificate for factor in term):
            return False
        total = sympy.Add(*(sympy.Mul(*(_value(f) for f in term)) for term in self.certificate))
        return _vanishes(self.bigger - self.smaller - total)

    def premise(
        self, why: str, rename: Mapping[sympy.Expr, sympy.Expr | int] | None = None
    ) -> Premise:
        """The conclusion, for use in later certificates, with symbols renamed."""
        return Premise((self.bigger - self.smaller).subs(rename or {}, simultaneous=True), why)

    def formula(self) -> str:
        """The step in LaTeX."""
        return f"{_latex(self.smaller)} \\le {_latex(self.bigger)}"


@dataclass(frozen=True)
class Cited:
    """A step that is not decided by machine, with the reason it is true."""

    text: str
    why: str
    verified_by = "not machine-verified"

    def holds(self) -> bool:
        """Always false: nothing was verified."""
        return False

    def formula(self) -> str:
        """No formula: the text carries it."""
        return ""


Step: TypeAlias = Identity | Inequality | Cited


@dataclass(frozen=True)
class Proof:
    """A proof as a sequence of steps.

    Args:
        name: identifier, also the anchor in ``proofs.md``.
        title: one line for people.
        proves: the statements whose right side the proof ends in; may be empty for a lemma.
        setting: what is assumed and how the symbols are named, in Markdown.
        steps: in order.
    """

    name: str
    title: str
    proves: tuple[Statement, ...]
    setting: str
    steps: tuple[Step, ...]

    @property
    def checkable(self) -> tuple[Identity | Inequality, ...]:
        """The steps that a machine decides."""
        return tuple(step for step in self.steps if not isinstance(step, Cited))

    @property
    def cited(self) -> tuple[Cited, ...]:
        """The steps that it does not."""
        return tuple(step for step in self.steps if isinstance(step, Cited))

    @property
    def premises(self) -> tuple[tuple[Inequality, Premise], ...]:
        """Every premise, with the step that uses it."""
        return tuple(
            (step, factor)
            for step in self.steps
            if isinstance(step, Inequality)
            for term in step.certificate
            for factor in term
            if isinstance(factor, Premise)
        )

    def misquoted(self) -> tuple[Premise, ...]:
        """The premises that do not say what the statements they quote say."""
        return tuple(
            premise
            for _, premise in self.premises
            if premise.quote and not _vanishes(premise.expr - premise.quote.expr)
        )

    def failures(self) -> tuple[Identity | Inequality, ...]:
        """The decidable steps that do not hold; empty for a proof that stands."""
        return tuple(step for step in self.checkable if not step.holds())

    def reaches(self, statement: Statement) -> bool:
        """Whether some step's larger side is exactly the statement's right side."""
        return any(
            isinstance(step, Inequality) and _vanishes(step.bigger - statement.right)
            for step in self.steps
        )
