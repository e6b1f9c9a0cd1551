"""Statements that no paper has: what S2-SAM is, with momentum and at practical steps.

Notation as in ``theory.corrected``; on the quadratic h w^2 / 2, a = eta h and r = rho h for the
perturbation rho g that is not normalised. ``theory.proofs`` proves each.
"""

__all__ = [
    "BEST_THETA",
    "BEYOND",
    "DYNAMIC_MASKS",
    "EXTREMAL",
    "MOMENTUM_PRACTICAL",
    "MOMENTUM_STABLE",
    "SMOOTH_BEST",
    "SMOOTH_FAMILY",
    "STABILITY_CLIPPED",
    "STABILITY_CLIPPED_CONVEX",
]

from sympy import Abs, Gt, Integer, Le, Lt, sqrt

from theory import corrected
from theory.statements import Assumption, Left, Statement
from theory.symbols import (
    F0,
    B,
    Fstar,
    J,
    L,
    T,
    a,
    beta,
    eta,
    gamma,
    lam,
    n,
    r,
    rho,
    sigma,
    theta,
)

_Lam = L + lam
_reach, _off = 2 - eta * _Lam, Abs(1 - eta * _Lam)
_spent = 2 * (F0 - Fstar) / (eta * T) + eta * _Lam * sigma**2
_root = (_off * L * rho + sqrt(L**2 * rho**2 + _reach * _spent)) / _reach
BEST_THETA = L * rho / _root
"""The theta at which the family is smallest, where it equals ``smooth_best``; at most 1."""

_DECAYED = corrected.WEIGHT_DECAY.assumptions
SMOOTH_FAMILY = Statement(
    name="smooth_family",
    title="Smooth, non-convex, a bound for every theta",
    where="contains `weight_decay` (theta = 1) and SGD's classical bound (rho = 0, theta to 0)",
    assumptions=(
        *_DECAYED[:3],
        Assumption(r"$0<\theta\le1$", Le(theta, 1)),
        Assumption(
            r"$\eta(L+\lambda)<(2+\theta)/(1+\theta)$", Lt(eta, (2 + theta) / ((1 + theta) * _Lam))
        ),
        _DECAYED[-1],
    ),
    left=corrected.WEIGHT_DECAY.left,
    right=(_spent + L**2 * rho**2 * (_off / theta + eta * _Lam)) / (_reach - _off * theta),
)
SMOOTH_BEST = Statement(
    name="smooth_best",
    title="Smooth, non-convex, the smallest bound of the family",
    where="not in the paper; for steps up to 2/(L + lambda), twice those of `weight_decay`",
    assumptions=(
        *_DECAYED[:3],
        Assumption(r"$\eta(L+\lambda)<2$", Lt(eta, 2 / _Lam)),
        _DECAYED[-1],
    ),
    left=corrected.WEIGHT_DECAY.left,
    right=_root**2,
)
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

MOMENTUM_PRACTICAL = Statement(
    name="momentum_practical",
    title="Smooth, non-convex, momentum at practical steps",
    where="not in the paper; at beta = 0 it is `weight_decay`",
    assumptions=(
        *corrected.MOMENTUM.assumptions[:-1],
        Assumption(r"$\eta\le(1-\beta)/(L+\lambda)$", Le(eta, (1 - beta) / _Lam)),
    ),
    left=corrected.MOMENTUM.left,
    right=2 * (F0 - Fstar) / (eta * T)
    + L**2 * rho**2 * (1 + beta) / (1 - beta)
    + _Lam * eta * sigma**2 / (1 - beta) ** 2
    + 2 * _Lam**2 * eta**2 * beta * sigma**2 / ((1 - beta) ** 4 * (1 + beta)),
)

_kappa = rho * L / gamma
_CLIPPED = Assumption(r"perturbation $\rho g/\max(\|g\|,\gamma)$")
_CONTRACTS = Assumption(r"$\kappa=\rho L/\gamma<1$", Lt(rho * L, gamma))
_EXAMPLES = (
    corrected.CONVEX_STABILITY.assumptions[0],
    Assumption(
        r"each step's example is each of the $n$ with probability $1/n$ (drawn with replacement, "
        r"or epochs reshuffled)"
    ),
    _CLIPPED,
    _CONTRACTS,
)
STABILITY_CLIPPED_CONVEX = Statement(
    name="stability_clipped_convex",
    title="Generalization gap of order 1/n at constant rho, convex loss",
    where="not in the paper; repairs its generalization claim, whose 6 rho does not vanish",
    assumptions=(
        *_EXAMPLES,
        Assumption(r"$\ell(\cdot,z)$ convex", properties=("convex",)),
        Assumption(r"$\lambda>L\kappa/(1-\kappa)$", Gt(lam * (gamma - rho * L), rho * L**2)),
        Assumption(r"$\eta(L+2\lambda)\le2$", Le(eta, 2 / (L + 2 * lam))),
    ),
    left=corrected.STABILITY.left,
    right=B * (2 * B + 2 * L * rho / (1 - _kappa)) / (n * (lam - L * _kappa / (1 - _kappa))),
)
STABILITY_CLIPPED = Statement(
    name="stability_clipped",
    title="Generalization gap of order 1/n at constant rho",
    where="not in the paper; repairs its generalization claim, whose 6 rho does not vanish",
    assumptions=(
        *_EXAMPLES,
        Assumption(r"$\lambda>L/(1-\kappa)$", Gt(lam * (gamma - rho * L), L * gamma)),
        Assumption(r"$\eta\lambda\le1$", Le(eta, 1 / lam)),
    ),
    left=corrected.STABILITY.left,
    right=B * (2 * B + 2 * L * rho / (1 - _kappa)) / (n * (lam - L / (1 - _kappa))),
)

EXTREMAL = Statement(
    name="extremal",
    title="The furthest that any perturbation of length rho drives w on the quadratic",
    where="not in the paper; S2-SAM attains it for a < 1, SAM for 1 < a < 2",
    assumptions=(
        Assumption(r"$F(w)=\frac h2w^2$, no noise"),
        Assumption(r"$0<a=\eta h<2$", Lt(a, 2)),
    ),
    left=Left(r"\limsup_t|w_t|", lambda world: world["X"]),
    right=a * rho / (1 - Abs(1 - a)),
)

DYNAMIC_MASKS = Statement(
    name="dynamic_masks",
    title="Smooth, non-convex, masks that change",
    where="not in the paper, which is about sparse training",
    assumptions=(
        Assumption(r"$F$ is $L$-smooth on the coordinates of each mask", properties=("smooth",)),
        *corrected.SMOOTH.assumptions[1:],
        Assumption(r"$J$ sums $\mathbb{E}[F(w)-F(w^-)]$ over the changes of the mask"),
    ),
    left=Left(
        r"\frac1T\sum_{t<T}\mathbb{E}\|M_t\nabla F(w_t)\|^2",
        lambda world: world["S_T"] / world["T"],
    ),
    right=2 * (F0 - Fstar + J) / (eta * T) + L**2 * rho**2 + eta * L * sigma**2,
)

BEYOND = (
    MOMENTUM_STABLE,
    MOMENTUM_PRACTICAL,
    STABILITY_CLIPPED_CONVEX,
    STABILITY_CLIPPED,
    EXTREMAL,
    DYNAMIC_MASKS,
    SMOOTH_FAMILY,
    SMOOTH_BEST,
)
