"""Rules that turn an estimate at a look into a verdict, with the errors that they make.

All intervals at look k are *repeated* 95 % intervals: estimate ± t(1 - p_k; df) se with the look's
level p_k (:mod:`tables.inference.looks`). They hold at all looks at once, so the verdict is always
that of the latest look. Each kind of wrong statement has its own error over all looks together, by
design at most 2.5 %, and with what the tests for ties between runs add at most STATED = 3 %:

=================  ============================================  ========================
verdict            rule                                          wrong if
=================  ============================================  ========================
holds              interval above the bound; for "everywhere",   effect <= bound;
                   every cell's above 0 (intersection-union)     some cell's Δ <= 0
holds on average   "everywhere": only the mean's is above 0      mean Δ <= 0
does not hold      interval below the bound                      effect >= bound
does not hold      "everywhere": some cell below 0, by Holm at   that cell's Δ >= 0
                   the look's own share of the error
no gain of 0.2     interval below the scale's margin, not above  effect >= the margin
                   the bound
=================  ============================================  ========================

So "does not hold" of a claim about every cell errs with at most two times that. A run that diverged
has no accuracy: its cell is left out, and nothing "holds" then.

A claim with several parts (:func:`all_of`) holds where each part does, each at its own level: an
intersection-union test errs no more often than its parts. It does not hold where one part does not,
which errs with at most the sum of the parts' errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tables.inference.estimate import SEEDS, Fit
from tables.inference.looks import LOOKS, increments, level
from tables.inference.precision import Precision
from tables.inference.scale import POINTS, Scale, says_none

__all__ = [
    "AVERAGE",
    "FAILS",
    "HOLDS",
    "MARGIN",
    "NO_LARGER",
    "POWER",
    "STATED",
    "UNDECIDED",
    "Rule",
    "all_of",
    "decide",
    "effects_apart",
    "holm",
    "power",
    "repeated_interval",
    "seeds_to_find",
]

#: Points of accuracy below which a gain is called none.
MARGIN = POINTS.margin
#: Error of each kind of wrong statement, over all looks, at most.
STATED = 0.03
#: The power that an experiment should have to find an effect as large as its scale's margin.
POWER = 0.8

HOLDS, AVERAGE, FAILS = "holds", "holds on average", "does not hold"
NO_LARGER, UNDECIDED = POINTS.none, "undecided"


@dataclass(frozen=True)
class Rule:
    """What is asked of an effect Σ c[i] Δ[i].

    Attributes:
        bound: the effect must lie above it, in the scale's unit.
        everywhere: and every cell's Δ above 0.
        scale: of the effect.
    """

    bound: float = 0.0
    everywhere: bool = False
    scale: Scale = POINTS

    @property
    def target(self) -> float:
        """How far above the bound an effect lies that an experiment should be able to find."""
        return self.scale.margin if self.bound == 0 else -self.bound


def repeated_interval(fitted: Fit, look: int) -> tuple[np.ndarray, np.ndarray]:
    """The effect's 95 % interval at a look (from 0), of those that hold at all looks at once."""
    from scipy import stats

    half = stats.t.isf(level(look, fitted.df), fitted.df) * fitted.se
    return fitted.estimate - half, fitted.estimate + half


def holm(p: np.ndarray, level: float) -> np.ndarray:
    """Which of the hypotheses along the last axis Holm's step-down method rejects.

    The i-th smallest of m p-values is held against level / (m - i), i from 0, until one is larger;
    some true hypothesis is rejected with probability ``level`` at most, whatever the dependence.
    """
    order = np.argsort(p, axis=-1)
    m = p.shape[-1]
    passes = np.take_along_axis(p, order, -1) <= level / (m - np.arange(m))
    rejected = np.zeros_like(passes)
    np.put_along_axis(rejected, order, np.logical_and.accumulate(passes, axis=-1), -1)
    return rejected


def cells_apart(fitted: Fit, look: int) -> tuple[np.ndarray, np.ndarray]:
    """Which cells lie above 0 and which below, each by Holm over the cells at the look's share."""
    from scipy import stats

    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.nan_to_num(fitted.effects / fitted.cell_se, nan=0.0)
    df, share = fitted.cell_df, increments()[look]
    return holm(stats.t.sf(t, df), share), holm(stats.t.cdf(t, df), share)


