"""Uniform stability of order 1/n at a constant radius, for a perturbation that is continuous.

g / |g| turns round where g passes 0, so two runs that differ in one example must be assumed to be
perturbed in opposite directions for ever: that is where the 6 rho comes from that does not vanish.
rho g / max(|g|, gamma) is rho / gamma-Lipschitz, and two runs stay together.
"""

__all__ = ["CLIPPED_PROOF"]

from sympy import Symbol

from theory import beyond
from theory.proofs.inner import Vector, dot, gram, square
from theory.proofs.steps import Cited, Inequality, NormSquare, Premise, Proof
from theory.symbols import B, L, delta, eta, gamma, lam, n, rho

_kappa = rho * L / gamma
_next, _e, _e_next, _q = (
    Symbol(x, nonnegative=True) for x in (r"\delta_{t+1}", "e", "e_{t+1}", "q")
)
_d, _h = Vector.named("d"), Vector.named("h")
_contracting = Premise(1 - eta * lam, r"$\eta\lambda\le1$")

_nonexpansive = Inequality(
    r"Convex loss, equal samples: shift both points by the *same* $\varepsilon_t$. With $d=w-w'$ "
    r"and "
    r"$h=\nabla\ell(w+\varepsilon)-\nabla\ell(w'+\varepsilon)$, "
    r"$\|(1-\eta\lambda)d-\eta h\|\le(1-\eta\lambda)\|d\|$.",
    square((1 - eta * lam) * _d - eta * _h),
    (1 - eta * lam) ** 2 * square(_d),
    [
        (
            2 * eta,
            _contracting,
            Premise(dot(_d, _h) - gram("h", "h") / L, "co-coercivity (Baillon-Haddad)"),
        ),
        (
            eta,
            Premise(2 * (1 - eta * lam) / L - eta, r"$\eta(L+2\lambda)\le2$"),
            NormSquare(_h),
        ),
    ],
    when={"equal": 1, "convex": 1},
)
_same = Inequality(
    r"What is left is $\eta\|\nabla\ell(w'+\varepsilon)-\nabla\ell(w'+\varepsilon')\|\le\eta Le$, "
    r"$e=\|\varepsilon-\varepsilon'\|$.",
    _next,
    (1 - eta * lam) * delta + eta * L * _e,
    [
        (
            Premise(
                (1 - eta * lam) * delta + eta * L * _e - _next,
                "triangle inequality, the previous display and $L$-smoothness",
            ),
        )
    ],
    when={"equal": 1, "convex": 1},
)
_perturbed = Inequality(
    r"$x\mapsto\rho x/\max(\|x\|,\gamma)$ is $\rho/\gamma$ times the projection on a ball, so with "
    r"$q=\|g-g'\|$ the perturbations of the next step differ by "
    r"$e_{t+1}\le\frac\rho\gamma q\le\kappa(\delta+e)$, $\kappa=\rho L/\gamma$.",
    _e_next,
    _kappa * (delta + _e),
    [
        (Premise(rho / gamma * _q - _e_next, "a projection is non-expansive"),),
        (rho / gamma, Premise(L * (delta + _e) - _q, r"$L$-smoothness of $\ell$")),
    ],
    when={"equal": 1},
)
_different = Cited(
    r"Different samples: $\delta_{t+1}\le(1-\eta\lambda)\delta+2\eta B$ and $e_{t+1}\le2\rho$. "
    r"That happens with probability $1/n$; both bounds on $\delta_{t+1}$ shrink $\delta$ alike (in "
    r"the non-convex case the other one shrinks it less), so in expectation the two recursions "
    r"below hold, whatever the order of the examples.",
    "linearity of expectation; the recursions are held against runs",
)
_E_delta, _E_e = Symbol("Ed", nonnegative=True), Symbol("Ee", nonnegative=True)
_Ed_next, _Ee_next = Symbol("Ed_{t+1}", nonnegative=True), Symbol("Ee_{t+1}", nonnegative=True)


def _parts(convex: bool) -> tuple[Inequality, ...]:
    """The invariant and the gap, for a convex loss or any."""
    drag = lam if convex else lam - L
    kind = "Convex loss" if convex else "Any loss"
    statement = beyond.STABILITY_CLIPPED_CONVEX if convex else beyond.STABILITY_CLIPPED
    when = {"convex_run" if convex else "any_run": 1.0}
    fixed = statement.right / B
    fixed_e = (_kappa * fixed + 2 * rho / n) / (1 - _kappa)
    shrink = Premise(1 - eta * drag, r"$\eta\lambda\le1$")
    delta_claim = Premise(fixed - _E_delta, r"the claim for $t$")
    e_claim = Premise(fixed_e - _E_e, r"the claim for $t$")
    recursion = (1 - eta * drag) * _E_delta + eta * L * _E_e + 2 * eta * B / n
    recursion_e = _kappa * (_E_delta + _E_e) + 2 * rho / n
    distance = Inequality(
        rf"{kind}: induction for $\mathbb{{E}}\delta_t\le\bar\delta$ and $\mathbb{{E}}e_t\le\bar e"
        r"=(\kappa\bar\delta+2\rho/n)/(1-\kappa)$ together: the distance,",
        _Ed_next,
        fixed,
        [
            (Premise(recursion - _Ed_next, "the recursion of the distance"),),
            (shrink, delta_claim),
            (eta * L, e_claim),
        ],
        when=when,
    )
    perturbation = Inequality(
        r"and the perturbations' difference.",
        _Ee_next,
        fixed_e,
        [
            (Premise(recursion_e - _Ee_next, "the recursion of the perturbations"),),
            (_kappa, delta_claim),
            (_kappa, e_claim),
        ],
        when=when,
    )
    gap = Symbol("K", nonnegative=True)
    loss = Inequality(
        rf"{kind}: the losses of the two runs differ by $B\,\mathbb{{E}}\delta_T$ at most, which "
        r"bounds the gap (Bousquet and Elisseeff 2002; Hardt, Recht and Singer 2016).",
        gap,
        statement.right,
        [(Premise(B * _E_delta - gap, r"$\ell$ is $B$-Lipschitz"),), (B, delta_claim)],
        when=when,
    )
    return distance, perturbation, loss


CLIPPED_PROOF = Proof(
    "clipped",
    "Uniform stability of order 1/n at a constant radius",
    (beyond.STABILITY_CLIPPED_CONVEX, beyond.STABILITY_CLIPPED),
    r"$\varepsilon_{t+1}=\rho g_t/\max(\|g_t\|,\gamma)$, $\kappa=\rho L/\gamma<1$; two runs with "
    r"the "
    r"same indices on samples that differ in one example, $\delta=\|w_t-w_t'\|$, "
    r"$e=\|\varepsilon_t-\varepsilon_t'\|$, $Ed$ and $Ee$ their expectations.",
    (_nonexpansive, _same, _perturbed, _different, *_parts(True), *_parts(False)),
)
