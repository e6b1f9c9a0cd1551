"""From records to the arrays of a look, and from a look to words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paper_repro.experiment.records import Records
from tables.base import Delta
from tables.inference.estimate import Fit, fit, shrunk, widened
from tables.inference.looks import LOOKS
from tables.inference.precision import Precision
from tables.inference.rules import (
    POWER,
    UNDECIDED,
    Rule,
    cells_apart,
    decide,
    effects_apart,
    power,
    repeated_interval,
    seeds_to_find,
)
from tables.inference.runs import Pairs, Value, arms

__all__ = [
    "NOT_MEASURED",
    "Aspects",
    "Build",
    "Finding",
    "Term",
    "interaction",
    "judge",
    "mean",
    "rise",
]

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Term:
    """A difference and its weight in an effect Σ c[i] Δ[i]."""

    delta: Delta
    weight: float


Terms = Mapping[str, Term]
#: What gives differences their weights.
Build = Callable[[Mapping[str, Delta]], Terms]
#: What a claim's differences are of one by one, by name: the same runs, read otherwise.
Aspects = Mapping[str, Mapping[str, Delta]]


@dataclass(frozen=True)
class Finding:
    """A verdict and the numbers that it rests on, with their n.

    Attributes:
        verdict: in words.
        evidence: estimate, interval, n, power.
        look: which of LOOKS it is of, from 0; None before the first and for what has no looks.
        precision: of the effect at that look.
    """

    verdict: str
    evidence: str
    look: int | None = None
    precision: Precision | None = None


def mean(deltas: Mapping[str, Delta]) -> Terms:
    """The mean of the differences."""
    return {name: Term(delta, 1 / len(deltas)) for name, delta in deltas.items()}


def interaction(deltas: Mapping[str, Delta]) -> Terms:
    """The first of two differences minus the second.

    Raises:
        ValueError: there are not two.
    """
    if len(deltas) != 2:
        raise ValueError("an interaction is of two differences")
    return {name: Term(delta, w) for (name, delta), w in zip(deltas.items(), (1, -1), strict=True)}


def rise(
    deltas: Mapping[str, Delta], axis: Callable[[str], float], span: float | None = None
) -> Terms:
    """How far Δ rises over a span of an axis, along a common slope.

    The least-squares slope Σ (x[i] - x̄[g]) Δ[i] / Σ (x[i] - x̄[g])² times the span, where each
    group g has a level of its own: the differences whose names begin alike (before a comma).

    Args:
        deltas: by name, "group, position".
        axis: the position on the axis in a name.
        span: in the axis's unit; from the lowest to the highest position if None, which is less
            where differences at an end were left out.

    Raises:
        ValueError: no group has two positions.
    """
    x = {name: axis(name) for name in deltas}
    groups: dict[str, list[float]] = {}
    for name in deltas:
        groups.setdefault(_group(name), []).append(x[name])
    from_mean = {name: x[name] - float(np.mean(groups[_group(name)])) for name in deltas}
    squares = sum(d * d for d in from_mean.values())
    if squares == 0:
        raise ValueError("a rise needs two positions on its axis")
    scale = (max(x.values()) - min(x.values()) if span is None else span) / squares
    return {name: Term(delta, scale * from_mean[name]) for name, delta in deltas.items()}


def _group(name: str) -> str:
    return name.split(", ")[0] if ", " in name else ""


def judge(
    build: Build,
    deltas: Mapping[str, Delta],
    records: Records,
    value: Value,
    rule: Rule,
    what: str,
    aspects: Aspects | None = None,
    sampled: bool = False,
) -> Finding:
    """The verdict of the latest look that all differences have reached.

    A look at n seeds takes the first n seeds of which every difference has both runs. Before the
    first look nothing is decided. Differences with a run that diverged, or of which a measure is
    not finite, are left out, and what is left of them is counted: then nothing is taken to hold.

    Args:
        build: gives the differences their weights.
        deltas: by name.
        records: to read.
        value: what is read.
        rule: what is asked of the effect.
        what: the effect's name in the evidence.
        aspects: for reading beside the verdict: the same effect of each aspect by itself, those
            apart from 0 by Holm over the aspects.
        sampled: whether the aspects are a random sample of what the effect is about, and the
            values their means: their scatter is then part of the error.
    """
    read = {name: Pairs.of(delta, records, value) for name, delta in deltas.items()}
    kept = {name: pairs for name, pairs in read.items() if not pairs.diverged}
    lost = len(read) - len(kept)
    suffix = f"; left out, with runs that diverged: {lost}" if lost else ""
    measured = sum(bool(pairs.gains) for pairs in kept.values())
    if not measured:
        verdict = UNDECIDED if lost else NOT_MEASURED
        return Finding(verdict, f"{what}: none of {len(read)} differences measured{suffix}")
    shared = sorted(set.intersection(*(set(pairs.gains) for pairs in kept.values())))
    try:
        terms = build({name: deltas[name] for name in kept})
    except ValueError as error:  # too little is left of it
        return Finding(UNDECIDED, f"{what}: {error}{suffix}")
    weights = np.array([terms[name].weight for name in kept])
    reached = [k for k, n in enumerate(LOOKS) if n <= len(shared)]
    if not reached:
        before = _before(what, list(kept.values()), weights, rule.scale.unit)
        return Finding(UNDECIDED, before + suffix)
    look = reached[-1]
    seeds = shared[: LOOKS[look]]
    fitted = fit(*arms(kept.values(), seeds), weights)
    by_aspect = {
        aspect: fit(*arms([Pairs.of(of[n], records, value) for n in kept], seeds), weights)
        for aspect, of in (aspects or {}).items()
    }
    if sampled:
        fitted = widened(fitted, list(by_aspect.values()))
    verdict = str(decide(fitted, look, rule, lost > 0))
    words = f"{what}: " + _words(fitted, look, rule, list(kept))
    if by_aspect:
        words += "; " + _apart(by_aspect, look, rule.scale.unit)
    return Finding(verdict, words + suffix, look, fitted.precision)


def _before(what: str, kept: Sequence[Pairs], weights: np.ndarray, unit: str) -> str:
    """What there is before the first look; for reading, no interval.

    The effect itself where every difference is measured. Of a part of them only a mean says
    something: a rise or an interaction of a part is another effect, of another sign even.
    """
    gains = [list(pairs.gains.values()) for pairs in kept]
    measured = [values for values in gains if values]
    ready = sum(len(values) >= LOOKS[0] for values in gains)
    said = (
        f"{what}: no look yet, {len(measured)} of {len(kept)} differences measured, {ready} with "
        f"{LOOKS[0]} seeds"
    )
    least, most = min(map(len, measured)), max(map(len, measured))
    n = f"n = {most}" if least == most else f"n = {least} to {most}"
    if len(measured) == len(kept):
        effect = float(weights @ [np.mean(values) for values in gains])
        return f"{said}; {effect:+.2f} {unit} ({n})"
    if np.allclose(weights, 1 / len(kept)):
        average = float(np.mean([np.mean(values) for values in measured]))
        return f"{said}; mean Δ of them {average:+.2f} {unit} ({n})"
    return f"{said}; not to be computed before all {len(kept)} are"


def _words(fitted: Fit, look: int, rule: Rule, names: list[str]) -> str:
    n, cells, unit = LOOKS[look], len(names), rule.scale.unit
    low, high = repeated_interval(fitted, look)
    of = f" of {cells} differences" if cells > 1 else ""
    parts = [
        f"{float(fitted.estimate):+.2f} [{float(low):+.2f}, {float(high):+.2f}] {unit}{of} "
        f"(look at n = {n})"
    ]
    if cells > 1:
        above, below = cells_apart(fitted, look)
        drawn = shrunk(fitted.effects, fitted.cell_se)
        parts.append(
            f"cells above 0: {int(above.sum())}, below: {int(below.sum())}"
            + _named(names, below)
            + f" (Holm), shrunk {drawn.min():+.2f} to {drawn.max():+.2f}"
        )
    units = "seeds" if fitted.seeds else "pairs" if fitted.paired else "runs"
    parts.append(
        f"a run's spread {float(fitted.spread):.2f}, correlation of pairs "
        f"{float(fitted.correlation):+.2f}, units {units}"
    )
    known, target = fitted.precision, rule.target
    tested = 1 if fitted.seeds else cells  # for a share of the seeds
    enough = seeds_to_find(target, known, look, tested)
    share = power(target, known.se, known.df, look, tested)
    now = f"power for {target:g} {unit} above {rule.bound:g}: {share:.0%}"
    if enough is None:
        parts.append(f"{now}, below {POWER:.0%} even with n = {LOOKS[-1]}")
    else:
        parts.append(now if enough == n else f"{now}, {POWER:.0%} with n = {enough}")
    return "; ".join(parts)


def _apart(by_aspect: Mapping[str, Fit], look: int, unit: str) -> str:
    """Which aspects' effects lie apart from 0, and how far they reach."""
    names, each = list(by_aspect), list(by_aspect.values())
    above, below = effects_apart(each, look)
    effects = [float(fitted.estimate) for fitted in each]
    return (
        f"of {len(each)} one by one above 0: {int(above.sum())}{_named(names, above)}, below: "
        f"{int(below.sum())}{_named(names, below)} (Holm), {min(effects):+.2f} to "
        f"{max(effects):+.2f} {unit}"
    )


def _named(names: list[str], which: np.ndarray) -> str:
    chosen = [name for name, yes in zip(names, which, strict=True) if yes]
    return f" ({', '.join(chosen)})" if chosen else ""
