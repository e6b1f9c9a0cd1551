"""One model for all cells of a table: an effect for each cell, a spread that they share.

    y[i, arm, s] = μ[i, arm] + noise of variance φ e[i],    e[i] = 100 - mean accuracy of cell i

for cell i, arm treatment or baseline, seed s. The spread of an accuracy between seeds is mostly the
noise of a finite test set, whose variance grows like the error e[i] (in points); the factor φ is
common and estimated from all cells together, with their degrees of freedom together, and from the
other cells of the same table. Values that scatter alike in all cells, such as logarithms of what
scatters in proportion to itself, have e[i] = 1. An effect is Δ[i], the difference of the arms'
means, and a claim is about Σ c[i] Δ[i] for fixed weights c.

Two ways in which seeds may tie runs together are tested on the records before they are used, each
by an exact F test:

- *pairs*: Var(T + B) / Var(T - B) = (1 + r) / (1 - r) for the correlation r of the two runs that
  share a cell and a seed (Pitman and Morgan, pooled over cells). If r differs from 0, differences
  are taken by pairs: variance of T - B, C (n - 1) degrees of freedom. If not, the arms are taken as
  independent, which has twice the degrees of freedom.
- *seeds*: whether the sums u[s] = Σ c[i] (T - B)[i, s] scatter more over the seeds than cells
  that are independent of each other would. If so, the seeds are the only independent units: the
  variance of u, n - 1 degrees of freedom.

A tie too weak for these tests to see makes intervals too short; the study says by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tables.inference.precision import Precision, satterthwaite

__all__ = ["PAIRS", "SEEDS", "Fit", "fit", "residuals", "shrunk", "widened"]

Array = np.ndarray

#: Levels of the tests for pairs and for seeds. Taking pairs where there are none picks experiments
#: whose differences scatter little by chance, so that must be rare; taking seeds where there is no
#: need only widens intervals, which costs SEEDS of the power.
PAIRS, SEEDS = 0.005, 0.05
_LEAST_ERROR = 0.01  # points; a cell without any error has no spread to learn from


@dataclass(frozen=True)
class Fit:
    """What a batch of experiments [...] says; cells are the last axis where there are any.

    Attributes:
        estimate: Σ c[i] Δ[i], in points.
        se: its standard error, with ``df`` degrees of freedom.
        effects: Δ[i], shape [..., C].
        cell_se: their standard errors, with ``cell_df`` degrees of freedom.
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


def residuals(values: Array) -> tuple[Array, int]:
    """Σ (y - ȳ)² / e of runs of shape [..., arms, n], and its degrees of freedom: φ times χ²."""
    error = np.maximum(100.0 - values.mean(-1, keepdims=True), _LEAST_ERROR)
    squares = (values - values.mean(-1, keepdims=True)) ** 2 / error
    return squares.sum((-2, -1)), values.shape[-2] * (values.shape[-1] - 1)


def fit(
    treatment: Array,
    baseline: Array,
    weights: Array,
    others: tuple[Array | float, int] = (0.0, 0),
    even: bool = False,
) -> Fit:
    """Estimate from accuracies of shape [..., C, n]: C cells, n >= 2 seeds, in points.

    Args:
        treatment: one run a cell and a seed.
        baseline: likewise, same cells and seeds.
        weights: c, shape [C].
        others: :func:`residuals` of other cells that share φ.
        even: whether e[i] = 1; ``others`` must then be of such cells too.

    Raises:
        ValueError: shapes that do not fit, or a single seed.
    """
    from scipy import stats  # here, so that a machine that only trains does without

    c = np.asarray(weights, dtype=float)
    cells, n = treatment.shape[-2:]
    if treatment.shape != baseline.shape or c.shape != (cells,) or n < 2:
        raise ValueError(f"{treatment.shape} and {baseline.shape} with weights {c.shape}")
    difference, total = treatment - baseline, treatment + baseline
    effects = difference.mean(-1)
    error = np.maximum(100.0 - total.mean(-1) / 2, _LEAST_ERROR)
    error = np.ones_like(error) if even else error

    def squares(values: Array) -> Array:
        return (((values - values.mean(-1, keepdims=True)) ** 2) / error[..., None]).sum((-2, -1))

    df = cells * (n - 1)
    of_difference, of_total = squares(difference) / df, squares(total) / df
    whole = of_difference + of_total
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.where(whole > 0, (of_total - of_difference) / whole, 0.0)
        ratio = of_total / of_difference
        tail = 2 * np.minimum(stats.f.sf(ratio, df, df), stats.f.cdf(ratio, df, df))
        paired = tail < PAIRS
        # The unit vector sqrt(e) c turns the cells' scaled residuals into those of u; what is left
        # of their squares is independent of it.
        length = (c**2 * error).sum(-1)
        u = np.einsum("c,...cn->...n", c, difference)
        of_u = ((u - u.mean(-1, keepdims=True)) ** 2).sum(-1) / (n - 1)
        rest = of_difference * df - of_u * (n - 1) / length
        excess = of_u / length / (rest / max((cells - 1) * (n - 1), 1))
        tied = stats.f.sf(excess, n - 1, max((cells - 1) * (n - 1), 1)) < SEEDS
    seeds = tied if cells > 1 else np.zeros_like(paired)
    squares_elsewhere, df_elsewhere = others
    phi = (whole / 2 * df + squares_elsewhere) / (2 * df + df_elsewhere)
    variance = np.where(paired, of_difference, 2 * phi)  # of T - B, for an error of 1 point
    cell_df = np.where(paired, df, 2 * df + df_elsewhere)
    return Fit(
        estimate=effects @ c,
        se=np.sqrt(np.where(seeds, of_u, variance * length) / n),
        df=np.where(seeds, n - 1, cell_df),
        effects=effects,
        cell_se=np.sqrt(variance[..., None] * error / n),
        cell_df=cell_df,
        spread=np.sqrt(phi * error.mean(-1)),
        correlation=correlation,
        paired=paired,
        seeds=seeds,
    )


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
    cell_se, cell_df = add(fitted.cell_se, fitted.cell_df[..., None], cells)
    # One number of degrees of freedom for all cells: their least.
    return replace(
        fitted,
        se=se,
        df=df,
        cell_se=cell_se,
        cell_df=cell_df.min(-1),
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
