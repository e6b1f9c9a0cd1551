"""Mutants: statements and proofs with one thing wrong, each of which the checks must object to.

A mutant is made *consistently* where it can be: the wrong thing is put into the statement and into
every step that uses it, so that the algebra still adds up and only what the symbols mean is wrong.
"""

__all__ = ["Mutant", "Verdict", "mutants", "named", "objections", "survey"]

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import sympy
from sympy import Le, Rational, zeta

from theory import corrected
from theory.probes import probe
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
from theory.symbols import B, L, T, beta, delta, eta, lam, mu, n, rho, sigma
from theory.worlds import WORLDS, refuted, worlds_of

_RUNS = ("smooth", "pl", "momentum", "schedules")  # proofs whose statements are about a run


def objections(proof: Proof) -> Iterator[str]:
    """Everything that speaks against a proof and the statements that it proves, cheapest first."""
    for statement in proof.proves:
        if not proof.reaches(statement):
            yield f"{statement.name}: the proof ends elsewhere"
    yield from (f"misquoted: {premise.why}" for premise in proof.misquoted())
    if proof.name in WORLDS:
        yield from (f"false in a run: {name}" for name in refuted(proof, worlds_of(proof)))
    if proof.name in _RUNS:
        for statement in proof.proves:
            broken = sum(cell.verdict != "holds" for cell in probe(statement))
            if broken:
                yield f"{statement.name}: violated in {broken} probes"
    yield from (f"not verified: {step.text}" for step in proof.failures())


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: the first objection to it, empty if it went unnoticed."""

    name: str
    kind: str
    objection: str


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


def _proof(name: str) -> Proof:
    return next(proof for proof in PROOFS if proof.name == name)


def _proof_of(statement: Statement) -> Proof:
    return next(proof for proof in PROOFS if statement in proof.proves)


def _step(step: Step, change: Change) -> Step:
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
    steps = tuple(_step(step, change) for step in proof.steps)
    proves = tuple(replace(s, right=change(s.right)) for s in proof.proves)
    return Mutant(name, kind, replace(proof, steps=steps, proves=proves))


def _scaled(symbol: str, factor: sympy.Expr) -> Change:
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


def _step_of(statement: Statement) -> Assumption:
    return next(
        a for a in statement.assumptions if isinstance(a.condition, Le) and a.condition.lhs == eta
    )


def _edge(name: str, statement: Statement, limit: sympy.Expr) -> Mutant:
    return condition(name, statement, _step_of(statement), Le(eta, limit))


def _buffer_without_noise() -> Mutant:
    """The momentum proof redone without the noise in the buffer: all its algebra adds up."""
    proof = _proof("momentum")
    zero = _scaled("sigma", sympy.Integer(0))
    steps: list[Step] = []
    for step in proof.steps:
        if (
            isinstance(step, Inequality)
            and any(
                s.name in (r"\Sigma_m", "m_{T+1}^2", r"\|m\|^2") for s in step.smaller.free_symbols
            )
            and not any("F(" in s.name for s in step.smaller.free_symbols)
        ):
            steps.append(_step(step, zero))
            continue
        steps.append(step)
    total, final = steps[-2], steps[-1]
    assert isinstance(total, Inequality) and isinstance(final, Inequality)
    wrong = corrected.MOMENTUM.right - beta * eta * (L + lam) * sigma**2 / (1 - beta)
    alpha, b = sympy.Symbol("alpha", positive=True), sympy.Symbol("beta", positive=True)
    excess = T * (L + lam) * alpha**2 * sigma**2 / 2 * b
    certificate = [
        tuple(
            Premise(f.expr.subs(sigma, 0), f.why)
            if isinstance(f, Premise) and f.why == r"the bound on $\Sigma_m$"
            else f
            for f in term
        )
        for term in total.certificate
    ]
    steps[-2] = replace(total, bigger=total.bigger - excess, certificate=certificate)
    previous = (excess).subs({b: beta}).subs(alpha, eta / (1 - beta))
    certificate = [
        tuple(
            Premise(f.expr - previous, f.why)
            if isinstance(f, Premise) and f.why == "the previous display"
            else f
            for f in term
        )
        for term in final.certificate
    ]
    steps[-1] = replace(final, bigger=wrong, certificate=certificate)
    mutated = replace(corrected.MOMENTUM, right=wrong)
    return Mutant(
        "momentum: no noise in the buffer", "premise",
        replace(proof, steps=tuple(steps), proves=(mutated,)),
    )  # fmt: skip


def named() -> list[Mutant]:
    """Seventeen, chosen by a referee's eye: the first five once went unnoticed."""
    c = corrected
    return [
        everywhere(
            "scheduled: zeta(3/2) is zeta(2)",
            "right side",
            _proof("schedules"),
            lambda e: e.subs(zeta(Rational(3, 2)), zeta(2)),
        ),
        _buffer_without_noise(),
        _edge("smooth: eta <= 2/L", c.SMOOTH, 2 / L),
        _edge("momentum: eta <= (1-beta)/(L+lambda)", c.MOMENTUM, (1 - beta) / (L + lam)),
        left("weight_decay: grad F, not of F_lambda", c.WEIGHT_DECAY, lambda r: r.gradient),
        right("smooth: rho for L^2 rho^2", c.SMOOTH, c.SMOOTH.right.subs(L**2 * rho**2, rho)),
        everywhere(
            "smooth: half the variance",
            "premise",
            _proof("smooth"),
            _scaled("sigma", Rational(1, 2)),
        ),
        everywhere("pl: twice mu", "premise", _proof("pl"), _scaled("mu", sympy.Integer(2))),
        everywhere("lemma1: half of L", "premise", _proof("lemma1"), _scaled("L", Rational(1, 2))),
        right("lemma1: without L", c.LEMMA1, (1 + eta * L - eta * lam) * delta + 2 * eta * rho),
        everywhere(
            "stability: half of B", "premise", _proof("stability"), _scaled("B", Rational(1, 2))
        ),
        right("excess: half of 2 B^2 / (L n)", c.EXCESS, c.EXCESS.right - B**2 / (L * n)),
        _edge("lemma1 convex: eta <= 4/(L+2 lambda)", c.LEMMA1_CONVEX, 4 / (L + 2 * lam)),
        _edge("pl with decay: eta <= 2/(L+lambda)", c.PL_DECAY, 2 / (L + lam)),
        left("smooth: the sum, not the mean", c.SMOOTH, lambda r: r.gradient * r.T),
        left("pl: twice the excess", c.PL, lambda r: 2 * (r.value - r.infimum)),
        right(
            "pl: a rate of 1 - 2 eta mu",
            c.PL,
            c.PL.right.subs((1 - eta * mu) ** T, (1 - 2 * eta * mu) ** T),
        ),
    ]


