"""The worst that any perturbation of length rho can do on the quadratic, and who does it."""

__all__ = ["BASIN", "EXTREMAL_PROOF"]

from sympy import Abs, Integer, Symbol

from theory import beyond
from theory.proofs.scalar import BOUNDED_LIMIT
from theory.proofs.steps import Identity, Inequality, Premise, Proof
from theory.symbols import a, rho

_x, _next = Symbol("x", nonnegative=True), Symbol("x_{t+1}", nonnegative=True)
_far = Symbol("X", nonnegative=True)
_worst = beyond.EXTREMAL.right
_step = Inequality(
    r"$w_{t+1}=(1-a)w_t-a\varepsilon_t$ with $|\varepsilon_t|\le\rho$ *any* perturbation: with "
    r"$x=|w_t|$ and $R=a\rho/(1-|1-a|)=\rho\|\text{impulse response}\|_1$, the excess over $R$ "
    r"shrinks "
    r"by $|1-a|<1$ at each step: $\limsup|w_t|\le R$.",
    _next - _worst,
    Abs(1 - a) * (_x - _worst),
    [
        (
            Premise(
                Abs(1 - a) * _x + a * rho - _next, r"triangle inequality, $|\varepsilon_t|\le\rho$"
            ),
        )
    ],
    when={"stable": 1},
)
_limsup = Inequality(
    r"Late in the run ($X=|w_t|$, the excess gone):",
    _far,
    _worst,
    [(Premise(_worst - _far, "the excess shrinks geometrically"),)],
    when={"late": 1},
)
_b = Symbol("b", positive=True)
_small = Identity(
    r"For $a=b/(1+b)<1$ it is $\rho$: normalised S2-SAM attains it (`orbits`: distance $\rho$).",
    _worst.subs(a, _b / (1 + _b)),
    rho,
    shown=r"\frac{a\rho}{1-|1-a|}=\rho\quad(a<1)",
)
_large = Identity(
    r"For $a=1+b/(1+b)$ between 1 and 2 it is $a\rho/(2-a)$: normalised SAM attains it (`scalar`: "
    r"its limit cycle).",
    _worst.subs(a, 1 + _b / (1 + _b)),
    (a * rho / (2 - a)).subs(a, 1 + _b / (1 + _b)),
    shown=r"\frac{a\rho}{1-|1-a|}=\frac{a\rho}{2-a}\quad(1<a<2)",
)
BASIN = rho * a / ((a - 1) * (a - 2))
"""Normalised S2-SAM, 2 < a <= (3 + sqrt 5) / 2: bounded if and only if |w_0| is at most this."""
_edge = 2 * rho / (a - 2)
_start = Identity(
    r"Beyond $a=2$: $|u_1|=(a-1)|w_0|-\rho$ from a large start, which is $2\rho/(a-2)$ at "
    r"$|w_0|=a\rho/((a-1)(a-2))$.",
    (a - 1) * BASIN - rho,
    _edge,
)
_fixed = Identity(
    r"$2\rho/(a-2)$ is the fixed point of $x\mapsto(a-1)x-2\rho$, by which $|u|$ moves while its "
    r"sign "
    r"changes: above it $|u|$ grows by the factor $a-1>1$ of its distance, and the run diverges.",
    (a - 1) * _x - 2 * rho - _edge,
    (a - 1) * (_x - _edge),
)
_kept = Inequality(
    r"Below it, $x=|u|\le2\rho/(a-2)$ stays so after a sign that changed twice;",
    (a - 1) * _x - 2 * rho,
    _edge,
    [(Premise(a - 1, r"$a>1$"), Premise(_edge - _x, r"$x\le2\rho/(a-2)$"))],
    when={"inside": 1},
)
_golden = Inequality(
    r"and after a kept sign, where $x\le2\rho$: $(a-1)x\le2\rho(a-1)\le2\rho/(a-2)$ iff "
    r"$(a-1)(a-2)\le1$.",
    2 * rho * (a - 1),
    _edge,
    [
        (
            2 * rho,
            Premise(1 / (a - 2), r"$a>2$"),
            Premise(1 - (a - 1) * (a - 2), r"$a\le(3+\sqrt5)/2$"),
        )
    ],
    when={"inside": 1},
)
_limit = Identity(
    r"That is $a\le(3+\sqrt5)/2$.",
    1 - (BOUNDED_LIMIT - 1) * (BOUNDED_LIMIT - 2),
    Integer(0),
    shown=r"1-(a-1)(a-2)=0\ \text{at}\ a=\tfrac{3+\sqrt5}2",
)
EXTREMAL_PROOF = Proof(
    "extremal",
    "Extremality, and the basin beyond a = 2",
    (beyond.EXTREMAL,),
    r"$F(w)=\frac h2w^2$, $a=\eta h$, no momentum.",
    (_step, _limsup, _small, _large, _start, _fixed, _kept, _golden, _limit),
)
