"""Means, standard deviations and paired confidence intervals, each with its n."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from paper_repro.experiment.measures import Measures
from paper_repro.experiment.records import Record, Records
from tables.base import Cell, Delta, Interaction, MeanDelta, Number, Reading, Table, Words

__all__ = ["Summary", "by_seed", "differing", "interval", "read_run", "summarise"]

Value = Callable[[Record], float | None]


@dataclass(frozen=True)
class Summary:
    """What the records say of one entry.

    Attributes:
        mean: over the values there are; None if there is none.
        std: sample standard deviation (n - 1); None for n < 2.
        n: values (seeds; for a mean of differences, differences).
        missing: runs without a record; for a mean of differences, differences without a value.
        failed: runs that failed for want of memory or the like; a later sweep tries them again.
        diverged: runs of which a loss became infinite; they have no accuracy.
        low, high: 95 % t-interval of a difference's mean over seeds; None for fewer than two
            seeds, and for a mean of differences that do not have the same seeds.
        difference: whether this is a difference, shown with its sign.
        elsewhere: finished runs that missed the sparsity asked for by more than rounding.
    """

    mean: float | None
    std: float | None
    n: int
    missing: int = 0
    failed: int = 0
    diverged: int = 0
    low: float | None = None
    high: float | None = None
    difference: bool = False
    elsewhere: int = 0


def summarise(
    entry: Cell | Delta | MeanDelta | Interaction, records: Records, value: Value
) -> Summary:
    """Read an entry's records; nothing is filled in for those that are not there."""
    if isinstance(entry, Cell):
        found = _read(entry, records, value)
        return _summary(list(found.values.values()), found.absent)
    if isinstance(entry, Delta):
        ours, theirs = (_read(c, records, value) for c in (entry.treatment, entry.baseline))
        pairs = list(by_seed(entry, records, value).values())
        return _summary(pairs, ours.absent + theirs.absent, difference=True)
    if isinstance(entry, Interaction):
        sides = [by_seed(delta, records, value) for delta in (entry.first, entry.second)]
        both = [sides[0][seed] - sides[1][seed] for seed in sides[0] if seed in sides[1]]
        cells = [c for d in (entry.first, entry.second) for c in (d.treatment, d.baseline)]
        gone = sum((_read(c, records, value).absent for c in cells), Counter[str]())
        return _summary(both, gone, difference=True)
    parts = [summarise(delta, records, value) for delta in entry.deltas]
    absent = Counter(_why_absent(part) for part in parts if part.mean is None)
    absent["elsewhere"] = sum(part.elsewhere for part in parts)
    whole = _summary([p.mean for p in parts if p.mean is not None], absent, difference=True)
    # Rows of one seed share its initial weights and its order of the images, so they are no
    # independent samples, as seeds are: the interval is that of the seeds' means over the rows.
    rows = [row for d in entry.deltas if (row := by_seed(d, records, value))]
    seeds = set(rows[0]) if rows else set()
    if len(seeds) < 2 or any(set(row) != seeds for row in rows):
        return replace(whole, low=None, high=None)
    means = [math.fsum(row[seed] for row in rows) / len(rows) for seed in seeds]
    low, high = interval(means)
    return replace(whole, low=low, high=high)


def by_seed(entry: Cell | Delta, records: Records, value: Value) -> dict[int, float]:
    """A cell's values, or a difference's, by seed; seeds that lack one are left out."""
    if isinstance(entry, Cell):
        return _read(entry, records, value).values
    ours, theirs = (by_seed(c, records, value) for c in (entry.treatment, entry.baseline))
    return {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}


def differing(table: Table, records: Records) -> tuple[Reading, ...]:
    """The table's alternatives in which some number is another than in the table itself.

    Where a run is evaluated once, at its end, its best epoch is its last.
    """
    entries = [e for row in table.rows for e in row.entries if not isinstance(e, Words | Number)]
    own = [summarise(entry, records, table.value) for entry in entries]
    return tuple(
        reading
        for reading in table.alternatives
        if [summarise(entry, records, reading.value) for entry in entries] != own
    )


@dataclass(frozen=True)
class _Found:
    """A cell's values by seed, and how many runs have none, by reason.

    Under ``elsewhere`` those that have one, but at another sparsity than asked.
    """

    values: dict[int, float]
    absent: Counter[str]


def _read(cell: Cell, records: Records, value: Value) -> _Found:
    found = _Found({}, Counter())
    for config in cell.runs:
        record = records.get(config)
        measured = None if record is None else read_run(cell, record, records, value)[0]
        if measured is not None:
            found.values[config.seed] = measured
            found.absent["elsewhere"] += bool(record is not None and record.missed)
        elif record is None or record.status == "finished":  # finished, but this not measured
            found.absent["missing"] += 1
        else:
            found.absent[record.status] += 1
    return found


def read_run(
    cell: Cell, record: Record, records: Records, value: Value
) -> tuple[float | None, bool]:
    """What the cell reads of one run, from its record or from a measure beside it.

    Returns:
        The number, and whether there will never be one: it was measured and is not finite.
    """
    if cell.measurement is None:
        return (cell.value or value)(record), False
    if record.status != "finished":
        return None, False
    there = Measures(records.folder).get(record.config, cell.measurement.spec)
    if there is None:  # not measured yet
        return None, False
    measured = cell.measurement.value(there)
    return measured, measured is None


def _why_absent(summary: Summary) -> str:
    if summary.failed:
        return "failed"
    return "diverged" if summary.diverged else "missing"


def _summary(values: Sequence[float], absent: Counter[str], difference: bool = False) -> Summary:
    mean, std, n = _moments(values)
    low, high = interval(values) if difference and n > 1 else (None, None)
    return Summary(
        mean,
        std,
        n,
        missing=absent["missing"],
        failed=absent["failed"],
        diverged=absent["diverged"],
        low=low,
        high=high,
        difference=difference,
        elsewhere=absent["elsewhere"],
    )


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Student's t-interval of the mean of two or more independent values."""
    from scipy import stats  # here, so that a machine that only trains does without

    mean, std, n = _moments(values)
    assert mean is not None and std is not None
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * std / math.sqrt(n)
    return mean - half, mean + half


def _moments(values: Sequence[float]) -> tuple[float | None, float | None, int]:
    n = len(values)
    if n == 0:
        return None, None, 0
    mean = math.fsum(values) / n
    if n == 1:
        return mean, None, 1
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)), n
