"""Effects of several cells together, from runs whose spread is every cell's and every arm's own.

    y[i, arm, s] = μ[i, arm] + noise of variance σ²[i, arm]

for cell i, arm treatment or baseline, seed s. An effect is Δ[i], the difference of the arms' means,
and a claim is about Σ c[i] Δ[i] for fixed weights c. The variance of the estimate is

    Σ c[i]² (s²[i, treatment] + s²[i, baseline]) / n,

with the degrees of freedom of Satterthwaite (of Welch's test, where there is one cell), and so is
each cell's. No spread is borrowed from another cell: methods scatter very differently between seeds
(that the seven of Table 1 do so alike at 98 %, relative to the root of their errors, Bartlett's
test refutes with p = 0.004, simulated), and one spread for all would call a cell that scatters more
than others apart from 0 up to five times as often as stated.

Two ways in which seeds may tie runs together are tested on the records before they are used, each
by an F test:

- *pairs*: Var(T + B) / Var(T - B) = (1 + r) / (1 - r) for the correlation r of the two runs that
  share a cell and a seed (Pitman and Morgan, summed over cells, Satterthwaite's degrees of freedom;
  exact for one cell of equal arms, else it sees less). If r differs from 0, differences are taken
  by pairs: variance of T - B, n - 1 degrees of freedom a cell. If not, the arms are taken as
  independent, which has up to twice the degrees of freedom.
- *seeds*: whether the sums u[s] = Σ c[i] (T - B)[i, s] scatter more over the seeds than cells
  that are independent of each other would, each cell's share in the units of its own spread. If so,
  the seeds are the only independent units: the variance of u, n - 1 degrees of freedom.

A tie too weak for these tests to see makes intervals too short; the study says by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tables.inference.precision import Precision, satterthwaite

__all__ = ["PAIRS", "SEEDS", "Fit", "fit", "shrunk", "widened"]

Array = np.ndarray

#: Levels of the tests for pairs and for seeds. Taking pairs where there are none picks experiments
#: whose differences scatter little by chance, so that must be rare; taking seeds where there is no
#: need only widens intervals, which costs SEEDS of the power.
PAIRS, SEEDS = 0.005, 0.05


@dataclass(frozen=True)
class Fit:
    """What a batch of experiments [...] says; cells are the last axis where there are any.

    Attributes:
        estimate: Σ c[i] Δ[i], in points.
        se: its standard error, with ``df`` degrees of freedom.
        effects: Δ[i], shape [..., C].
        cell_se: their standard errors, shape [..., C], with ``cell_df`` degrees of freedom.
        spread: standard deviation of one run, averaged over the cells (root of the mean variance).
        correlation: r of the two runs of a pair, between -1 and 1.
        paired: whether differences were taken by pairs.
        seeds: whether seeds were the units of the estimate.
        sample: how much of se² is that of a sample which runs share, see :func:`widened`.
        sample_df: its degrees of freedom.
        runs_df: those of the rest, where there is such a sample.
    """

    estimate: Array
    se: Array
    df: Array
    effects: Array
    cell_se: Array
    cell_df: Array
    spread: Array
    correlation: Array
    paired: Array
    seeds: Array
    sample: Array | float = 0.0
    sample_df: int = 1
    runs_df: Array | None = None

    @property
    def precision(self) -> Precision:
        """Of the estimate of one experiment."""
        df = self.df if self.runs_df is None else self.runs_df
        runs = max(0.0, float(self.se) ** 2 - float(self.sample))
        return Precision(runs, float(df), float(self.sample), self.sample_df)


def fit(treatment: Array, baseline: Array, weights: Array) -> Fit:
    """Estimate from values of shape [..., C, n]: C cells, n >= 2 seeds.

    Args:
        treatment: one run a cell and a seed.
        baseline: likewise, same cells and seeds.
        weights: c, shape [C].

    Raises:
        ValueError: shapes that do not fit, or a single seed.
    """
    from scipy import stats  # here, so that a machine that only trains does without

    c = np.asarray(weights, dtype=float)
    cells, n = treatment.shape[-2:]
    if treatment.shape != baseline.shape or c.shape != (cells,) or n < 2:
        raise ValueError(f"{treatment.shape} and {baseline.shape} with weights {c.shape}")
    one = n - 1  # degrees of freedom of one cell and arm
    difference, total = treatment - baseline, treatment + baseline
    effects = difference.mean(-1)
    arms = np.stack([treatment.var(-1, ddof=1), baseline.var(-1, ddof=1)], -1)  # [..., C, 2]
    of_difference, of_total = difference.var(-1, ddof=1), total.var(-1, ddof=1)
    whole = of_difference + of_total
    u = np.einsum("c,...cn->...n", c, difference)
    of_u = u.var(-1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = (of_total - of_difference).sum(-1) / whole.sum(-1)
        ratio, df = of_total.sum(-1) / of_difference.sum(-1), _together(whole, one)
        tail = 2 * np.minimum(stats.f.sf(ratio, df, df), stats.f.cdf(ratio, df, df))
        # Of the residuals in units of their cell's spread, whose squares add up to C (n - 1), the
        # part along the unit vector c sd makes those of u; what is left is independent of it.
        along = of_u / (c**2 * of_difference).sum(-1)
        rest = np.maximum(cells - along, 0.0) / max(cells - 1, 1)
        tied = stats.f.sf(along / rest, one, max((cells - 1) * one, 1)) < SEEDS
    paired = tail < PAIRS
    seeds = tied if cells > 1 else np.zeros_like(paired)
    by_pair = paired[..., None]
    variance = np.where(by_pair, of_difference, arms.sum(-1))
    units = np.where(by_pair[..., None], (of_difference / 2)[..., None], arms)
    share = np.where(paired, _together(c**2 * of_difference, one), _together(_flat(c, units), one))
    return Fit(
        estimate=effects @ c,
        se=np.sqrt(np.where(seeds, of_u, (c**2 * variance).sum(-1)) / n),
        df=np.where(seeds, one, share),
        effects=effects,
        cell_se=np.sqrt(variance / n),
        cell_df=np.where(by_pair, one, _together(arms, one)),
        spread=np.sqrt(arms.mean((-2, -1))),
        correlation=np.nan_to_num(correlation),
        paired=paired,
        seeds=seeds,
    )


def _flat(c: Array, units: Array) -> Array:
    """c² times the variances [..., C, 2] of cells and arms, [..., 2 C]."""
    weighted = c[:, None] ** 2 * units
    return weighted.reshape(*weighted.shape[:-2], -1)


def _together(parts: Array, df: int) -> Array:
    """Satterthwaite's degrees of freedom of the last axis's sum, parts of ``df`` each.

    (Σ v)² / Σ (v² / df), between ``df`` and the number of parts times ``df``; ``df`` where all are
    0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found = df * parts.sum(-1) ** 2 / (parts**2).sum(-1)
    return np.where(parts.sum(-1) > 0, found, float(df))


