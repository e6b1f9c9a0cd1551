"""Momentum at practical steps: an energy for the buffer, with the noise stripped from it.

The buffer is split, m = p + s, into what gradients and what noise put into it. y_t = w_t - alpha
beta s_t (alpha = eta / (1 - beta)) moves by y_{t+1} = y_t - eta p_{t+1} - alpha n_t: the noise in
the buffer is gone, and F_lambda(y) + (eta / 2) kappa |p|^2 is an energy that descends.
"""

__all__ = ["PRACTICAL_PROOF"]

from sympy import Integer, Matrix, Symbol, simplify, solve, symbols

from theory import beyond
from theory.proofs.inner import Vector, dot, gram, square
from theory.proofs.steps import Cited, Identity, Inequality, NormSquare, Premise, Proof
from theory.symbols import F0, Fstar, L, T, beta, eta, lam, rho, sigma

_Lam = L + lam
_b = Symbol("beta", positive=True)
_alpha = Symbol("alpha", positive=True)
_theta, _phi = (1 - _b) / 2, _b * (1 - _b) / 2
_kappa = _b * (1 + _b) / 2
_w, _p, _s, _n, _v, _a, _k = (Vector.named(x) for x in ("w", "p", "s", "n", "v", "a", "k"))
_room = Premise(1 - _b - eta * _Lam, r"$\eta\le(1-\beta)/(L+\lambda)$")

