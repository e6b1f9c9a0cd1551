"""Schedules: rho_t = sqrt(c / t), with a constant step or with eta_t = eta / sqrt(t + 1)."""

__all__ = ["SCHEDULE_PROOF"]

from sympy import Integer, Rational, Symbol, harmonic, log, sqrt, zeta

from theory import corrected
from theory.proofs.descent import descent_inequality
from theory.proofs.inner import gram
from theory.proofs.steps import Cited, Identity, Inequality, Premise, Proof
from theory.symbols import F0, Fstar, L, T, c, eta, lam, rho, sigma

_eta_T, _rho_T = Symbol("eta_T", positive=True), Symbol("rho_T", nonnegative=True)
_W, _P, _Q, _G = (Symbol(x, nonnegative=True) for x in ("W_T", "P_T", "Q_T", "G_T"))
_H = Symbol("H_T", positive=True)
_fT, _fT1 = Symbol("F_T", real=True), Symbol("F_{T+1}", real=True)

_claim = Premise(F0 + L**2 / 2 * _P + L * sigma**2 / 2 * _Q - _W / 2 - _fT, "the claim for $T$")
_one_step = descent_inequality().premise(
    r"the descent inequality with $\eta_T$, $\rho_T$, $\lambda=0$",
    {
        lam: Integer(0),
        eta: _eta_T,
        rho: _rho_T,
        Symbol("F_t", real=True): _fT,
        Symbol("F_{t+1}", real=True): _fT1,
        gram("a", "a"): _G,
    },
)
_weighted = Inequality(
    r"Induction on $T$ for the claim $\frac12W_T+\mathbb{E}F(w_T)\le F_0+\frac{L^2}{2}P_T+"
    r"\frac{L\sigma^2}{2}Q_T$, where $W_T=\sum_{t<T}\eta_t\mathbb{E}\|\nabla F(w_t)\|^2$, "
    r"$P_T=\sum_{t<T}\eta_t\rho_t^2$, $Q_T=\sum_{t<T}\eta_t^2$, "
    r"$G_T=\mathbb{E}\|\nabla F(w_T)\|^2$.",
    (_W + _eta_T * _G) / 2 + _fT1,
    F0 + L**2 / 2 * (_P + _eta_T * _rho_T**2) + L * sigma**2 / 2 * (_Q + _eta_T**2),
    [(_claim,), (_one_step,)],
)
_infimum = Premise(_fT - Fstar, r"$F_*=\inf F$")
_constant_claim = Premise(_claim.expr.subs(_Q, T * eta**2), r"the claim for $T$, $Q_T=T\eta^2$")
_constant = Inequality(
    r"Constant step: $W_T=\eta\sum_{t<T}\mathbb{E}\|\nabla F(w_t)\|^2$, $Q_T=T\eta^2$, and "
    r"$P_T=\eta c\sum_{t=1}^{T-1}\frac1t\le\eta c\,H_T$ (harmonic number).",
    _W / (eta * T),
    corrected.SCHEDULED_RADIUS.right,
    [
        (2 / (eta * T), _constant_claim),
        (2 / (eta * T), _infimum),
        (L**2 / (eta * T), Premise(eta * c * harmonic(T) - _P, r"$P_T\le\eta c\,H_T$")),
    ],
)
_x, _y = Symbol("x", positive=True), Symbol("y", positive=True)
_root_step = Identity(
    r"For the decreasing step, $\frac1x-2(y-x)=\frac{(y-x)^2}{x}\ge0$ with $x=\sqrt{t+1}$, "
    r"$y=\sqrt{x^2+1}=\sqrt{t+2}$; summed over $t<T$: "
    r"$\sum_{t<T}\frac{1}{\sqrt{t+1}}\ge2(\sqrt{T+1}-1)$.",
    1 / _x - 2 * (sqrt(_x**2 + 1) - _x),
    (sqrt(_x**2 + 1) - _x) ** 2 / _x,
)
_series = Cited(
    r"$\sum_{t\ge1}\frac{1}{t\sqrt{t+1}}\le\sum_{t\ge1}t^{-3/2}=\zeta(3/2)$ term by term, and "
    r"$\sum_{t<T}\frac{1}{t+1}\le1+\ln T$ by comparison with the integral.",
    "textbook comparison of a sum with a series and an integral",
)
_bound = (
    2 * (F0 - Fstar) + L**2 * eta * c * zeta(Rational(3, 2)) + L * sigma**2 * eta**2 * (1 + log(T))
)
_numerator = Inequality(
    r"Decreasing step: $P_T\le\eta c\,\zeta(3/2)$ and $Q_T\le\eta^2(1+\ln T)$ in the claim.",
    _W,
    _bound,
    [
        (Integer(2), _claim),
        (Integer(2), _infimum),
        (L**2, Premise(eta * c * zeta(Rational(3, 2)) - _P, r"$P_T\le\eta c\,\zeta(3/2)$")),
        (L * sigma**2, Premise(eta**2 * (1 + log(T)) - _Q, r"$Q_T\le\eta^2(1+\ln T)$")),
    ],
    when={"fading": 1},
)
_low = 2 * eta * (sqrt(T + 1) - 1)
_positive = Premise(1 / _low, r"$T\ge1$")
_scheduled = Inequality(
    r"Divide by $H_T=\sum_{t<T}\eta_t\ge2\eta(\sqrt{T+1}-1)$.",
    _W / _H,
    corrected.SCHEDULED.right,
    [
        (1 / _H, _numerator.premise("the previous display")),
        (
            1 / _H,
            _positive,
            Premise(_bound, r"$F_0\ge F_*$"),
            Premise(_H - _low, r"$H_T\ge2\eta(\sqrt{T+1}-1)$"),
        ),
    ],
    when={"fading": 1},
)
SCHEDULE_PROOF = Proof(
    "schedules",
    "Schedules of the step size and the radius",
    (corrected.SCHEDULED_RADIUS, corrected.SCHEDULED),
    r"As in `smooth` with $\lambda=0$, but with $\eta_t\le1/L$ and $\rho_t$ varying; $\rho_0=0$ "
    r"because the first step has no perturbation.",
    (_weighted, _constant, _root_step, _series, _numerator, _scheduled),
)
