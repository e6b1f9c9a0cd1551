"""The smallest smooth bound, up to twice the step; the family of which it is the smallest.

The perturbation's error enters a step twice: along the gradient, by at most |1 - eta (L + lambda)|
L rho |grad F_lambda|, and squared. Where polarization charges both to L^2 rho^2, Cauchy-Schwarz
keeps the first as it is: a quadratic inequality for the root of the mean squared gradient.
"""

__all__ = ["FAMILY_PROOF"]

from sympy import Abs, Symbol, sqrt

from theory import beyond, corrected
from theory.proofs.descent import DESCENT, IN_EXPECTATION, PERTURBATION
from theory.proofs.inner import gram
from theory.proofs.steps import Identity, Inequality, Premise, Proof, Square
from theory.symbols import F0, Fstar, L, T, a, eta, lam, rho, sigma, theta

_f, _f_next = Symbol("F_t", real=True), Symbol("F_{t+1}", real=True)
_Lam, _R = L + lam, L**2 * rho**2
_step, _off = eta * _Lam, Abs(1 - eta * _Lam)
_slope, _along = sqrt(gram("a", "a")), gram("a", "v") - gram("a", "a")
_noise = _step * sigma**2
_spent = 2 * (F0 - Fstar) / (eta * T) + _noise

_above = Premise(_off + (1 - _step), r"$|x|\ge-x$")
_below = Premise(_off - (1 - _step), r"$|x|\ge x$")
_cauchy = r"Cauchy-Schwarz: $|\langle a,v-a\rangle|\le L\rho\|a\|$"
_descent = Inequality(
    r"Descent with the error $v-a$ along $a$ bounded by Cauchy-Schwarz; in expectation "
    r"$\mathbb{E}\|a\|\le(\mathbb{E}\|a\|^2)^{1/2}$.",
    _f_next + eta / 2 * (2 - _step) * gram("a", "a"),
    _f + eta / 2 * (2 * _off * L * rho * _slope + _step * _R + _noise),
    [
        (IN_EXPECTATION,),
        (eta / 2 * _step, PERTURBATION),
        (eta / 2, _above, Premise(L * rho * _slope + _along, _cauchy)),
        (eta / 2, _below, Premise(L * rho * _slope - _along, _cauchy)),
    ],
)

_S, _G = Symbol("S_T", nonnegative=True), Symbol("G_T", nonnegative=True)
_Q = Symbol("R_T", nonnegative=True)
_fT, _fT1 = Symbol("F_T", real=True), Symbol("F_{T+1}", real=True)
_error = eta / 2 * (_step * _R + _noise)
_claim = Premise(
    F0 + T * _error + eta * _off * L * rho * _Q - eta / 2 * (2 - _step) * _S - _fT,
    "the claim for $T$",
)
_telescoping = Inequality(
    r"Induction on $T$ for $\frac\eta2(2-\eta(L+\lambda))S_T+\mathbb{E}F_\lambda(w_T)\le F_0+Te+"
    r"\eta|1-\eta(L+\lambda)|L\rho R_T$, $R_T=\sum_{t<T}(\mathbb{E}\|\nabla F_\lambda(w_t)\|^2)"
    r"^{1/2}$: from $T$ to $T+1$ ($T=0$ is $F_0\le F_0$).",
    eta / 2 * (2 - _step) * (_S + _G) + _fT1,
    F0 + (T + 1) * _error + eta * _off * L * rho * (_Q + sqrt(_G)),
    [
        (_claim,),
        (_descent.premise("the descent", {_f: _fT, _f_next: _fT1, gram("a", "a"): _G}),),
    ],
)
_y = sqrt(_S) / sqrt(T)
_quadratic = Inequality(
    r"Use $\mathbb{E}F_\lambda(w_T)\ge F_*$ and $R_T\le(TS_T)^{1/2}$, and divide by $\eta T/2$.",
    (2 - _step) * _S / T,
    _spent + _step * _R + 2 * _off * L * rho * _y,
    [
        (2 / (eta * T), _claim),
        (2 / (eta * T), Premise(_fT - Fstar, r"$F_*=\inf F_\lambda$")),
        (
            2 * _off * L * rho / T,
            Premise(sqrt(T) * sqrt(_S) - _Q, r"Cauchy-Schwarz: $R_T\le\sqrt{TS_T}$"),
        ),
    ],
)

