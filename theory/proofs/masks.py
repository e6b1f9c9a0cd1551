"""Dynamic masks: the descent bound when pruning and growing make the loss jump."""

__all__ = ["MASKS_PROOF"]

from sympy import Symbol

from theory import beyond
from theory.proofs.steps import Cited, Inequality, Premise, Proof
from theory.symbols import F0, Fstar, J, L, T, eta, rho, sigma

_S, _G = Symbol("S_T", nonnegative=True), Symbol("G_T", nonnegative=True)
_fT, _before, _fT1 = (Symbol(x, real=True) for x in ("F_T", "F_{T+1}^-", "F_{T+1}"))
_jump = Symbol("j", real=True)
_error = eta / 2 * L**2 * rho**2 + eta**2 * L * sigma**2 / 2
_restricted = Cited(
    r"Between two changes the mask $M$ is fixed by the past, and weights, perturbation and "
    r"gradients "
    r"live on its coordinates: the run is one of S2-SAM on $F$ restricted to them, whose gradient "
    r"is "
    r"$M\nabla F$ and whose constants are those of the active coordinates. So the descent "
    r"inequality "
    r"of `smooth` holds there.",
    "restriction to a subspace; the inequality is held against runs with changing masks",
)
_claim = Premise(F0 + J + T * _error - eta / 2 * _S - _fT, "the claim for $T$")
_induction = Inequality(
    r"Induction on $T$ for $\frac\eta2S_T+\mathbb{E}F(w_T)\le F_0+J+Te$, with $S_T=\sum_{t<T}"
    r"\mathbb{E}\|M_t\nabla F(w_t)\|^2$, $J$ the jumps $F(w)-F(w^-)$ at the changes so far, "
    r"$F_{T+1}^-$ before and $F_{T+1}$ after the change, if any, that follows step $T$: $j$ is its "
    r"jump.",
    eta / 2 * (_S + _G) + _fT1,
    F0 + J + _jump + (T + 1) * _error,
    [
        (_claim,),
        (
            Premise(
                _fT + _error - eta / 2 * _G - _before,
                "the descent inequality of `smooth`, on the active coordinates",
            ),
        ),
        (Premise(_before + _jump - _fT1, "the jump's definition (an equality)"),),
    ],
)
_final = Inequality(
    r"Use $\mathbb{E}F(w_T)\ge F_*$ and divide by $\eta T/2$.",
    _S / T,
    beyond.DYNAMIC_MASKS.right,
    [
        (2 / (eta * T), _claim),
        (2 / (eta * T), Premise(_fT - Fstar, r"$F_*=\inf F$")),
    ],
)
MASKS_PROOF = Proof(
    "masks",
    "Dynamic masks",
    (beyond.DYNAMIC_MASKS,),
    r"$u_t=w_t+\varepsilon_t$, $\|\varepsilon_t\|\le\rho$, $w_{t+1}^-=w_t-\eta M_tg_t$; a change "
    r"of "
    r"the mask sets what it prunes to 0: $w_{t+1}=M_{t+1}w_{t+1}^-$.",
    (_restricted, _induction, _final),
)