_eta_of_alpha = _alpha * (1 - _b)
_p_next, _s_next = _b * _p + _v, _b * _s + _n
_shift = Identity(
    r"With $m=p+s$, $p_{t+1}=\beta p_t+v_t$, $s_{t+1}=\beta s_t+n_t$, $\eta=\alpha(1-\beta)$ and "
    r"$y_t=w_t-\alpha\beta s_t$: $y_{t+1}=y_t-\eta p_{t+1}-\alpha n_t$.",
    square(
        (_w - _eta_of_alpha * (_p_next + _s_next) - _alpha * _b * _s_next)
        - (_w - _alpha * _b * _s - _eta_of_alpha * _p_next - _alpha * _n)
    ),
    Integer(0),
    shown=r"\|y_{t+1}-(y_t-\eta p_{t+1}-\alpha n_t)\|^2=0",
)
_tower = Cited(
    r"Expectation given the past: $w_t,y_t,p_t,s_t,u_t$ are fixed by earlier samples, so "
    r"$\mathbb{E}\langle\cdot,n\rangle=0$ with each of them and with $v_t$, and "
    r"$\mathbb{E}\|n\|^2\le\sigma^2$.",
    "measurability and the tower property; the algebra that follows is checked with these values "
    "put in",
)
_old = Premise(sigma**2 / (1 - _b**2) - gram("s", "s"), r"the claim for $t$ ($s_0=0$)")
_buffer = Inequality(
    r"The noise in the buffer: by induction $\mathbb{E}\|s_t\|^2\le\sigma^2/(1-\beta^2)$.",
    _b**2 * gram("s", "s") + gram("n", "n"),
    sigma**2 / (1 - _b**2),
    [(_b**2, _old), (Premise(sigma**2 - gram("n", "n"), r"variance at most $\sigma^2$"),)],
)
_polarization = Identity(
    r"Polarization for a step along the buffer, $a=\nabla F_\lambda(w_t)$, "
    r"$p_{t+1}=\beta p_t+v_t$.",
    2 * dot(_a, _p_next),
    square(_a) - square(_a - _v) + square(_p_next) - _b**2 * square(_p) - 2 * _b * dot(_v - _a, _p),
    shown=r"2\langle a,p_{t+1}\rangle=\|a\|^2-\|a-v\|^2+\|p_{t+1}\|^2-\beta^2\|p_t\|^2"
    r"-2\beta\langle v-a,p_t\rangle",
)
_young_p = Inequality(
    r"Young, with the weight $\theta=(1-\beta)/2$.",
    2 * dot(_v - _a, _p),
    _theta * square(_p) + square(_a - _v) / _theta,
    [(Premise(1 / (1 - _b), r"$\beta<1$"), Integer(2), NormSquare(_v - _a - _theta * _p))],
)
_young_k = Inequality(
    r"Young for $k=\nabla F_\lambda(y_t)$, with the weight $\varphi=\beta(1-\beta)/2$ (for "
    r"$\beta=0$, $k=a$ and the term is absent).",
    2 * dot(_a - _k, _p_next),
    _phi * square(_p_next) + square(_a - _k) / _phi,
    [
        (
            Premise(1 / (1 - _b), r"$\beta<1$"),
            2 / _b,
            NormSquare(_a - _k - _phi * _p_next),
        )
    ],
)
_f, _f_next = Symbol("F(y_{t})", real=True), Symbol("F(y_{t+1})", real=True)
_smoothness = Premise(
    _f
    - eta * dot(_k, _p_next)
    + _Lam / 2 * (eta**2 * square(_p_next) + eta**2 * sigma**2 / (1 - _b) ** 2)
    - _f_next,
    r"smoothness of $F_\lambda$ along $y_{t+1}-y_t=-\eta p_{t+1}-\alpha n$, in expectation",
)
_perturbation = Premise(
    L**2 * rho**2 - square(_a - _v), r"$\|a-v\|=\|\nabla F(w_t)-\nabla F(u_t)\|\le L\rho$"
)
_drift = Premise(
    _Lam**2 * eta**2 * _b**2 / (1 - _b) ** 2 * gram("s", "s") - square(_a - _k),
    r"$\|a-k\|\le(L+\lambda)\|w_t-y_t\|=(L+\lambda)\alpha\beta\|s_t\|$",
)
_error = (
    L**2 * rho**2 * (1 + _b) / (1 - _b)
    + 2 * _Lam**2 * eta**2 * _b * sigma**2 / ((1 - _b) ** 4 * (1 + _b))
    + _Lam * eta * sigma**2 / (1 - _b) ** 2
)
_energy = _kappa * eta / 2
_descent = Inequality(
    r"The energy $V_t=F_\lambda(y_t)+\frac\eta2\kappa\|p_t\|^2$, $\kappa=\beta(1+\beta)/2$: what "
    r"the "
    r"step condition leaves of $\|p_{t+1}\|^2$ has the coefficient $1-\beta-\eta(L+\lambda)\ge0$, "
    r"and $\beta^2+\beta\theta=\kappa$.",
    _f_next + _energy * square(_p_next) + eta / 2 * square(_a),
    _f + _energy * square(_p) + eta / 2 * _error,
    [
        (_smoothness,),
        (eta / 2, Premise(1 / (1 - _b), r"$\beta<1$"), 1 + _b, _perturbation),
        (eta / 2, _b, _young_p.premise("Young")),
        (eta / 2, _young_k.premise("Young")),
        (eta / 2, 2 / _b, Premise(1 / (1 - _b), r"$\beta<1$"), _drift),
        (
            eta**3 * _Lam**2 * _b,
            Premise(1 / (1 - _b) ** 3, r"$\beta<1$"),
            _old,
        ),
        (eta / 2, _room, NormSquare(_p_next)),
    ],
)
_S, _G = Symbol("S_T", nonnegative=True), Symbol("G_T", nonnegative=True)
_fT, _fT1 = Symbol("F(y_{T})", real=True), Symbol("F(y_{T+1})", real=True)
_pT, _pT1 = Symbol("p_T^2", nonnegative=True), Symbol("p_{T+1}^2", nonnegative=True)
_claim = Premise(
    F0 + T * eta / 2 * _error - _fT - _energy * _pT - eta / 2 * _S, "the claim for $T$"
)
_one = Premise(
    _fT + _energy * _pT + eta / 2 * _error - _fT1 - _energy * _pT1 - eta / 2 * _G,
    "the descent of the energy",
)
_induction = Inequality(
    r"Induction on $T$ ($V_0=F_0$, as $s_0=p_0=0$) for the descent summed over $t<T$.",
    _fT1 + _energy * _pT1 + eta / 2 * (_S + _G),
    F0 + (T + 1) * eta / 2 * _error,
    [(_claim,), (_one,)],
)
_final = Inequality(
    r"Use $\mathbb{E}F_\lambda(y_T)\ge F_*$, drop $\|p_T\|^2$, divide by $\eta T/2$.",
    _S / T,
    beyond.MOMENTUM_PRACTICAL.right.subs(beta, _b),
    [
        (2 / (eta * T), _claim),
        (2 / (eta * T), Premise(_fT - Fstar, r"$F_*=\inf F_\lambda$")),
        (2 / (eta * T), _energy, _pT),
    ],
)
_named = Inequality(
    r"In the notation of the claim ($\beta=0$: `weight_decay`).",
    _S / T,
    beyond.MOMENTUM_PRACTICAL.right,
    [(Premise((_final.bigger - _S / T).subs(_b, beta), "the previous display"),)],
)

