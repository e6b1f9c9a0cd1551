"""The statements that hold, each proved in ``theory.proofs``.

Notation: u_t = w_t + rho_t g_{t-1} / |g_{t-1}|, g_t the stochastic gradient at u_t (unbiased for
grad F(u_t) given the past, variance at most sigma^2), w_{t+1} = w_t - eta d_t with
d_t = g_t + lambda w_t, or m_{t+1} = beta m_t + d_t in place of d_t with momentum. The first step
has no perturbation. F_lambda = F + lambda |w|^2 / 2 is the objective that weight decay minimises.
"""

__all__ = [
    "CONVEX_STABILITY",
    "CORRECTED",
    "EXCESS",
    "LEMMA1",
    "LEMMA1_CONVEX",
    "LEMMA1_OTHER",
    "MOMENTUM",
    "PL",
    "PL_DECAY",
    "SCHEDULED",
    "SCHEDULED_RADIUS",
    "SMOOTH",
    "STABILITY",
    "WEIGHT_DECAY",
]

from sympy import Eq, Gt, Le, Lt, harmonic, log, sqrt, zeta
from sympy import Rational as R

from theory.statements import Assumption, Left, Statement
from theory.symbols import F0, B, Fstar, L, T, beta, c, delta, eta, lam, mu, n, rho, sigma

_AVERAGE = Left(r"\frac1T\sum_{t<T}\mathbb{E}\|\nabla F(w_t)\|^2", lambda record: record.gradient)
_AVERAGE_DECAY = Left(
    r"\frac1T\sum_{t<T}\mathbb{E}\|\nabla F_\lambda(w_t)\|^2",
    lambda record: record.gradient_decayed,
)
_WEIGHTED = Left(
    r"\frac{\sum_{t<T}\eta_t\,\mathbb{E}\|\nabla F(w_t)\|^2}{\sum_{t<T}\eta_t}",
    lambda record: record.gradient_weighted,
)
_EXCESS_LOSS = Left(r"\mathbb{E}[F(w_T)]-F_*", lambda record: record.value - record.infimum)
_EXCESS_DECAYED = Left(
    r"\mathbb{E}[F_\lambda(w_T)]-F_*", lambda record: record.value_decayed - record.infimum
)
_APART = Left(r"\|w_{t+1}-w'_{t+1}\|", lambda pair: pair.apart)
_GAP = Left(
    r"\left|\mathbb{E}[F_{\rm pop}(w_T)-F(w_T)]\right|",
    lambda sets: sets.population - sets.sample,
)
_NOISE = Assumption(
    r"$\mathbb{E}[g_t\mid\text{past}]=\nabla F(u_t)$ (examples drawn with replacement: the last "
    r"batches of a reshuffled epoch follow from the past), variance at most $\sigma^2$",
    properties=("unbiased", "variance"),
)
_IS_SMOOTH = Assumption(r"$F$ is $L$-smooth", properties=("smooth",))
_INFIMUM = Assumption(r"$F_*=\inf F>-\infty$", properties=("infimum",))
_DECAYED = Assumption(
    r"$F_0=F_\lambda(w_0)$, $F_*=\inf F_\lambda>-\infty$", properties=("infimum",)
)
_PL = Assumption(r"$\|\nabla F\|^2\ge 2\mu(F-F_*)$", properties=("pl",))
_LIPSCHITZ = Assumption(
    r"every $\ell(\cdot,z)$ is $B$-Lipschitz and $L$-smooth",
    properties=("lipschitz", "example smooth"),
)
_CONVEX = Assumption(r"$\ell(\cdot,z)$ convex", properties=("convex",))
_UNIFORM = Assumption(
    r"each step's example is each of the $n$ with probability $1/n$ (drawn with replacement, or "
    r"epochs reshuffled)"
)
_PLAIN = (Assumption(condition=Eq(lam, 0)), Assumption(condition=Eq(beta, 0)))
_NO_MOMENTUM = Assumption(condition=Eq(beta, 0))
_STEP = Assumption(r"$\eta\le 1/L$", Le(eta, 1 / L))
_STEP_DECAY = Assumption(r"$\eta\le 1/(L+\lambda)$", Le(eta, 1 / (L + lam)))
_SHRINKS = Assumption(r"$\eta\lambda\le1$", Le(eta, 1 / lam))
_RADIUS = Assumption(r"$\rho_0=0$, $\rho_t=\sqrt{c/t}$")

