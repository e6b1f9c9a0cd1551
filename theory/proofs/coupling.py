"""Two runs on neighbouring samples: Lemma 1, uniform stability, and Theorem 1, corrected."""

__all__ = ["EXCESS_PROOF", "LEMMA1_PROOF", "STABILITY_PROOF"]

from sympy import Expr, Integer, Symbol

from theory import corrected
from theory.proofs.inner import Vector, dot, gram, square
from theory.proofs.steps import Cited, Identity, Inequality, NormSquare, Premise, Proof
from theory.statements import Statement
from theory.symbols import B, Fstar, L, delta, eta, lam, n, rho

_next, _q, _e, _r = (Symbol(x, nonnegative=True) for x in (r"\delta_{t+1}", "q", "e", "r"))
_contracting = Premise(1 - eta * lam, r"$\eta\lambda\le1$")
_triangle = Premise(
    (1 - eta * lam) * delta + eta * _q - _next, r"triangle inequality, $\eta\lambda\le1$"
)
_apart = Premise(delta + 2 * rho - _e, r"$\|u-u'\|\le\|w-w'\|+\|\varepsilon\|+\|\varepsilon'\|$")

_w, _w2, _g, _g2 = (Vector.named(x) for x in ("w", "w'", "g", "g'"))
_difference = Identity(
    r"$w_{t+1}-w'_{t+1}=(1-\eta\lambda)(w-w')-\eta(g-g')$, $g=\nabla\ell(u)$, $g'=\nabla\ell(u')$.",
    square(
        (_w - eta * (_g + lam * _w))
        - (_w2 - eta * (_g2 + lam * _w2))
        - ((1 - eta * lam) * (_w - _w2) - eta * (_g - _g2))
    ),
    Integer(0),
    shown=r"\|(w-\eta(g+\lambda w))-(w'-\eta(g'+\lambda w'))"
    r"-((1-\eta\lambda)(w-w')-\eta(g-g'))\|^2=0",
)
_equal = Inequality(
    r"Equal samples: with $q=\|g-g'\|\le L\|u-u'\|$ and $e=\|u-u'\|\le\delta+2\rho$. The factor "
    r"$L$ of the last term comes from here; the printed $2\eta\rho$ has lost it.",
    _next,
    corrected.LEMMA1.right,
    [
        (_triangle,),
        (eta, Premise(L * _e - _q, r"$L$-smoothness of $\ell$")),
        (eta * L, _apart),
    ],
    when={"equal": 1},
)
_other = Inequality(
    r"Different samples: $q\le2B$.",
    _next,
    corrected.LEMMA1_OTHER.right,
    [(_triangle,), (eta, Premise(2 * B - _q, r"$\ell$ is $B$-Lipschitz"))],
    when={"equal": 0},
)
_d, _h = Vector.named("d"), Vector.named("h")
_nonexpansive = Inequality(
    r"Convex loss, equal samples: with $d=w-w'$ and $h=\nabla\ell(w)-\nabla\ell(w')$ (at the "
    r"unperturbed weights), $\|(1-\eta\lambda)d-\eta h\|\le(1-\eta\lambda)\|d\|$.",
    square((1 - eta * lam) * _d - eta * _h),
    (1 - eta * lam) ** 2 * square(_d),
    [
        (
            2 * eta,
            _contracting,
            Premise(dot(_d, _h) - gram("h", "h") / L, r"co-coercivity (Baillon-Haddad)"),
        ),
        (
            eta,
            Premise(2 * (1 - eta * lam) / L - eta, r"$\eta(L+2\lambda)\le2$"),
            NormSquare(_h),
        ),
    ],
    when={"equal": 1, "convex": 1},
)
_convex = Inequality(
    r"The gradients are taken at $u,u'$ instead, which costs "
    r"$r=\eta\|\nabla\ell(u)-\nabla\ell(w)\|+\eta\|\nabla\ell(u')-\nabla\ell(w')\|\le2\eta L\rho$.",
    _next,
    corrected.LEMMA1_CONVEX.right,
    [
        (
            Premise(
                (1 - eta * lam) * delta + _r - _next, "triangle inequality and the previous display"
            ),
        ),
        (Premise(2 * eta * L * rho - _r, r"$L$-smoothness of $\ell$"),),
    ],
    when={"equal": 1, "convex": 1},
)
LEMMA1_PROOF = Proof(
    "lemma1",
    "Lemma 1: one step from two points",
    (corrected.LEMMA1, corrected.LEMMA1_OTHER, corrected.LEMMA1_CONVEX),
    r"$\delta=\|w-w'\|$, $\delta_{t+1}=\|w_{t+1}-w'_{t+1}\|$, $u=w+\varepsilon$, "
    r"$u'=w'+\varepsilon'$ with $\|\varepsilon\|,\|\varepsilon'\|\le\rho$.",
    (_difference, _equal, _other, _nonexpansive, _convex),
)

