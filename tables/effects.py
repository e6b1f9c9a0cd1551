"""Differences cell by cell, each with an interval whose spread all cells share; for reading.

    Δ[i] = mean over s of (T[i, s] - B[i, s]),    Var Δ[i] = φ (e[T, i] + e[B, i]) / n[i]

over the n[i] seeds s of which cell i has both runs. The variance of an accuracy is that of a
finite test set's, which grows like the error rate e (points), times a factor φ that all cells
share: so cells of one seed borrow their interval from the others, and one whose runs scatter more
than that has too short a one. Arms and cells are taken as independent, and intervals are plain 95 %
ones of one look. Verdicts assume none of this: they come from :mod:`tables.inference`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from paper_repro.experiment.records import Record, Records
from tables.base import Cell, Delta
from tables.stats import by_seed

__all__ = ["Effect", "Effects", "effects", "mean_effect"]

Value = Callable[[Record], float | None]
Key = tuple[str, str]
_LEAST_ERROR = 0.01  # points; a cell without any error has no spread to learn from


@dataclass(frozen=True)
class Effect:
    """One difference, or a mean of several.

    Attributes:
        gains: T - B in points by seed; of a mean, the cells' Δ by their number.
        mean: of the gains.
        se: its standard error; None where no cell has two runs, and of a mean.
        half: half the width of its 95 % interval, or None.
        published: the paper's.
        lost: whether a run of it diverged.
    """

    gains: Mapping[int, float]
    mean: float
    se: float | None
    half: float | None
    published: float | None = None
    lost: bool = False

    @property
    def n(self) -> int:
        """How many gains."""
        return len(self.gains)


@dataclass(frozen=True)
class Effects:
    """The measured differences by name, and the spread that they share.

    Attributes:
        each: by the names given; differences without a pair of runs are not there.
        wanted: how many were asked for.
        df: degrees of freedom of the spread; 0 where no cell has two runs.
    """

    each: Mapping[str, Effect]
    wanted: int
    df: int


def _key(delta: Delta) -> Key:
    """What two differences share that are the same: their runs."""
    treatment, baseline = (
        min((config.fingerprint for config in cell.runs), default="")
        for cell in (delta.treatment, delta.baseline)
    )
    return treatment, baseline


def effects(deltas: Mapping[str, Delta], records: Records, value: Value) -> Effects:
    """Estimate every difference that has a pair of runs; runs shared by several count once."""
    arms: dict[str, dict[int, float]] = {}

    def arm(cell: Cell) -> dict[int, float]:
        name = min((config.fingerprint for config in cell.runs), default="")
        if name not in arms:
            arms[name] = by_seed(cell, records, value)
        return arms[name]

    pairs = {name: (arm(d.treatment), arm(d.baseline)) for name, d in deltas.items()}
    squares, df = 0.0, 0
    for runs in arms.values():
        if len(runs) > 1:
            values = np.array(list(runs.values()))
            error = max(100.0 - float(values.mean()), _LEAST_ERROR)
            squares += float(((values - values.mean()) ** 2).sum()) / error
            df += len(values) - 1
    phi = squares / df if df else None
    each = {}
    for name, (ours, theirs) in pairs.items():
        gains = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
        if not gains:
            continue
        errors = sum(100 - float(np.mean([side[s] for s in gains])) for side in (ours, theirs))
        se = None if phi is None else math.sqrt(phi * max(errors, 0.0) / len(gains))
        mean = math.fsum(gains.values()) / len(gains)
        lost = _diverged(deltas[name], records)
        each[name] = Effect(gains, mean, se, _half(se, df), deltas[name].published, lost)
    return Effects(each, len(deltas), df)


def mean_effect(found: Effects, deltas: Mapping[str, Delta]) -> Effect | None:
    """The mean of those of the differences that are measured, the same runs counted once.

    None where fewer than two are left. It has no interval: cells of one seed share its initial
    weights and its order of the images, so they are no independent samples.
    """
    each = found.each
    distinct = {_key(delta): each[name] for name, delta in deltas.items() if name in each}
    if len(distinct) < 2:
        return None
    means = {i: part.mean for i, part in enumerate(distinct.values())}
    mean = math.fsum(means.values()) / len(means)
    return Effect(means, mean, None, None, None, any(part.lost for part in distinct.values()))


def _half(se: float | None, df: int) -> float | None:
    from scipy import stats  # here, so that a machine that only trains does without

    return None if se is None else float(stats.t.ppf(0.975, df)) * se


def _diverged(delta: Delta, records: Records) -> bool:
    runs = (*delta.treatment.runs, *delta.baseline.runs)
    return any((r := records.get(c)) is not None and r.status == "diverged" for c in runs)
