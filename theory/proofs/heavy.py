"""The scalar quadratic with heavy-ball momentum: exactly when S2-SAM is stable."""

__all__ = ["CROSSING", "HEAVY_PROOF", "STABLE_LIMITS"]

import sympy
from sympy import Integer, Matrix, Symbol

from theory import beyond
from theory.proofs.steps import Cited, Identity, Inequality, Premise, Proof
from theory.symbols import a, beta, r

_z = Symbol("z")
STABLE_LIMITS = (
    2 * (1 + beta) * (1 + r),
    (1 - beta) * (1 - r) * (1 - beta * r) / (beta * r),
)
"""S2-SAM with momentum is stable for a below both (the second for beta r > 0), given r < 1."""

# State (w, eta m, eta g_{t-1}): eta g_t = a w + r eta g_{t-1}, eta m' = beta eta m + eta g_t.
_STATE = Matrix([[1 - a, -beta, -r], [a, beta, r], [a, 0, r]])
_polynomial = (_z - 1) * (_z - beta) * (_z - r) + a * _z**2
_characteristic = Identity(
    r"State $(w_t,\eta m_t,\eta g_{t-1})$, $\eta g_t=aw_t+r\,\eta g_{t-1}$, "
    r"$\eta m_{t+1}=\beta\eta m_t+\eta g_t$, $w_{t+1}=w_t-\eta m_{t+1}$: characteristic "
    r"polynomial. "
    r"$\beta$ and $r$ enter alike: without normalisation the perturbation acts as a second "
    r"momentum.",
    _STATE.charpoly(_z).as_expr(),
    _polynomial,
    shown=r"p(z)=(z-1)(z-\beta)(z-r)+az^2",
)
_c2, _c1, _c0 = sympy.Poly(_polynomial, _z).all_coeffs()[1:]
_at_one = Identity(r"$p(1)=a>0$ always.", _polynomial.subs(_z, 1), a, shown=r"p(1)=a")
_at_minus_one = Identity(
    r"$-p(-1)>0$ iff $a<2(1+\beta)(1+r)$.",
    -_polynomial.subs(_z, -1),
    2 * (1 + beta) * (1 + r) - a,
    shown=r"-p(-1)=2(1+\beta)(1+r)-a",
)
_binding = Identity(
    r"With $p=z^3+c_2z^2+c_1z+c_0$: the difference that can change sign.",
    1 - _c0**2 - (_c1 - _c0 * _c2),
    (1 - beta) * (1 - r) * (1 - beta * r) - beta * r * a,
    shown=r"(1-c_0^2)-(c_1-c_0c_2)=(1-\beta)(1-r)(1-\beta r)-\beta ra",
)
_slack = Identity(
    r"The other one is positive whenever $\beta r<1$.",
    1 - _c0**2 + (_c1 - _c0 * _c2),
    (1 + beta) * (1 + r) * (1 - beta * r) + beta * r * a,
    shown=r"(1-c_0^2)+(c_1-c_0c_2)=(1+\beta)(1+r)(1-\beta r)+\beta ra",
)
_jury = Cited(
    r"All roots of $z^3+c_2z^2+c_1z+c_0$ lie inside the unit circle iff $p(1)>0$, $-p(-1)>0$, "
    r"$|c_0|<1$ and $|c_1-c_0c_2|<1-c_0^2$; here $|c_0|=\beta r$. Since $a>0$ and $\beta<1$, the "
    r"last condition and $\beta r<1$ give $r<1$ (for $\beta=0$ it reads $r<1$): stable iff "
    r"$\rho h<1$ and $0<a<\min\{2(1+\beta)(1+r),\,(1-\beta)(1-r)(1-\beta r)/(\beta r)\}$.",
    "Jury's criterion for cubics; that the conditions match the roots is checked at random points, "
    "inside and outside",
)
_radius = Symbol("R", nonnegative=True)
_stable = Inequality(
    r"So within the assumptions the largest modulus $R$ is below 1.",
    _radius,
    beyond.MOMENTUM_STABLE.right,
    [(Premise(1 - _radius, "Jury's criterion"),)],
)
_without = Identity(
    r"Without momentum the second limit is void and the first is $2(1+r)$: larger steps than "
    r"SGD's.",
    STABLE_LIMITS[0].subs(beta, 0),
    2 * (1 + r),
)
CROSSING = sympy.together(STABLE_LIMITS[1] - 2 * (1 + beta))
"""Positive where S2-SAM's second limit is above SGD's 2 (1 + beta)."""
_crossing = Identity(
    r"S2-SAM tolerates smaller steps than SGD, whose limit is $2(1+\beta)$, where its second limit "
    r"is below that: where $q(r)=(1-\beta)(1-r)(1-\beta r)-2\beta(1+\beta)r<0$.",
    sympy.numer(CROSSING),
    (1 - beta) * (1 - r) * (1 - beta * r) - 2 * (1 + beta) * beta * r,
    shown=r"\frac{(1-\beta)(1-r)(1-\beta r)}{\beta r}<2(1+\beta)"
    r"\iff(1-\beta)(1-r)(1-\beta r)<2\beta(1+\beta)r",
)
_practice = Identity(
    r"At $\beta=0.9$ the sign of $q$ changes between $r=.0277$ and $r=.0278$: beyond, S2-SAM is "
    r"less stable than SGD.",
    sympy.sign(CROSSING.subs({beta: sympy.Rational(9, 10), r: sympy.Rational(277, 10000)}))
    * sympy.sign(CROSSING.subs({beta: sympy.Rational(9, 10), r: sympy.Rational(278, 10000)})),
    Integer(-1),
    shown=r"q(.0277)>0>q(.0278)",
)
HEAVY_PROOF = Proof(
    "heavy",
    "Stability with momentum, perturbation not normalised",
    (beyond.MOMENTUM_STABLE,),
    r"$F(w)=\frac h2w^2$, $u_t=w_t+\rho g_{t-1}$, $m_{t+1}=\beta m_t+g_t$, $w_{t+1}=w_t-\eta "
    r"m_{t+1}$; "
    r"$a=\eta h$, $r=\rho h$.",
    (
        _characteristic,
        _at_one,
        _at_minus_one,
        _binding,
        _slack,
        _jury,
        _stable,
        _without,
        _crossing,
        _practice,
    ),
)