_x = Symbol("a", positive=True)
_q = Matrix(2, 2, symbols("q_1 q_2 q_2 q_3"))
_step = Matrix([[1 - _x, -_b], [_x, _b]])
_lyapunov = _step.T * _q * _step + Matrix([[1, 0], [0, 0]]) - _q
_solution = solve([_lyapunov[0, 0], _lyapunov[0, 1], _lyapunov[1, 1]], list(set(_q)), dict=True)[0]
_total = simplify(_solution[_q[0, 0]])
_sum = Identity(
    r"How large may the step be? Scalar quadratic without noise and perturbation, $a=\eta h$, "
    r"$w_0=1$, $m_0=0$: $\sum_tw_t^2=Q_{11}$, $Q=A^\top QA+e_1e_1^\top$, in closed form.",
    _total,
    (1 - _b - _b**2 + _b**3 + 2 * _x * _b) / (_x * (1 - _b) * (2 * (1 + _b) - _x)),
)
_leading = Identity(
    r"$\sum_t\|\nabla F\|^2\le2(1-\beta)(F_0-F_*)/\eta$, the leading term of `momentum`, asks for "
    r"$aQ_{11}\le1-\beta$: for $a\le(1-\beta)^2(1+\beta)/(1+\beta^2)$, beyond it is impossible.",
    (_x * _total - (1 - _b)) * (1 - _b) * (2 * (1 + _b) - _x),
    (1 + _b**2) * _x - (1 - _b) ** 2 * (1 + _b),
)
_ours = Identity(
    r"$\sum_t\|\nabla F\|^2\le2(F_0-F_*)/\eta$, the leading term here, asks for $aQ_{11}\le1$: for "
    r"$a\le1-\beta^2$. So a step condition wider than this one by more than $1+\beta$ is "
    r"impossible.",
    (_x * _total - 1) * (1 - _b) * (2 * (1 + _b) - _x),
    (1 + _b) * (_x - (1 - _b**2)),
)
PRACTICAL_PROOF = Proof(
    "practical",
    "Momentum at practical steps",
    (beyond.MOMENTUM_PRACTICAL,),
    r"$d_t=v+n$, $v=\nabla F(u_t)+\lambda w_t$, $m_{t+1}=\beta m_t+d_t$, $w_{t+1}=w_t-\eta "
    r"m_{t+1}$, "
    r"$m_0=0$, $\alpha=\eta/(1-\beta)$; `sympy` treats $\beta>0$ where it divides by it.",
    (
        _shift,
        _tower,
        _buffer,
        _polarization,
        _young_p,
        _young_k,
        _descent,
        _induction,
        _final,
        _named,
        _sum,
        _leading,
        _ours,
    ),
)