def widened(fitted: Fit, each: Sequence[Fit]) -> Fit:
    """A fit whose values are means over A things of a random sample, such as directions.

    To the variance from the runs comes that of the sample, s² / A with s² the variance of the
    things' own estimates, A - 1 degrees of freedom (s² has the runs' noise in it too, so this is
    rather too much than too little); degrees of freedom together by Satterthwaite.

    Args:
        fitted: of the means.
        each: of each thing by itself, the same runs; two or more.
    """
    number = len(each)

    def add(se: Array, df: Array, estimates: Array) -> tuple[Array, Array]:
        own, more = se**2, estimates.var(0, ddof=1) / number
        return np.sqrt(own + more), satterthwaite(own, df, more, number - 1)

    estimates = np.stack([one.estimate for one in each])
    se, df = add(fitted.se, fitted.df, estimates)
    cells = np.stack([one.effects for one in each])
    cell_se, cell_df = add(fitted.cell_se, fitted.cell_df, cells)
    return replace(
        fitted,
        se=se,
        df=df,
        cell_se=cell_se,
        cell_df=cell_df,
        sample=estimates.var(0, ddof=1) / number,
        sample_df=number - 1,
        runs_df=fitted.df,
    )


def shrunk(effects: Array, cell_se: Array) -> Array:
    """The cells' effects drawn towards their mean by as much as they are noise (empirical Bayes).

    θ[i] = m + (Δ[i] - m) τ² / (τ² + se[i]²), with the mean m and τ² = max(0, variance of the Δ -
    mean se²). For reading, not for verdicts.
    """
    mean = effects.mean(-1, keepdims=True)
    if effects.shape[-1] < 2:
        return effects
    between = effects.var(-1, ddof=1, keepdims=True) - (cell_se**2).mean(-1, keepdims=True)
    between = np.maximum(between, 0.0)
    with np.errstate(invalid="ignore"):
        share = np.where(between > 0, between / (between + cell_se**2), 0.0)
    return mean + share * (effects - mean)
