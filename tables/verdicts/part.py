"""A part of a claim: which differences of runs it is about, and the rule that judges them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from paper_repro.experiment.measures import Measured
from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Cell, Delta, Table, last_accuracy
from tables.inference.looks import LOOKS
from tables.inference.reading import NOT_MEASURED, Build, Finding, judge, mean
from tables.inference.rules import Rule, all_of

__all__ = [
    "GAIN",
    "Part",
    "Read",
    "Whole",
    "column",
    "optimizers",
    "reread",
    "shown",
    "table_of",
    "with_looks",
]

GAIN = Rule()

Read = Callable[[Measured], float | None]


@dataclass(frozen=True)
class Part:
    """A question that runs can answer, and the rule by which they do.

    Attributes:
        label: as its row is named: the claim's number and a letter, or a letter and a number.
        text: the claim.
        table: whose runs it needs.
        deltas: its differences at a profile, by name; none where the profile has none of it.
        build: their weights.
        rule: what is asked.
        what: the effect's name in the evidence.
        control: label of the positive control that bears on it; None where it is not about S2-SAM.
        aspects: what else is read of the same measures, by name, for reading beside the verdict.
        sampled: whether they are a random sample, and the values their means.
    """

    label: str
    text: str
    table: str
    deltas: Callable[[Profile], Mapping[str, Delta]]
    build: Build = mean
    rule: Rule = GAIN
    what: str = "mean Δ"
    control: str | None = "C"
    aspects: Callable[[Profile], Mapping[str, Read]] | None = None
    sampled: bool = False

    def judge(self, profile: Profile, records: Records) -> Finding:
        """What the records of a profile say, of as many of its seeds as there are."""
        deltas = self.deltas(profile)
        if not deltas:
            return Finding(NOT_MEASURED, f"the {profile.name} profile has none of it")
        reads = self.aspects(profile) if self.aspects else {}
        aspects = {
            aspect: {name: reread(delta, read) for name, delta in deltas.items()}
            for aspect, read in reads.items()
        }
        return judge(
            self.build,
            deltas,
            records,
            last_accuracy,
            self.rule,
            self.what,
            aspects,
            self.sampled,
        )


@dataclass(frozen=True)
class Whole:
    """A claim that is the intersection of parts with rows of their own.

    Attributes:
        label: as its row is named.
        text: the claim.
        parts: the parts' labels.
    """

    label: str
    text: str
    parts: Sequence[str]

    def judge(self, found: Mapping[str, Finding]) -> Finding:
        """Its verdict, of the parts' by label."""
        verdicts = [found[label].verdict for label in self.parts]
        said = (f"{label}: {v}" for label, v in zip(self.parts, verdicts, strict=True))
        return Finding(all_of(verdicts), "; ".join(said))


def reread(delta: Delta, read: Read) -> Delta:
    """The same difference, with something else read of the measures of its runs.

    Raises:
        ValueError: it reads records alone.
    """

    def cell(own: Cell) -> Cell:
        if own.measurement is None:
            raise ValueError("the cell reads no measure")
        return replace(own, measurement=replace(own.measurement, value=read))

    return Delta(cell(delta.treatment), cell(delta.baseline))


def with_looks(profile: Profile) -> Profile:
    """The profile with as many seeds as the last look takes: its own first, then the next ones."""
    more = count(max(profile.seeds) + 1)
    missing = max(0, LOOKS[-1] - len(profile.seeds))
    return replace(profile, seeds=(*profile.seeds, *(next(more) for _ in range(missing))))


_built: tuple[Profile, dict[str, Table]] | None = None


def table_of(name: str, profile: Profile) -> Table:
    """A table, built once for all parts that are judged of one profile object."""
    global _built
    if _built is None or _built[0] is not profile:
        _built = profile, {}
    if name not in _built[1]:
        _built[1][name] = TABLES.build(Spec(name), profile=profile)
    return _built[1][name]


def shown(profile: Profile, table: str) -> Iterator[tuple[str, str, Delta]]:
    """Every difference of a table with its row's first label and its column."""
    built = table_of(table, profile)
    for row in built.rows:
        for header, entry in zip(built.headers[len(row.labels) :], row.entries, strict=True):
            if isinstance(entry, Delta) and entry.treatment.runs:
                yield row.labels[0], header, entry


def column(table: str, header: str) -> Callable[[Profile], Mapping[str, Delta]]:
    """One column's Δ, by the first label of the row."""
    return lambda profile: {r: d for r, c, d in shown(profile, table) if c == header}


def optimizers(
    table: str, treatment: str, baseline: str, rows: tuple[str, ...] = ()
) -> Callable[[Profile], Mapping[str, Delta]]:
    """One optimizer minus another in a table of rows (label, optimizer), accuracies first."""

    def deltas(profile: Profile) -> Mapping[str, Delta]:
        cells = {row.labels: row.entries[0] for row in table_of(table, profile).rows}
        found = {}
        for label in dict.fromkeys(label for label, _ in cells):
            ours, theirs = cells.get((label, treatment)), cells.get((label, baseline))
            if not (isinstance(ours, Cell) and isinstance(theirs, Cell)):
                continue  # the table compares these two elsewhere only
            if ours.runs and theirs.runs and (not rows or label in rows):
                found[label] = Delta(ours, theirs)
        return found

    return deltas