SMOOTH = Statement(
    name="smooth",
    title="Smooth, non-convex",
    where="corrects Appendix C's optimization bound",
    assumptions=(_IS_SMOOTH, _INFIMUM, _NOISE, _STEP, *_PLAIN),
    left=_AVERAGE,
    right=2 * (F0 - Fstar) / (eta * T) + L**2 * rho**2 + eta * L * sigma**2,
)

PL = Statement(
    name="pl",
    title="Polyak-Lojasiewicz, last iterate",
    where="corrects the optimization part of Theorem 1",
    assumptions=(_IS_SMOOTH, _INFIMUM, _PL, _NOISE, _STEP, *_PLAIN),
    left=_EXCESS_LOSS,
    right=(1 - eta * mu) ** T * (F0 - Fstar) + (L**2 * rho**2 + eta * L * sigma**2) / (2 * mu),
)

PL_DECAY = Statement(
    name="pl_decay",
    title="Polyak-Lojasiewicz with weight decay, last iterate",
    where="corrects the optimization part of Theorem 1",
    assumptions=(
        _IS_SMOOTH,
        Assumption(
            r"$F_\lambda$ is $\mu$-PL with infimum $F_*$; $F_0=F_\lambda(w_0)$",
            properties=("pl", "infimum"),
        ),
        _NOISE,
        _STEP_DECAY,
        _NO_MOMENTUM,
    ),
    left=_EXCESS_DECAYED,
    right=(1 - eta * mu) ** T * (F0 - Fstar)
    + (L**2 * rho**2 + eta * (L + lam) * sigma**2) / (2 * mu),
)

WEIGHT_DECAY = Statement(
    name="weight_decay",
    title="Smooth, non-convex, weight decay",
    where="corrects Appendix C's optimization bound; the objective is F_lambda, not F",
    assumptions=(_IS_SMOOTH, _DECAYED, _NOISE, _STEP_DECAY, _NO_MOMENTUM),
    left=_AVERAGE_DECAY,
    right=2 * (F0 - Fstar) / (eta * T) + L**2 * rho**2 + eta * (L + lam) * sigma**2,
)

MOMENTUM = Statement(
    name="momentum",
    title="Smooth, non-convex, heavy-ball momentum and weight decay",
    where="not in the paper; its experiments' kind of optimizer, at steps far below theirs",
    assumptions=(
        _IS_SMOOTH,
        _DECAYED,
        _NOISE,
        Assumption(r"$0\le\beta<1$", Lt(beta, 1)),
        Assumption(
            r"$\eta\le(1-\beta)^2/((1+\beta)(L+\lambda))$",
            Le(eta, (1 - beta) ** 2 / ((1 + beta) * (L + lam))),
        ),
    ),
    left=_AVERAGE_DECAY,
    right=2 * (1 - beta) * (F0 - Fstar) / (eta * T)
    + L**2 * rho**2
    + eta * (L + lam) * sigma**2 * (1 + beta) / (1 - beta),
)

SCHEDULED_RADIUS = Statement(
    name="scheduled_radius",
    title="Constant step, radius rho_t = sqrt(c/t)",
    where="the schedule of the paper's Remark 1, for which it states no bound",
    assumptions=(_IS_SMOOTH, _INFIMUM, _NOISE, _STEP, _RADIUS, *_PLAIN),
    left=_AVERAGE,
    right=2 * (F0 - Fstar) / (eta * T) + L**2 * c * harmonic(T) / T + eta * L * sigma**2,
    schedule="radius",
)