_met = Symbol("p", nonnegative=True)
_combined_right = (1 - eta * (lam - L)) * delta + 2 * eta * L * rho * (n - 1) / n + 2 * eta * B / n


def _mixed(equal: Statement) -> Expr:
    """E delta_{t+1} from the two lemmas: linear in the distance, so it takes the means' parts."""
    shrink, other = equal.right.coeff(delta), corrected.LEMMA1_OTHER.right.coeff(delta)
    rest, other_rest = (x.subs(delta, 0) for x in (equal.right, corrected.LEMMA1_OTHER.right))
    return shrink * (delta - _met) + rest * (1 - 1 / n) + other * _met + other_rest / n


_recursion = Premise.quoting(
    _mixed(corrected.LEMMA1) - _next,
    "`lemma1_equal` and `lemma1_different`, in expectation over the example",
    corrected.LEMMA1,
    corrected.LEMMA1_OTHER,
)
_combined = Inequality(
    r"The replaced example is met at step $t$ with probability $1/n$. Let $\delta=\mathbb{E}"
    r"\delta_t$ and $p$ the part of it from the runs that meet it at step $t$, $0\le p\le\delta$; "
    r"$p=\delta/n$ if examples are drawn with replacement, but no value is needed: the bound holds "
    r"for reshuffled epochs too.",
    _next,
    _combined_right,
    [(_recursion,), (eta * L * _met,)],
)
_batch = Cited(
    r"A minibatch of $b$ examples drawn with replacement gives the same recursion: if it contains "
    r"the replaced example $K$ times, the triangle inequality per example gives $(1-K/b)$ times "
    r"the first bound plus $K/b$ times the second, and $\mathbb{E}K/b=1/n$.",
    "expectation over the indices drawn",
)
_K = Symbol("K", nonnegative=True)
_fixed = (2 * L * rho * (n - 1) / n + 2 * B / n) / (lam - L)
_rate = Premise(1 - eta * (lam - L), r"$\eta\lambda\le1$")
_invariant = Inequality(
    r"Induction for $\mathbb{E}\delta_t\le\bar\delta=\frac{2L\rho(n-1)/n+2B/n}{\lambda-L}$ "
    r"($\delta_0=0$).",
    _next,
    _fixed,
    [
        (Premise(_combined_right - _next, "the previous display"),),
        (_rate, Premise(_fixed - delta, "the claim for $t$")),
    ],
    when={"contracting": 1},
)
_loss = Inequality(
    r"The losses of the two runs differ by $\kappa\le B\,\mathbb{E}\delta_T$.",
    _K,
    corrected.STABILITY.right,
    [(Premise(B * delta - _K, r"$\ell$ is $B$-Lipschitz"),), (B, Premise(_fixed - delta, "claim"))],
    when={"contracting": 1},
)
_convex_right = (1 - eta * lam) * delta + 2 * eta * L * rho * (n - 1) / n + 2 * eta * B / n
_convex_mixture = Inequality(
    r"Convex loss: both bounds shrink $\delta_t$ by $1-\eta\lambda$, so their mixture does.",
    _next,
    _convex_right,
    [
        (
            Premise.quoting(
                _mixed(corrected.LEMMA1_CONVEX) - _next,
                "`lemma1_equal_convex` and `lemma1_different`, in expectation over the example",
                corrected.LEMMA1_CONVEX,
                corrected.LEMMA1_OTHER,
            ),
        )
    ],
    when={"convex": 1},
)
_convex_fixed = (2 * L * rho * (n - 1) / n + 2 * B / n) / lam
_convex_invariant = Inequality(
    r"Induction for $\mathbb{E}\delta_t\le\bar\delta=\frac{2L\rho(n-1)/n+2B/n}{\lambda}$, "
    r"$\lambda>0$.",
    _next,
    _convex_fixed,
    [
        (Premise(_convex_right - _next, "the previous display"),),
        (_contracting, Premise(_convex_fixed - delta, "the claim for $t$")),
    ],
    when={"convex": 1},
)
_convex_loss = Inequality(
    r"Convex loss: $\kappa\le B\,\mathbb{E}\delta_T$.",
    _K,
    corrected.CONVEX_STABILITY.right,
    [
        (Premise(B * delta - _K, r"$\ell$ is $B$-Lipschitz"),),
        (B, Premise(_convex_fixed - delta, "claim")),
    ],
    when={"convex": 1},
)
_gap = Cited(
    r"Uniform stability $\kappa$ bounds the expected generalization gap by $\kappa$.",
    "Bousquet and Elisseeff 2002; Hardt, Recht and Singer 2016, Theorem 2.2",
)
STABILITY_PROOF = Proof(
    "stability",
    "Uniform stability, and the generalization gap",
    (corrected.STABILITY, corrected.CONVEX_STABILITY),
    r"Two runs with the same indices on samples that differ in one example; Lemma 1 at each step.",
    (
        _combined,
        _batch,
        _invariant,
        _loss,
        _convex_mixture,
        _convex_invariant,
        _convex_loss,
        _gap,
    ),
)

