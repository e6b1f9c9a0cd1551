"""How precisely an effect is known, and how that goes with the number of seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np

__all__ = ["Precision", "satterthwaite"]


def satterthwaite(own: Any, own_df: Any, more: Any, more_df: Any) -> Any:
    """Degrees of freedom of the sum of two estimated variances; ``own_df`` where both are 0."""
    own, more = np.asarray(own, float), np.asarray(more, float)  # Python's 0.0 / 0 would raise
    with np.errstate(divide="ignore", invalid="ignore"):
        together = (own + more) ** 2 / (own**2 / own_df + more**2 / more_df)
    return np.where(own + more > 0, together, own_df)


@dataclass(frozen=True)
class Precision:
    """The variance of an estimate, by where it comes from.

    Attributes:
        runs: from the runs' scatter, which goes down with more seeds.
        runs_df: its degrees of freedom, which go up.
        sample: from a sample that all runs share, such as directions, which seeds do not enlarge.
        sample_df: its degrees of freedom.
    """

    runs: float
    runs_df: float
    sample: float = 0.0
    sample_df: float = 1.0

    @property
    def se(self) -> float:
        """The standard error."""
        return sqrt(self.runs + self.sample)

    @property
    def df(self) -> float:
        """Its degrees of freedom."""
        return float(satterthwaite(self.runs, self.runs_df, self.sample, self.sample_df))

    def with_seeds(self, then: int, now: int) -> Precision:
        """With ``then`` seeds a cell instead of ``now``: runs' variance now / then as large."""
        return replace(
            self, runs=self.runs * now / then, runs_df=self.runs_df * (then - 1) / (now - 1)
        )
