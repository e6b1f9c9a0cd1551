"""Smooth and PL bounds, with weight decay: one descent inequality, then two ways to sum it.

Weight decay is carried through (lambda = 0 gives the bounds without it), because the argument is
the same: the step is taken along grad F(u_t) + lambda w_t, which differs from grad F_lambda(w_t)
by grad F(u_t) - grad F(w_t) only, so the error stays L rho although F_lambda is smooth with
L + lambda.
"""

__all__ = [
    "DESCENT",
    "IN_EXPECTATION",
    "PERTURBATION",
    "PL_PROOF",
    "SMOOTH_PROOF",
    "descent_inequality",
]

from sympy import Symbol

from theory import corrected
from theory.proofs.inner import Vector, dot, gram, square
from theory.proofs.steps import Cited, Identity, Inequality, Premise, Proof
from theory.symbols import F0, Fstar, L, T, eta, lam, mu, rho, sigma

_f, _f_next = Symbol("F_t", real=True), Symbol("F_{t+1}", real=True)
_a, _v, _noise = Vector.named("a"), Vector.named("v"), Vector.named("n")
_L = L + lam

_polarization = Identity(
    r"Polarization, with $a=\nabla F_\lambda(w_t)$ and $v=\nabla F(u_t)+\lambda w_t$.",
    2 * dot(_a, _v),
    square(_a) + square(_v) - square(_a - _v),
    shown=r"2\langle a,v\rangle=\|a\|^2+\|v\|^2-\|a-v\|^2",
)
_smoothness = Premise(
    _f - eta * dot(_a, _v + _noise) + _L * eta**2 / 2 * square(_v + _noise) - _f_next,
    r"$(L+\lambda)$-smoothness of $F_\lambda$ along $w_{t+1}-w_t=-\eta(v+n)$",
)
_unexpected = Inequality(
    r"Smoothness of $F_\lambda$ at $w_t$, $n=g_t-\nabla F(u_t)$ the noise, written out.",
    _f_next,
    _f
    - eta * (gram("a", "v") + gram("a", "n"))
    + _L * eta**2 / 2 * (gram("v", "v") + 2 * gram("n", "v") + gram("n", "n")),
    [(_smoothness,)],
)
_tower = Cited(
    r"Take the expectation given the past. $u_t$ depends on earlier samples only (the perturbation "
    r"is the previous gradient's), so $w_t$, $u_t$, $a$, $v$ are fixed and "
    r"$\mathbb{E}\langle a,n\rangle=\mathbb{E}\langle v,n\rangle=0$, "
    r"$\mathbb{E}\|n\|^2\le\sigma^2$. "
    r"For SAM with one batch this fails: there $u_t$ depends on the sample of step $t$.",
    "measurability and the tower property; the algebra that follows is checked with these values "
    "put in",
)
_expected = {gram("a", "n"): 0, gram("n", "v"): 0, gram("n", "n"): sigma**2}
IN_EXPECTATION = Premise(
    _unexpected.bigger.subs(_expected) - _f_next, "the previous display in expectation"
)
PERTURBATION = Premise(
    L**2 * rho**2 - square(_a - _v),
    r"$\|a-v\|=\|\nabla F(w_t)-\nabla F(u_t)\|\le L\|u_t-w_t\|\le L\rho$",
)
_step_size = Premise(1 - eta * _L, r"$\eta\le1/(L+\lambda)$")

_descent = Inequality(
    r"Descent inequality: insert the polarization and $\|a-v\|\le L\rho$.",
    _f_next + eta / 2 * gram("a", "a"),
    _f + eta / 2 * L**2 * rho**2 + eta**2 * _L * sigma**2 / 2,
    [
        (IN_EXPECTATION,),
        (eta / 2, PERTURBATION),
        (eta / 2, _step_size, gram("v", "v")),
    ],
)


def descent_inequality() -> Inequality:
    """E F_lambda(w_{t+1}) + eta |grad|^2 / 2 <= F_lambda(w_t) + error of one step."""
    return _descent


_error = eta / 2 * L**2 * rho**2 + eta**2 * _L * sigma**2 / 2
_sum, _new = Symbol("S_T", nonnegative=True), Symbol("G_T", nonnegative=True)
_fT, _fT1 = Symbol("F_T", real=True), Symbol("F_{T+1}", real=True)
_claim = Premise(F0 + T * _error - eta / 2 * _sum - _fT, "the claim for $T$")

