"""From runs to verdicts: confidence intervals, and what they say about a bound."""

__all__ = ["Cell", "Estimate", "Outcome", "estimate", "judge", "outcome", "ratio_of_means", "slope"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

Verdict = Literal["holds", "violated", "inconclusive"]
_ROUNDING = 1e-9  # relative; float64 sums of a few thousand terms are far closer than this
_FLOOR = 1e-12  # absolute; the problems' objectives are of order one, their rounding about 1e-16


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` runs with the ends of its confidence interval."""

    mean: float
    low: float
    high: float
    n: int


def estimate(samples: np.ndarray, confidence: float) -> Estimate:
    """Student's t interval for the mean of independent runs; a point for one deterministic run.

    Args:
        samples: shape (n,).
        confidence: coverage of the interval, in (0, 1).

    Raises:
        ValueError: no samples, a value that is not finite, or a confidence outside (0, 1).
    """
    if len(samples) == 0 or not np.all(np.isfinite(samples)):
        raise ValueError("an estimate needs finite samples, at least one")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), not {confidence}")
    mean, n = float(samples.mean()), len(samples)
    if n == 1:
        return Estimate(mean, mean, mean, 1)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1) * samples.std(ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


def ratio_of_means(over: np.ndarray, under: np.ndarray, confidence: float) -> Estimate:
    """Interval for E x / E y from paired runs (x_i, y_i), by the delta method.

    With q = mean(x) / mean(y), the error of q is to first order the mean of
    e_i = (x_i - q y_i) / mean(y), so the interval is q -+ t_{n-1} sd(e) / sqrt(n). The scatter of
    the divisor counts, and what the two have in common, as they come from the same runs, cancels.

    Args:
        over: x, shape (n,).
        under: y of the same runs, shape (n,).
        confidence: coverage of the interval, in (0, 1).

    Raises:
        ValueError: as for ``estimate``; unequal numbers of runs; or the interval of E y reaches 0,
            where the ratio has no finite interval.
    """
    if len(over) != len(under):
        raise ValueError(f"paired runs are as many as each other, not {len(over)} and {len(under)}")
    divisor = estimate(under, confidence)
    if divisor.low <= 0 <= divisor.high:
        raise ValueError("a ratio needs a divisor whose interval excludes 0")
    ratio = float(over.mean()) / divisor.mean
    return estimate(ratio + (over - ratio * under) / divisor.mean, confidence)


def judge(left: Estimate, right: float) -> Verdict:
    """``holds`` if the whole interval lies below ``right``, ``violated`` if above it.

    A left side that overflowed is above every finite right side.
    """
    if not np.isfinite(left.mean):
        return "violated"
    slack = _ROUNDING * max(abs(right), abs(left.mean)) + _FLOOR
    if left.high <= right + slack:
        return "holds"
    return "violated" if left.low > right + slack else "inconclusive"


@dataclass(frozen=True)
class Cell:
    """One comparison: a statement's two sides in one setting.

    ``source`` names the runs behind it: cells at several T of the same runs share it.
    """

    statement: str
    problem: str
    setting: Mapping[str, float]
    left: Estimate
    right: float
    source: str = ""

    @property
    def ratio(self) -> float:
        """Left over right; 1 is tight, above 1 is false. Both are zero below 1e-12."""
        return self.left.mean / max(self.right, _FLOOR)

    @property
    def verdict(self) -> Verdict:
        """The verdict of this cell alone."""
        return judge(self.left, self.right)

    def described(self) -> str:
        """The setting in one line."""
        numbers = ", ".join(f"{name}={value:.3g}" for name, value in self.setting.items())
        return f"{self.problem}: {numbers}"


@dataclass(frozen=True)
class Outcome:
    """All cells of one statement."""

    statement: str
    cells: tuple[Cell, ...]

    def count(self, verdict: Verdict) -> int:
        """How many cells have this verdict."""
        return sum(cell.verdict == verdict for cell in self.cells)

    @property
    def verdict(self) -> Verdict:
        """One violated cell refutes; the statement holds only if every cell does."""
        if self.count("violated"):
            return "violated"
        return "inconclusive" if self.count("inconclusive") else "holds"

    @property
    def worst(self) -> Cell:
        """The cell with the largest ratio: the tightest one, or the worst violation."""
        return max(self.cells, key=lambda cell: cell.ratio)

    @property
    def runs(self) -> int:
        """Number of independent runs behind all cells, those of several cells counted once."""
        shared = {cell.source: cell.left.n for cell in self.cells if cell.source}
        return sum(shared.values()) + sum(cell.left.n for cell in self.cells if not cell.source)

    def worst_where(self, **above: float) -> Cell | None:
        """The cell with the largest ratio among those whose settings exceed the values given."""
        fitting = [
            cell
            for cell in self.cells
            if all(cell.setting.get(name, 0.0) > value for name, value in above.items())
        ]
        return max(fitting, key=lambda cell: cell.ratio, default=None)


def outcome(statement: str, cells: Sequence[Cell]) -> Outcome:
    """The cells that belong to ``statement``.

    Raises:
        ValueError: there are none, so nothing was checked.
    """
    mine = tuple(cell for cell in cells if cell.statement == statement)
    if not mine:
        raise ValueError(f"no run checked the statement {statement!r}")
    return Outcome(statement, mine)


def slope(
    horizons: np.ndarray, samples: np.ndarray, rng: np.random.Generator, resamples: int = 1000
) -> Estimate:
    """Log-log slope of the mean of ``samples`` against ``horizons``, with a 95% bootstrap interval.

    Args:
        horizons: shape (k,).
        samples: shape (k, n), independent runs at each horizon.
    """
    logs = np.log(horizons) - np.log(horizons).mean()

    def fit(means: np.ndarray) -> np.ndarray:
        return (np.log(means) * logs).sum(axis=-1) / (logs**2).sum()

    k, n = samples.shape
    draws = rng.integers(n, size=(resamples, k, n))
    slopes = fit(np.take_along_axis(samples[None], draws, axis=2).mean(axis=2))
    low, high = np.quantile(slopes, [0.025, 0.975])
    return Estimate(float(fit(samples.mean(axis=1))), float(low), float(high), n)