_X = Symbol("X", nonnegative=True)
_root = (_off * L * rho + sqrt(_R + (2 - _step) * _spent)) / (2 - _step)
_is_root = Identity(
    r"The right side is attained at $X=(|1-\eta(L+\lambda)|L\rho+\sqrt{L^2\rho^2+(2-\eta(L+\lambda"
    r"))A})/(2-\eta(L+\lambda))$, $A=2(F_0-F_*)/(\eta T)+\eta(L+\lambda)\sigma^2$.",
    (2 - _step) * _root**2,
    _spent + _step * _R + 2 * _off * L * rho * _root,
    shown=r"(2-\eta(L+\lambda))X^2=A+\eta(L+\lambda)L^2\rho^2+2|1-\eta(L+\lambda)|L\rho X",
)
_defines = Premise(
    _spent + _step * _R + 2 * _off * L * rho * _X - (2 - _step) * _X**2,
    "the quadratic for $X$ (an equality)",
)
_defined = Premise(-_defines.expr, "the quadratic for $X$ (an equality)")
_factor = (2 - _step) * (_y + _X) - 2 * _off * L * rho
_smaller_root = Inequality(
    r"$y=(S_T/T)^{1/2}$ satisfies the inequality of which $X$ is the larger root: with "
    r"$f=(2-\eta(L+\lambda))(y+X)-2|1-\eta(L+\lambda)|L\rho$, $f\cdot y\le f\cdot X$.",
    _factor * _y,
    _factor * _X,
    [(_quadratic.premise("the previous inequality"),), (_defined,)],
)
_best = Inequality(
    r"$f\ge0$ because the other root is at most 0; so $y\le X$, and squared:",
    _S / T,
    beyond.SMOOTH_BEST.right,
    [
        (Premise(_X - _y, r"the previous display over $f$"), _X + _y),
        (Premise(beyond.SMOOTH_BEST.right - _X**2, "$X$ is the root (an equality)"),),
    ],
)

_top = _spent + _R * (_off / theta + _step)
_bottom = 2 - _step - _off * theta
_square = Inequality(
    r"Every member of the family is at least $X^2$: the difference is a square, which is 0 at "
    r"$\theta=L\rho/X$ only.",
    _bottom * _X**2,
    _top,
    [(_off / theta, Square(theta * _X - L * rho)), (_defines,)],
)
_positive = Premise(1 / _bottom, r"$\theta|1-\eta(L+\lambda)|<2-\eta(L+\lambda)$")
_member = Inequality(
    r"Hence the bound for every $\theta$.",
    _S / T,
    beyond.SMOOTH_FAMILY.right,
    [
        (_positive, _square.premise("the previous display")),
        (Premise(_X**2 - _S / T, "$S_T/T\\le X^2$"),),
    ],
    when={"member": 1},
)
_at_one = Identity(
    r"$\theta=1$ and $\eta(L+\lambda)\le1$: `weight_decay`.",
    beyond.SMOOTH_FAMILY.right.subs(theta, 1).subs(_off, 1 - _step),
    corrected.WEIGHT_DECAY.right,
    when={"short": 1},
)
_classical = Identity(
    r"$\rho=0$: SGD's classical bound, for every step below $2/(L+\lambda)$.",
    beyond.SMOOTH_BEST.right.subs(rho, 0),
    _spent / (2 - _step),
    when={"rho": 0},
)
_floor = Identity(
    r"No noise, $T\to\infty$, $\lambda=0$, $a=\eta L$: the root of the bound tends to $(1+|1-a|)"
    r"L\rho/(2-a)$, which is $L$ times the furthest that perturbations of length $\rho$ drive "
    r"$w$ on $\frac L2w^2$ (`extremal`). So no bound of this kind has a smaller floor.",
    _root.subs({F0: Fstar, sigma: 0, lam: 0}).subs(eta, a / L) * (2 - a) * (1 - Abs(1 - a)),
    L * beyond.EXTREMAL.right * (2 - a) * (1 - Abs(1 - a)),
    shown=r"\frac{(1+|1-a|)L\rho}{2-a}=L\frac{a\rho}{1-|1-a|}",
)
FAMILY_PROOF = Proof(
    "family",
    "Smooth non-convex objectives: the smallest bound, and the family that it ends",
    (beyond.SMOOTH_FAMILY, beyond.SMOOTH_BEST),
    r"As for `smooth`, $a=\nabla F_\lambda(w_t)$, $v=\nabla F(u_t)+\lambda w_t$, "
    r"$\|v-a\|\le L\rho$, but with any $\eta(L+\lambda)<2$. "
    r"$S_T=\sum_{t<T}\mathbb{E}\|\nabla F_\lambda(w_t)\|^2$.",
    (
        *DESCENT[1:3],
        _descent,
        _telescoping,
        _quadratic,
        _is_root,
        _smaller_root,
        _best,
        _square,
        _member,
        _at_one,
        _classical,
        _floor,
    ),
)
