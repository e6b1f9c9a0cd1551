"""What a table is made of: cells that name runs, differences between cells, and their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from paper_repro.config import RunConfig
from paper_repro.experiment.measures import Measured
from paper_repro.experiment.records import Record, Records
from paper_repro.registry import Spec

__all__ = [
    "BEST_EPOCH",
    "Cell",
    "Delta",
    "Entry",
    "Interaction",
    "MeanDelta",
    "Measurement",
    "Number",
    "Reading",
    "Row",
    "Table",
    "Words",
    "best_accuracy",
    "last_accuracy",
    "number",
    "own_value",
]


def last_accuracy(record: Record) -> float | None:
    """Test accuracy (%) after the last epoch."""
    return record.accuracy("last")


def best_accuracy(record: Record) -> float | None:
    """Test accuracy (%) of the best epoch, as the released code reports it.

    Of the epochs in which the network was as sparse as after the last one: some methods are denser
    for a while.
    """
    return record.accuracy("best")


@dataclass(frozen=True)
class Measurement:
    """What a cell reads from a measure of a trained run instead of from the run's record.

    Attributes:
        spec: the measure with all of its options.
        value: what is read from it.
    """

    spec: Spec
    value: Callable[[Measured], float | None]


def number(*keys: str) -> Callable[[Measured], float | None]:
    """Reads the number that a measure's values have under these keys, one inside the other."""
    return lambda measured: measured.number(*keys)


@dataclass(frozen=True)
class Cell:
    """One measured quantity over the seeds of one experiment.

    Attributes:
        runs: one a seed; none where the project does not have the experiment (yet).
        published: the paper's number, None where it is not published as text.
        value: what is read from a record, where it is not the table's own value.
        digits: after the decimal point.
        measurement: what is read from a measure of the trained run; None reads the record alone.
    """

    runs: tuple[RunConfig, ...] = ()
    published: float | None = None
    value: Callable[[Record], float | None] | None = None
    digits: int = 2
    measurement: Measurement | None = None


@dataclass(frozen=True)
class Delta:
    """``treatment`` minus ``baseline``, paired by seed."""

    treatment: Cell
    baseline: Cell
    published: float | None = None

    @property
    def digits(self) -> int:
        """After the decimal point: as many as its cells have."""
        return self.treatment.digits


@dataclass(frozen=True)
class MeanDelta:
    """The mean of several differences, each first averaged over its seeds."""

    deltas: tuple[Delta, ...]
    published: float | None = None

    @property
    def digits(self) -> int:
        """After the decimal point: as many as its differences have."""
        return max((delta.digits for delta in self.deltas), default=2)


@dataclass(frozen=True)
class Interaction:
    """``first`` minus ``second``, two differences that share no run, paired by seed."""

    first: Delta
    second: Delta
    published: float | None = None

    @property
    def digits(self) -> int:
        """After the decimal point: as many as its differences have."""
        return self.first.digits


@dataclass(frozen=True)
class Words:
    """What the records say in words, such as a verdict."""

    say: Callable[[Records], str]


@dataclass(frozen=True)
class Number:
    """What is known without any record, such as FLOPs; None where it is not.

    Attributes:
        value: the number.
        published: as a cell's, but whoever published it; the table's notes say who.
        digits: after the decimal point.
    """

    value: float | None
    published: float | None = None
    digits: int = 2


Entry = Cell | Delta | MeanDelta | Interaction | Words | Number


def own_value(entry: Entry) -> str | None:
    """The name of what an entry reads whatever the table's value is; None if it reads that."""
    if isinstance(entry, MeanDelta):
        return own_value(entry.deltas[0]) if entry.deltas else None
    if isinstance(entry, Interaction):
        return own_value(entry.first)
    cell = entry.treatment if isinstance(entry, Delta) else entry
    if not isinstance(cell, Cell):
        return None
    if cell.measurement is not None:
        return cell.measurement.spec.name
    return None if cell.value is None else cell.value.__name__


@dataclass(frozen=True)
class Row:
    """A line of the table: its labels and one entry per column."""

    labels: tuple[str, ...]
    entries: tuple[Entry, ...]

    @property
    def only_words(self) -> bool:
        """Whether it reads the same whatever the table's value is: no alternative shows it."""
        return all(isinstance(entry, Words) for entry in self.entries)


@dataclass(frozen=True)
class Reading:
    """What a table reads from its records; one beside its own is shown in a table of its own.

    Attributes:
        title: the heading.
        value: what is read from a record.
        renamed: columns that have another header here, by the table's own.
        digits: after the decimal point, where they are not the entries' own; of entries that read
            ``value``.
        comparable: whether the published numbers are of it; not in another unit, say.
    """

    title: str
    value: Callable[[Record], float | None]
    renamed: Mapping[str, str] = field(default_factory=dict)
    digits: int | None = None
    comparable: bool = True

    def headers(self, own: tuple[str, ...]) -> tuple[str, ...]:
        """The table's own headers as they are here."""
        return tuple(self.renamed.get(header, header) for header in own)

    def digits_of(self, entry: Cell | Delta | MeanDelta | Interaction) -> int:
        """After the decimal point."""
        if self.digits is None or own_value(entry) is not None:
            return entry.digits
        return self.digits


BEST_EPOCH = Reading("Best epoch on the test images instead of the last", best_accuracy)


@dataclass(frozen=True)
class Table:
    """A table of the paper at one profile.

    Attributes:
        name: as on the command line.
        title: says what is measured, in which unit.
        headers: of the label columns and then of the entries.
        rows: in order.
        notes: what a reader must know to trust the numbers, one sentence or two each.
        value: what is read from a record.
        alternatives: other readings, to show in tables of their own below.
        baseline: what a :class:`Delta` is a difference to where its row and column name nothing.
        about: what is trained, in one line, where that is not what the profile says of itself.
    """

    name: str
    title: str
    headers: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    value: Callable[[Record], float | None] = last_accuracy
    alternatives: tuple[Reading, ...] = ()
    baseline: str = "SGD"
    about: str = ""

    @property
    def own(self) -> Reading:
        """The table's own reading."""
        return Reading("", self.value)

    def runs(self) -> Iterator[RunConfig]:
        """Every run that the table needs, each once."""
        seen: set[str] = set()
        for row in self.rows:
            for entry in row.entries:
                if isinstance(entry, Cell):
                    for config in entry.runs:
                        if config.fingerprint not in seen:
                            seen.add(config.fingerprint)
                            yield config

    def measures(self) -> Iterator[tuple[RunConfig, Spec]]:
        """Every measure of a trained run that a cell reads, each once."""
        pairs = (
            (config, entry.measurement.spec)
            for row in self.rows
            for entry in row.entries
            if isinstance(entry, Cell) and entry.measurement is not None
            for config in entry.runs
        )
        yield from dict.fromkeys(pairs)