SCHEDULED = Statement(
    name="scheduled",
    title="Step eta_t = eta / sqrt(t+1), radius rho_t = sqrt(c/t)",
    where="the schedule of the paper's Remark 1, for which it states no bound",
    assumptions=(
        _IS_SMOOTH,
        _INFIMUM,
        _NOISE,
        _STEP,
        Assumption(r"$\eta_t=\eta/\sqrt{t+1}$"),
        _RADIUS,
        *_PLAIN,
    ),
    left=_WEIGHTED,
    right=(2 * (F0 - Fstar) / eta + L**2 * c * zeta(R(3, 2)) + L * eta * sigma**2 * (1 + log(T)))
    / (2 * (sqrt(T + 1) - 1)),
    schedule="both",
)

LEMMA1 = Statement(
    name="lemma1_equal",
    title="Lemma 1 corrected, equal samples",
    where="corrects Lemma 1",
    assumptions=(_LIPSCHITZ, _SHRINKS),
    left=_APART,
    right=(1 + eta * L - eta * lam) * delta + 2 * eta * L * rho,
)

LEMMA1_CONVEX = Statement(
    name="lemma1_equal_convex",
    title="Lemma 1 corrected, equal samples, convex loss",
    where="sharpens Lemma 1",
    assumptions=(
        _LIPSCHITZ,
        _CONVEX,
        Assumption(r"$\eta(L+2\lambda)\le2$", Le(eta, 2 / (L + 2 * lam))),
    ),
    left=_APART,
    right=(1 - eta * lam) * delta + 2 * eta * L * rho,
)

LEMMA1_OTHER = Statement(
    name="lemma1_different",
    title="Lemma 1 corrected, different samples",
    where="corrects Lemma 1",
    assumptions=(_LIPSCHITZ, _SHRINKS),
    left=_APART,
    right=(1 - eta * lam) * delta + 2 * eta * B,
)

STABILITY = Statement(
    name="stability",
    title="Generalization gap by uniform stability",
    where="corrects the last term of Appendix C's Theorem 1",
    assumptions=(_LIPSCHITZ, _UNIFORM, Assumption(r"$\lambda>L$", Gt(lam, L)), _SHRINKS),
    left=_GAP,
    right=B * (2 * L * rho * (n - 1) / n + 2 * B / n) / (lam - L),
)

CONVEX_STABILITY = Statement(
    name="stability_convex",
    title="Generalization gap by uniform stability, convex loss",
    where="sharpens the last term of Appendix C's Theorem 1",
    assumptions=(
        _LIPSCHITZ,
        _CONVEX,
        _UNIFORM,
        Assumption(r"$\lambda>0$", Gt(lam, 0)),
        Assumption(r"$\eta(L+2\lambda)\le2$", Le(eta, 2 / (L + 2 * lam))),
    ),
    left=_GAP,
    right=B * (2 * L * rho * (n - 1) / n + 2 * B / n) / lam,
)

EXCESS = Statement(
    name="excess",
    title="Theorem 1 corrected",
    where="corrects Theorem 1 and its appendix form",
    assumptions=(
        _LIPSCHITZ,
        _NOISE,
        _UNIFORM,
        Assumption(r"$\lambda=2L$", Eq(lam, 2 * L)),
        Assumption(r"$\eta\le1/(3L)$", Le(eta, 1 / (3 * L))),
        Assumption(r"$R$ uniform on $0,\dots,T-1$"),
        Assumption(r"$F_0=F_\lambda(w_0)$, $F_*=\inf F_\lambda$ (in expectation over the sample)"),
    ),
    left=Left(
        r"\mathbb{E}[F_{{\rm pop},\lambda}(w_R)]-\min F_{{\rm pop},\lambda}",
        lambda sets: sets.regularized,
    ),
    right=(F0 - Fstar) / (L * eta * T)
    + (L**2 * rho**2 + 3 * eta * L * sigma**2) / (2 * L)
    + 2 * B * rho * (n - 1) / n
    + 2 * B**2 / (L * n),
)

CORRECTED = (
    SMOOTH,
    PL,
    WEIGHT_DECAY,
    PL_DECAY,
    MOMENTUM,
    SCHEDULED_RADIUS,
    SCHEDULED,
    LEMMA1,
    LEMMA1_CONVEX,
    LEMMA1_OTHER,
    STABILITY,
    CONVEX_STABILITY,
    EXCESS,
)
