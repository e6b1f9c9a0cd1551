"""The paper's statements exactly as printed, and the one reading that restores a missing 1/T.

Reference: Ji et al., "A Single-Step, Sharpness-Aware Minimization is All You Need to Achieve
Efficient and Accurate Sparse Training", NeurIPS 2024, Section 4 and Appendix C.
"""

__all__ = [
    "APPENDIX_EXCESS",
    "APPENDIX_OPTIMIZATION",
    "APPENDIX_OPTIMIZATION_OVER_T",
    "LEMMA1_DIFFERENT",
    "LEMMA1_EQUAL",
    "PRINTED",
    "THEOREM1",
]

from sympy import Eq, Integer

from theory.statements import Assumption, Left, Statement
from theory.symbols import F0, B, L, T, delta, eta, lam, mu, n, rho, sigma

_AVERAGE = Left(r"\frac1T\sum_{t<T}\mathbb{E}\|\nabla F(w_t)\|^2", lambda record: record.gradient)
_APART = Left(r"\|w_{t+1}-w'_{t+1}\|", lambda pair: pair.apart)
_EXCESS = Left(r"\mathbb{E}[F(w_R)]-F(w^*)", lambda sets: sets.regularized)
_LIPSCHITZ = Assumption(
    r"$\ell$ is $B$-Lipschitz and $L$-smooth", properties=("lipschitz", "example smooth")
)
_PL = Assumption(r"$F$ is $\mu$-PL")
_DECAY = Assumption(r"$\lambda=2L$", Eq(lam, 2 * L))

LEMMA1_EQUAL = Statement(
    name="lemma1_equal_printed",
    title="Lemma 1, equal samples",
    where='paper, Lemma 1 (printed with "=" in place of "<=")',
    assumptions=(_LIPSCHITZ,),
    left=_APART,
    right=(1 + eta * L - eta * lam) * delta + 2 * eta * rho,
)

LEMMA1_DIFFERENT = Statement(
    name="lemma1_different_printed",
    title="Lemma 1, different samples",
    where='paper, Lemma 1 (printed with "=" in place of "<=")',
    assumptions=(_LIPSCHITZ,),
    left=_APART,
    right=(1 - eta * lam) * delta + 2 * eta * B,
)
"""The right side of ``corrected.LEMMA1_OTHER`` without its condition, eta lambda <= 1: none is
printed, and beyond it a distance would have to lie below a bound that may be negative."""

THEOREM1 = Statement(
    name="theorem1_printed",
    title="Theorem 1, main text",
    where='paper, Theorem 1 ("where A is SGD")',
    assumptions=(_LIPSCHITZ, Assumption(r"variance at most $\sigma^2$"), _PL, _DECAY),
    left=_EXCESS,
    right=F0 / (mu * eta * T) + eta * (L + lam) * sigma**2 / (2 * mu) + (6 * B + 1) / n,
)

APPENDIX_OPTIMIZATION = Statement(
    name="optimization_printed",
    title="Optimization bound, as printed",
    where="paper, Appendix C (the factor 1/T is missing in print)",
    assumptions=(_LIPSCHITZ,),
    left=_AVERAGE,
    right=2 * F0 / eta + rho + eta * (L + lam) * B**2,
)

APPENDIX_OPTIMIZATION_OVER_T = Statement(
    name="optimization_printed_over_T",
    title="Optimization bound, with the missing 1/T put back",
    where="paper, Appendix C, in the reading that Theorem 1 needs",
    assumptions=(_LIPSCHITZ,),
    left=_AVERAGE,
    right=2 * F0 / (eta * T) + rho + eta * (L + lam) * B**2,
)

APPENDIX_EXCESS = Statement(
    name="theorem1_appendix_printed",
    title="Theorem 1, appendix form for S2-SAM",
    where="paper, Appendix C",
    assumptions=(_LIPSCHITZ, _PL, _DECAY),
    left=_EXCESS,
    right=F0 / (mu * eta * T)
    + (rho + eta * (L + lam) * B**2) / (2 * mu)
    + (6 * (B + (n - 1) * rho) + Integer(1)) / n,
)

PRINTED = (
    LEMMA1_EQUAL,
    LEMMA1_DIFFERENT,
    THEOREM1,
    APPENDIX_OPTIMIZATION,
    APPENDIX_OPTIMIZATION_OVER_T,
    APPENDIX_EXCESS,
)
