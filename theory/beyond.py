"""Statements that no paper has: what S2-SAM is, with momentum and at practical steps.

Notation as in ``theory.corrected``; on the quadratic h w^2 / 2, a = eta h and r = rho h for the
perturbation rho g that is not normalised. ``theory.proofs`` proves each.
"""

__all__ = ["BEYOND", "MOMENTUM_STABLE"]

from sympy import Integer, Lt

from theory.statements import Assumption, Left, Statement
from theory.symbols import a, beta, r

MOMENTUM_STABLE = Statement(
    name="momentum_stable",
    title="Stability with momentum on the quadratic, perturbation not normalised",
    where="not in the paper; the converse holds too: outside, some start does not tend to 0",
    assumptions=(
        Assumption(r"$0\le\beta<1$", Lt(beta, 1)),
        Assumption(r"$r=\rho h<1$", Lt(r, 1)),
        Assumption(r"$a=\eta h<2(1+\beta)(1+r)$", Lt(a, 2 * (1 + beta) * (1 + r))),
        Assumption(
            r"$\beta ra<(1-\beta)(1-r)(1-\beta r)$",
            Lt(a * beta * r, (1 - beta) * (1 - r) * (1 - beta * r)),
        ),
    ),
    left=Left(r"\max\{|z|:(z-1)(z-\beta)(z-r)+az^2=0\}", lambda point: point.radius),
    right=Integer(1),
)

BEYOND = (MOMENTUM_STABLE,)
