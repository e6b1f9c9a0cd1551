"""What measured differences say of a claim: it holds, does not hold, or is undecided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from paper_repro.experiment.records import Record, Records
from tables.base import Cell, Delta
from tables.stats import by_seed, interval, summarise

__all__ = ["FAILS", "HOLDS", "NOT_MEASURED", "UNDECIDED", "Finding", "above", "everywhere", "trend"]

HOLDS, FAILS = "holds", "does not hold"
UNDECIDED, NOT_MEASURED = "undecided", "not measured"

#: Seeds that a verdict needs.
ENOUGH = 3

Value = Callable[[Record], float | None]


@dataclass(frozen=True)
class Finding:
    """A verdict and the numbers that it rests on, with their n."""

    verdict: str
    evidence: str


def everywhere(deltas: Mapping[str, Delta], records: Records, value: Value) -> Finding:
    """Whether every one of several differences is above 0.

    It holds if all of them are measured and each one's 95 % t-interval lies above 0. It does not
    if one's interval lies below 0; as one among k may do so by chance, that one has a coverage of
    1 - 0.05/k (Bonferroni). Else it is undecided. Fewer than three seeds decide nothing: two
    rounded accuracies may agree by chance. Nor does a difference of which a run failed or diverged
    count as above 0.

    Args:
        deltas: the differences by name.
        records: to read.
        value: what is read.
    """
    seeds = {name: list(by_seed(delta, records, value).values()) for name, delta in deltas.items()}
    found = {name: values for name, values in seeds.items() if values}
    several = {name: values for name, values in found.items() if len(values) >= ENOUGH}
    lost = {name for name, delta in deltas.items() if _lost(delta, records, value)}
    up = sum(sum(values) > 0 for values in found.values())
    evidence = (
        f"{len(found)} of {len(deltas)} differences measured, {len(several)} of them with {ENOUGH} "
        f"or more seeds; above 0: {up}, not above 0: {len(found) - up}"
    )
    if lost:
        evidence += f"; with runs that failed or diverged: {len(lost)}"
    if not found:
        return Finding(UNDECIDED if lost else NOT_MEASURED, evidence)
    strict = 1 - 0.05 / len(deltas)
    worse = [name for name, values in several.items() if interval(values, strict)[1] < 0]
    better = [name for name, values in several.items() if interval(values)[0] > 0]
    evidence += f"; clear of 0 by their intervals: {len(better)} above, {len(worse)} below"
    if worse:
        return Finding(FAILS, f"{evidence} ({', '.join(worse)})")
    whole = len(better) == len(deltas) and not lost
    return Finding(HOLDS if whole else UNDECIDED, evidence)


def _lost(entry: Cell | Delta, records: Records, value: Value) -> int:
    """Runs of an entry that failed or diverged."""
    summary = summarise(entry, records, value)
    return summary.failed + summary.diverged


def above(values: Sequence[float], bound: float, what: str, unit: str = "points") -> Finding:
    """Whether the mean of independent values is above a bound, by its 95 % t-interval.

    Fewer than three values decide nothing.
    """
    n = len(values)
    if not n:
        return Finding(NOT_MEASURED, f"{what}: no seed has it")
    mean = sum(values) / n
    if n == 1:
        return Finding(UNDECIDED, f"{what}: {mean:+.2f} {unit} (n = 1)")
    low, high = interval(values)
    verdict = HOLDS if low > bound else FAILS if high < bound else UNDECIDED
    if n < ENOUGH:
        verdict = UNDECIDED
    return Finding(verdict, f"{what}: {mean:+.2f} [{low:+.2f}, {high:+.2f}] {unit} (n = {n})")


def trend(
    points: Mapping[float, Cell | Delta], records: Records, value: Value, what: str
) -> Finding:
    """Whether an entry grows along an axis: the least-squares slope of each seed that has all.

    Seeds of which a run failed or diverged have none; the evidence counts the entries.

    Args:
        points: the entries by their position on the axis.
        records: to read.
        value: what is read.
        what: the slope's name in the evidence, per unit of the axis.
    """
    columns = {x: by_seed(entry, records, value) for x, entry in points.items()}
    complete = set.intersection(*(set(values) for values in columns.values()))
    middle = sum(columns) / len(columns)
    spread = sum((x - middle) ** 2 for x in columns)
    slopes = [
        sum((x - middle) * columns[x][seed] for x in columns) / spread for seed in sorted(complete)
    ]
    found = above(slopes, 0.0, what)
    lost = sum(bool(_lost(entry, records, value)) for entry in points.values())
    if not lost:
        return found
    verdict = UNDECIDED if found.verdict == HOLDS else found.verdict
    return Finding(verdict, f"{found.evidence}; points with runs that failed or diverged: {lost}")
