"""The mutants that the checks must object to: seventeen by name, the rest by rule."""

__all__ = ["Verdict", "mutants", "named", "survey"]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import sympy
from sympy import Abs, Lt, Rational, zeta

from theory import beyond, corrected
from theory.mutation import (
    Mutant,
    changed_step,
    condition,
    edge,
    everywhere,
    left,
    proof_named,
    right,
    scaled,
    step_of,
)
from theory.proofs import PROOFS
from theory.proofs.steps import (
    Inequality,
    Premise,
    Step,
)
from theory.symbols import (
    F0,
    B,
    Fstar,
    L,
    T,
    a,
    beta,
    delta,
    eta,
    lam,
    mu,
    n,
    r,
    rho,
    sigma,
)

_BOUNDED = (
    *corrected.CORRECTED,
    *(s for s in beyond.BEYOND if s not in (beyond.MOMENTUM_STABLE, beyond.EXTREMAL)),
)
"""Statements whose conditions bound the step."""
_TIGHTER = (beyond.SMOOTH_BEST, beyond.SMOOTH_FAMILY)


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: the first objection to it, empty if it went unnoticed."""

    name: str
    kind: str
    objection: str


def _buffer_without_noise() -> Mutant:
    """The momentum proof redone without the noise in the buffer: all its algebra adds up."""
    proof = proof_named("momentum")
    zero = scaled("sigma", sympy.Integer(0))
    steps: list[Step] = []
    for step in proof.steps:
        if (
            isinstance(step, Inequality)
            and any(
                s.name in (r"\Sigma_m", "m_{T+1}^2", r"\|m\|^2") for s in step.smaller.free_symbols
            )
            and not any("F(" in s.name for s in step.smaller.free_symbols)
        ):
            steps.append(changed_step(step, zero))
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
            proof_named("schedules"),
            lambda e: e.subs(zeta(Rational(3, 2)), zeta(2)),
        ),
        _buffer_without_noise(),
        edge("smooth: eta <= 2/L", c.SMOOTH, 2 / L),
        edge("momentum: eta <= (1-beta)/(L+lambda)", c.MOMENTUM, (1 - beta) / (L + lam)),
        left("weight_decay: grad F, not of F_lambda", c.WEIGHT_DECAY, lambda r: r.gradient),
        right("smooth: rho for L^2 rho^2", c.SMOOTH, c.SMOOTH.right.subs(L**2 * rho**2, rho)),
        everywhere(
            "smooth: half the variance",
            "premise",
            proof_named("smooth"),
            scaled("sigma", Rational(1, 2)),
        ),
        everywhere("pl: twice mu", "premise", proof_named("pl"), scaled("mu", sympy.Integer(2))),
        everywhere(
            "lemma1: half of L", "premise", proof_named("lemma1"), scaled("L", Rational(1, 2))
        ),
        right("lemma1: without L", c.LEMMA1, (1 + eta * L - eta * lam) * delta + 2 * eta * rho),
        everywhere(
            "stability: half of B", "premise", proof_named("stability"), scaled("B", Rational(1, 2))
        ),
        right("excess: half of 2 B^2 / (L n)", c.EXCESS, c.EXCESS.right - B**2 / (L * n)),
        edge("lemma1 convex: eta <= 4/(L+2 lambda)", c.LEMMA1_CONVEX, 4 / (L + 2 * lam)),
        edge("pl with decay: eta <= 2/(L+lambda)", c.PL_DECAY, 2 / (L + lam)),
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
        **dict.fromkeys(("L", "B", "sigma", "rho", "F_0", "gamma"), Rational(1, 2)),
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
                f"{proof.name}: {wrong[name]} {name}", "premise", proof, scaled(name, wrong[name])
            )


def conditions() -> Iterator[Mutant]:
    """Every step condition twice as wide."""
    for statement in _BOUNDED:
        wide = 2 * step_of(statement).condition.rhs
        yield edge(f"{statement.name}: twice the step", statement, wide)


def terms() -> Iterator[Mutant]:
    """Every right side with one of its terms halved."""
    for statement in _BOUNDED:
        if statement in _TIGHTER:
            continue  # not sums: see ``family``
        for number, term in enumerate(sympy.Add.make_args(sympy.expand(statement.right))):
            if term.could_extract_minus_sign():
                continue
            yield right(
                f"{statement.name}: half of term {number}", statement, statement.right - term / 2
            )


def stability() -> Iterator[Mutant]:
    """The conditions of stability with momentum, each without a factor, or left out."""
    statement = beyond.MOMENTUM_STABLE
    below_one, flip, heavy = statement.assumptions[1:]
    yield condition("momentum_stable: without r < 1", statement, below_one, None)
    yield condition("momentum_stable: without the first limit", statement, flip, None)
    yield condition("momentum_stable: without the second limit", statement, heavy, None)
    for name, limit in (
        ("2 (1 + r)", 2 * (1 + r)),
        ("2 (1 + beta)", 2 * (1 + beta)),
        ("2 (1 + beta) (1 + beta r)", 2 * (1 + beta) * (1 + beta * r)),
    ):
        yield condition(f"momentum_stable: a < {name}", statement, flip, Lt(a, limit))
    for name, limit in (
        ("(1 - r) (1 - beta r)", (1 - r) * (1 - beta * r)),
        ("(1 - beta) (1 - beta r)", (1 - beta) * (1 - beta * r)),
        ("(1 - beta) (1 - r)", (1 - beta) * (1 - r)),
        ("(1 + beta) (1 - r) (1 - beta r)", (1 + beta) * (1 - r) * (1 - beta * r)),
    ):
        wrong = Lt(a * beta * r, limit)
        yield condition(f"momentum_stable: beta r a < {name}", statement, heavy, wrong)


def smoothing() -> Iterator[Mutant]:
    """The smoothing law with another factor, in the identity and in its sum."""
    proof = proof_named("smoothing")
    for name, factor in (
        ("rho^2", rho**2),
        ("rho (rho + eta)", rho * (rho + eta)),
        ("rho (rho - 2 eta)", rho * (rho - 2 * eta)),
    ):

        def change(expr: sympy.Expr, factor: sympy.Expr = factor) -> sympy.Expr:
            return expr.subs(rho * (rho - eta), factor)

        yield everywhere(f"smoothing: {name} E gg^T", "right side", proof, change)
    for name, factor in (("beta", beta), ("beta (1 - beta)", beta * (1 - beta))):

        def lighter(expr: sympy.Expr, factor: sympy.Expr = factor) -> sympy.Expr:
            return expr.subs(beta * (1 + beta), factor)

        wrong = f"smoothing: rho eta {name} E mm^T with momentum"
        yield everywhere(wrong, "right side", proof, lighter)
    for symbol in ("W_0", "S_g", "x_0"):
        half = scaled(symbol, Rational(1, 2))
        yield everywhere(f"smoothing: half of {symbol}", "right side", proof, half)


def family() -> Iterator[Mutant]:
    """The tighter bounds with parts of their formulas exchanged, and with a wider condition."""
    best, member = _TIGHTER
    step = eta * (L + lam)
    off, start, noise = Abs(1 - step), 2 * (F0 - Fstar) / (eta * T), step * sigma**2
    for name, old, new in (
        ("1 - eta (L + lambda), no modulus", off, 1 - step),
        ("half of |1 - eta (L + lambda)|", off, off / 2),
        ("half of the start", start, start / 2),
        ("half of the noise", noise, noise / 2),
        ("half of the radius", rho, rho / 2),
    ):
        for statement in _TIGHTER:
            yield right(f"{statement.name}: {name}", statement, statement.right.subs(old, new))
    yield right("smooth_best: the root for its square", best, sympy.sqrt(best.right))
    yield edge("smooth_family: any step below 2/(L + lambda)", member, 2 / (L + lam))
    proof = proof_named("family")
    for name, new in (("1", sympy.Integer(1)), ("1 - eta (L + lambda)", 1 - step)):

        def change(expr: sympy.Expr, new: sympy.Expr = new) -> sympy.Expr:
            return expr.subs(off, new)

        wrong = f"family: {name} for |1 - eta (L + lambda)|, everywhere"
        yield everywhere(wrong, "premise", proof, change)


def mutants() -> list[Mutant]:
    """All of them; the seventeen named ones first."""
    return [*named(), *constants(), *conditions(), *terms(), *stability(), *smoothing(), *family()]


def survey(fast: bool) -> list[Verdict]:
    """Every mutant held against the checks; ``fast``: the named ones only."""
    chosen = named() if fast else mutants()
    return [Verdict(m.name, m.kind, m.caught()) for m in chosen]