def constants() -> Iterator[Mutant]:
    """Every constant of every proof of a statement at half its value (mu: twice), everywhere."""
    wrong: Mapping[str, sympy.Expr] = {
        **dict.fromkeys(("L", "B", "sigma", "rho", "F_0"), Rational(1, 2)),
        "mu": sympy.Integer(2),
        "c": Rational(1, 2),
        "T": Rational(1, 2),
    }
    for proof in PROOFS:
        known = {name for s in proof.proves for name in s.constants}
        for name in sorted(known & set(wrong)):
            if name == "T" and proof.name == "schedules":
                continue  # T is a summation limit there
            yield everywhere(
                f"{proof.name}: {wrong[name]} {name}", "premise", proof, _scaled(name, wrong[name])
            )


def conditions() -> Iterator[Mutant]:
    """Every step condition twice as wide."""
    for statement in corrected.CORRECTED:
        wide = 2 * _step_of(statement).condition.rhs
        yield _edge(f"{statement.name}: twice the step", statement, wide)


def terms() -> Iterator[Mutant]:
    """Every right side with one of its terms halved."""
    for statement in corrected.CORRECTED:
        for number, term in enumerate(sympy.Add.make_args(sympy.expand(statement.right))):
            if term.could_extract_minus_sign():
                continue
            yield right(
                f"{statement.name}: half of term {number}", statement, statement.right - term / 2
            )


def mutants() -> list[Mutant]:
    """All of them; the seventeen named ones first."""
    return [*named(), *constants(), *conditions(), *terms()]


def survey(fast: bool) -> list[Verdict]:
    """Every mutant held against the checks; ``fast``: the named ones only."""
    chosen = named() if fast else mutants()
    return [Verdict(m.name, m.kind, m.caught()) for m in chosen]