def effects_apart(each: Sequence[Fit], look: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of several effects lie above 0 and which below, by Holm over them at the look's share.

    They may be of the same runs: Holm's method errs no more often whatever the dependence. Shape
    [..., effects].
    """
    from scipy import stats

    estimate, se, df = (
        np.stack([getattr(fitted, name) for fitted in each], axis=-1)
        for name in ("estimate", "se", "df")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.nan_to_num(estimate / se, nan=0.0)
    share = increments()[look]
    return holm(stats.t.sf(t, df), share), holm(stats.t.cdf(t, df), share)


def decide(fitted: Fit, look: int, rule: Rule, lost: bool = False) -> np.ndarray:
    """The verdict of each experiment of a batch at a look, as the module's table has it.

    Args:
        fitted: the estimates.
        look: which of LOOKS, from 0.
        rule: what is asked.
        lost: whether some run of it diverged.
    """
    from scipy import stats

    low, high = repeated_interval(fitted, look)
    above = (low > rule.bound) & (not lost)
    best = np.full(low.shape, HOLDS, dtype=object)
    fails = high < rule.bound
    if rule.everywhere:
        half = stats.t.isf(level(look, fitted.cell_df), fitted.cell_df) * fitted.cell_se
        every = (fitted.effects - half > 0).all(-1)
        best = np.where(every, HOLDS, AVERAGE).astype(object)
        fails = fails | cells_apart(fitted, look)[1].any(-1)
        above = above | (every & (not lost))
    small = (high < rule.scale.margin) & (rule.bound == 0.0) & (low <= rule.bound)
    otherwise = np.where(small, rule.scale.none, UNDECIDED).astype(object)
    return np.where(fails, FAILS, np.where(above, best, otherwise))


def all_of(verdicts: Sequence[str]) -> str:
    """The verdict on a claim whose parts have these: its worst part's.

    One that does not hold, else one of which less than the margin is left, else one that is open
    (as is one not measured, where another is), else one that holds on average.
    """
    settled = (HOLDS, AVERAGE, FAILS)
    if FAILS in verdicts:
        return FAILS
    small = [v for v in verdicts if v not in settled and says_none(v)]
    if small:
        return small[0]
    if any(v not in settled for v in verdicts):
        return verdicts[0] if len(set(verdicts)) == 1 else UNDECIDED
    return AVERAGE if AVERAGE in verdicts else HOLDS


def power(effect: float, se: float, df: float, look: int, cells: int = 1) -> float:
    """Probability that this look's interval lies above the bound, ``effect`` points above it.

    P(T' > t(1 - p_k; df)) for a noncentral t with noncentrality effect / se, of this look alone: a
    little less than of this and the looks before. With several cells, a share SEEDS of experiments
    is taken by seeds though seeds tie nothing; those have a variance W times as large with n - 1
    degrees of freedom, W the upper SEEDS tail of F(n - 1, (C - 1)(n - 1)).

    Args:
        effect: the truth, in points above the bound.
        se: standard error of the estimate from independent runs or pairs.
        df: its degrees of freedom.
        look: which of LOOKS, from 0.
        cells: C, or 1 where seeds are known to be no units or to be the units.
    """
    from scipy import stats

    if se <= 0:
        return 1.0 if effect > 0 else 0.0
    plain = float(stats.nct.sf(stats.t.isf(level(look, df), df), df, effect / se))
    if cells == 1:
        return plain
    n = LOOKS[look]
    tail = SEEDS * (np.arange(200) + 0.5) / 200
    w = stats.f.isf(tail, n - 1, (cells - 1) * (n - 1))
    quantile = stats.t.isf(level(look, n - 1), n - 1)
    by_seeds = float(stats.norm.sf(quantile * np.sqrt(w) - effect / se).mean())
    return (1 - SEEDS) * plain + SEEDS * by_seeds


def seeds_to_find(effect: float, known: Precision, look: int, cells: int = 1) -> int | None:
    """Seeds a cell at the first look, from ``look`` on, that has POWER for ``effect``.

    None if not even the last look has it. ``known`` is the precision at ``look``; the others are as
    of :func:`power`.
    """
    n = LOOKS[look]
    for later in range(look, len(LOOKS)):
        seeds = LOOKS[later]
        scaled = known.with_seeds(seeds, n)
        if power(effect, scaled.se, scaled.df, later, cells) >= POWER:
            return seeds
    return None