_x, _dg = Vector.named("x"), Vector.named("p")
_strong = Inequality(
    r"Any $L$-smooth $F$: with $x=w-w'$ and $p=\nabla F(w)-\nabla F(w')$, "
    r"$\langle p+\lambda x,x\rangle\ge(\lambda-L)\|x\|^2$, so at $\lambda=2L$ the objective "
    r"$F_\lambda$ is $L$-strongly convex and $3L$-smooth: its condition number is at most 3.",
    (lam - L) * square(_x),
    dot(_dg + lam * _x, _x),
    [(Premise(dot(_dg, _x) + L * square(_x), "Cauchy-Schwarz and $L$-smoothness"),)],
)
_strong_pl = Cited(
    r"$L$-strong convexity gives $\|\nabla F_\lambda\|^2\ge2L(F_\lambda-F_*)$.", "textbook"
)
_S, _mean, _pop, _best = (
    Symbol("S", nonnegative=True),
    Symbol("EF", real=True),
    Symbol("EF_pop", real=True),
    Symbol(r"\min F_{\rm pop}", real=True),
)
_excess = Inequality(
    r"$S=\frac1T\sum\mathbb{E}\|\nabla F_\lambda(w_t)\|^2$, $EF=\mathbb{E}F_\lambda(w_R)$, "
    r"$EF_{pop}=\mathbb{E}F_{{\rm pop},\lambda}(w_R)$, "
    r"$\min F_{\rm pop}=\min F_{{\rm pop},\lambda}$.",
    _pop - _best,
    corrected.EXCESS.right,
    [
        (
            Premise.quoting(
                _mean + corrected.STABILITY.right.subs(lam, 2 * L) - _pop,
                "uniform stability",
                corrected.STABILITY,
            ),
        ),
        (1 / (2 * L), Premise(_S - 2 * L * (_mean - Fstar), "PL, averaged")),
        (
            1 / (2 * L),
            Premise.quoting(
                corrected.WEIGHT_DECAY.right.subs(lam, 2 * L) - _S,
                "`weight_decay`",
                corrected.WEIGHT_DECAY,
            ),
        ),
        (Premise(_best - Fstar, r"$\mathbb{E}\min F_\lambda\le\min F_{{\rm pop},\lambda}$"),),
    ],
)
EXCESS_PROOF = Proof(
    "excess",
    "Theorem 1, corrected",
    (corrected.EXCESS,),
    r"$\lambda=2L$, $\eta\le1/(3L)$. The objective is $F_\lambda$, not $F$.",
    (_strong, _strong_pl, _excess),
)
