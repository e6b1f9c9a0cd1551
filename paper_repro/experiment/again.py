"""A record's run trained again, and what came out the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from paper_repro.experiment.records import Record
from paper_repro.experiment.runs import Workplace

__all__ = ["Comparison", "compare", "workplace_like"]

#: What a line of the curve holds that depends on the clock.
_CLOCK = ("seconds", "diagnostics")
_WHERE = ("commit", "tree", "torch", "python", "device", "threads", "engine", "arithmetic", "data")


@dataclass(frozen=True)
class Comparison:
    """How a second training of a run went beside the first.

    Attributes:
        same: status, accuracies and every number of the curve but times, bit for bit.
        lines: what differs, for people to read.
    """

    same: bool
    lines: tuple[str, ...]


def workplace_like(record: Record, place: Workplace) -> Workplace:
    """Where to train a record's run again: in folders of its own, by the engine it had."""
    where = record.body["environment"]
    engine = where.get("engine", "dense")
    return replace(
        place,
        runs=place.runs / "again",
        results=place.runs / "again" / "results",
        compile=bool(where.get("compiled", False)),
        graph=bool(where.get("graph", False)),
        engine=engine if place.engine == "auto" else place.engine,
    )


def compare(record: Record, other: Record) -> Comparison:
    """Two records of one run."""
    lines = []
    if record.status != other.status:
        lines.append(f"it {record.status}, and now {other.status}")
    for which in ("last", "best"):
        before, now = record.accuracy(which), other.accuracy(which)
        if before != now and None not in (before, now):
            lines.append(f"{which} accuracy {before:.4f}, and now {now:.4f} ({now - before:+.4f})")  # type: ignore[operator]
    first = _first_difference(record.body.get("curve", []), other.body.get("curve", []))
    if first:
        lines.append(first)
    same = not lines
    if record.body.get("earlier"):
        lines.append("it went on in another environment than it began in, which no one run repeats")
    before, now = record.body["environment"], other.body["environment"]
    moved = [n for n in _WHERE if n in before and before[n] != now.get(n)]
    lines += [f"{name}: {before[name]}, and now {now.get(name)}" for name in moved]
    return Comparison(same, tuple(lines))


def _first_difference(one: list[Mapping[str, Any]], two: list[Mapping[str, Any]]) -> str | None:
    if len(one) != len(two):
        return f"{len(one)} epochs in its curve, and now {len(two)}"
    for a, b in zip(one, two, strict=True):
        for name in a:
            timed = name in _CLOCK or name.endswith("_per_second")
            if not timed and name in b and a[name] != b[name]:
                return f"the curves part in epoch {a.get('epoch')}: {name} {a[name]} and {b[name]}"
    return None