_telescoping = Inequality(
    r"Induction on $T$ for the claim $\frac\eta2S_T+\mathbb{E}F_\lambda(w_T)\le F_0+T\,e$ with "
    r"$S_T=\sum_{t<T}\mathbb{E}\|\nabla F_\lambda(w_t)\|^2$, "
    r"$G_T=\mathbb{E}\|\nabla F_\lambda(w_T)\|^2$ and $e$ the error of one step: from $T$ to "
    r"$T+1$ ($T=0$ is $F_0\le F_0$).",
    eta / 2 * (_sum + _new) + _fT1,
    F0 + (T + 1) * _error,
    [
        (_claim,),
        (
            _descent.premise(
                "the descent inequality", {_f: _fT, _f_next: _fT1, gram("a", "a"): _new}
            ),
        ),
    ],
)
_average = Inequality(
    r"Use $\mathbb{E}F_\lambda(w_T)\ge F_*$ and divide by $\eta T/2$.",
    _sum / T,
    corrected.WEIGHT_DECAY.right,
    [
        (2 / (eta * T), _claim),
        (2 / (eta * T), Premise(_fT - Fstar, r"$F_*=\inf F_\lambda$")),
    ],
)
_no_decay = Inequality(
    r"For $\lambda=0$, where $F_\lambda=F$:",
    _sum / T,
    corrected.SMOOTH.right,
    [(_average.premise(r"the previous display at $\lambda=0$", {lam: 0}),)],
    when={"lambda": 0},
)

_gap, _gap_next = Symbol("D_t", nonnegative=True), Symbol("D_{t+1}", nonnegative=True)
_pl = Premise(gram("a", "a") - 2 * mu * _gap, r"PL: $\|\nabla F_\lambda\|^2\ge2\mu(F_\lambda-F_*)$")
_contraction = Inequality(
    r"With $D_t=\mathbb{E}F_\lambda(w_t)-F_*$, PL turns the descent inequality into a contraction.",
    _gap_next,
    (1 - eta * mu) * _gap + _error,
    [
        (
            _descent.premise(
                "the descent inequality", {_f: _gap + Fstar, _f_next: _gap_next + Fstar}
            ),
        ),
        (eta / 2, _pl),
    ],
)
_geometric = (1 - eta * mu) ** T * (F0 - Fstar) + _error * (1 - (1 - eta * mu) ** T) / (eta * mu)
_gapT, _gapT1 = Symbol("D_T", nonnegative=True), Symbol("D_{T+1}", nonnegative=True)
_rate = Premise(1 - eta * mu, r"$\mu\le L+\lambda\le1/\eta$")
_induction = Inequality(
    r"Induction on $T$ for $D_T\le q^T(F_0-F_*)+e\,(1-q^T)/(1-q)$, $q=1-\eta\mu\ge0$: from $T$ to "
    r"$T+1$ ($T=0$ is an equality).",
    _gapT1,
    _geometric.subs(T, T + 1),
    [
        (_contraction.premise("the contraction", {_gap: _gapT, _gap_next: _gapT1}),),
        (_rate, Premise(_geometric - _gapT, "the claim for $T$")),
    ],
)
_power = Premise((1 - eta * mu) ** T, r"$q^T\ge0$")
_last_iterate = Inequality(
    r"Drop $-e\,q^T/(1-q)\le0$.",
    _gapT,
    corrected.PL_DECAY.right,
    [
        (Premise(_geometric - _gapT, "the claim for $T$"),),
        (_error / (eta * mu), _power),
    ],
)
_pl_no_decay = Inequality(
    r"For $\lambda=0$:",
    _gapT,
    corrected.PL.right,
    [(_last_iterate.premise(r"the previous display at $\lambda=0$", {lam: 0}),)],
    when={"lambda": 0},
)

DESCENT = (_polarization, _unexpected, _tower, _descent)
_SETTING = (
    r"$w_{t+1}=w_t-\eta(g_t+\lambda w_t)$, $u_t=w_t+\varepsilon_t$ with $\|\varepsilon_t\|\le\rho$ "
    r"fixed by the past, $g_t=\nabla F(u_t)+n$. $F_\lambda=F+\frac\lambda2\|w\|^2$ is "
    r"$(L+\lambda)$-smooth, and $a-v=\nabla F(w_t)-\nabla F(u_t)$: the decay cancels because it "
    r"acts on the unperturbed weights."
)
SMOOTH_PROOF = Proof(
    "smooth",
    "Smooth non-convex objectives, with and without weight decay",
    (corrected.SMOOTH, corrected.WEIGHT_DECAY),
    _SETTING,
    (*DESCENT, _telescoping, _average, _no_decay),
)
PL_PROOF = Proof(
    "pl",
    "Polyak-Lojasiewicz objectives, last iterate",
    (corrected.PL, corrected.PL_DECAY),
    _SETTING + r" $F_\lambda$ is $\mu$-PL; $\mu\le L+\lambda$ always holds then, since "
    r"$\|\nabla F_\lambda\|^2\le2(L+\lambda)(F_\lambda-F_*)$.",
    (*DESCENT, _contraction, _induction, _last_iterate, _pl_no_decay),
)
