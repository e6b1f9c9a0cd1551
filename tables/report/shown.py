"""Tables as the page shows them: each number with the runs behind it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from paper_repro.config import RunConfig
from paper_repro.experiment.measures import Measures
from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Record, Records
from tables.base import (
    Cell,
    Delta,
    Entry,
    Interaction,
    MeanDelta,
    Number,
    Reading,
    Table,
    Words,
)
from tables.render import text
from tables.stats import differing, summarise

__all__ = ["Grid", "Once", "Run", "Shown", "command", "grids", "make", "relative"]

#: Make targets of tables that have none of their own name.
_TARGETS = {"table5-types": "table5"}


class Once(Records):
    """Records that are read once each: a page asks for the same ones again and again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._read: dict[Path, Record | None] = {}

    def get(self, config: RunConfig) -> Record | None:
        path = self.path(config)
        if path not in self._read:
            self._read[path] = super().get(config)
        return self._read[path]

    def found(self) -> list[Record]:
        """Those that were asked for and are there, by run."""
        return [record for _, record in sorted(self._read.items()) if record is not None]


def make(table: str, profile: Profile) -> str:
    """The command that trains what a table lacks and renders it."""
    return f"make {_TARGETS.get(table, table)} PROFILE={profile.name}"


def command(path: Path) -> str:
    """The command that trains a record's run once more and compares."""
    return f"python -m paper_repro run --from-record {path.as_posix()}"


def relative(path: Path, page: Path) -> str:
    """A link from a page to a file that works wherever their folder lies."""
    return Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix()


@dataclass(frozen=True)
class Run:
    """One run behind a number.

    Attributes:
        arm: of a difference, its optimizer; empty for a cell.
        seed: of the run.
        measured: in words: the number, or the record's status.
        record: link to it.
        again: the command that makes it.
        measure: link to the measure that the number was read from, if it was.
    """

    arm: str
    seed: int
    measured: str
    record: str
    again: str
    measure: str = ""


@dataclass(frozen=True)
class Shown:
    """An entry: what it says, what it sorts by, the published number, and its runs."""

    text: str
    key: float | None = None
    published: str = ""
    runs: tuple[Run, ...] = ()
    note: str = ""
    words: bool = False


@dataclass(frozen=True)
class Grid:
    """A table in one reading (after the last epoch, at the best one)."""

    title: str
    headers: tuple[str, ...]
    labels: int
    rows: tuple[tuple[tuple[str, ...], tuple[Shown, ...]], ...] = field(default=())

    @property
    def published(self) -> bool:
        """Whether some entry has a published number beside it."""
        return any(entry.published for _, row in self.rows for entry in row)


def grids(table: Table, records: Records, profile: Profile, page: Path) -> Iterator[Grid]:
    """The table, then those of its alternatives that show something else."""
    width = len(table.rows[0].labels) if table.rows else 0
    for reading in (table.own, *differing(table, records)):
        show = _Show(reading, records, profile, page)
        rows = tuple(
            (row.labels, tuple(show(entry) for entry in row.entries))
            for row in table.rows
            if reading.value is table.value or not row.only_words
        )
        yield Grid(reading.title, reading.headers(table.headers), width, rows)


@dataclass(frozen=True)
class _Show:
    reading: Reading
    records: Records
    profile: Profile
    page: Path

    def __call__(self, entry: Entry) -> Shown:
        if isinstance(entry, Words):
            return Shown(entry.say(self.records), words=True)
        if isinstance(entry, Number):
            if entry.value is None:
                return Shown("–", None, self._published(entry, True))
            said = f"{entry.value:.{entry.digits}f}"
            return Shown(said, entry.value, self._published(entry, True), note="Trains nothing.")
        summary = summarise(entry, self.records, self.reading.value)
        said = text(summary, None, self.reading.digits_of(entry))
        return Shown(
            said,
            summary.mean,
            self._published(entry, False),
            tuple(self._runs(entry)),
            "Mean of the Δ above in this column." if isinstance(entry, MeanDelta) else "",
        )

    def _published(self, entry: Entry, anyone: bool) -> str:
        if isinstance(entry, Words):
            return ""
        known = entry.published
        if known is None or not (anyone or self.profile.evidence):
            return ""
        if not self.reading.comparable:
            return ""
        sign = "" if isinstance(entry, Cell | Number) else "+"
        return f"{known:{sign}.{entry.digits}f}"

    def _runs(self, entry: Cell | Delta | MeanDelta | Interaction) -> Iterator[Run]:
        if isinstance(entry, Cell):
            yield from self._cell(entry)
        elif isinstance(entry, Delta):
            yield from self._cell(entry.treatment, named=True)
            yield from self._cell(entry.baseline, named=True)
        elif isinstance(entry, Interaction):
            yield from self._runs(entry.first)
            yield from self._runs(entry.second)

    def _cell(self, cell: Cell, named: bool = False) -> Iterator[Run]:
        measures = Measures(self.records.folder)
        for config in cell.runs:
            record = self.records.get(config)
            if record is None:
                continue
            path, link = self.records.path(config), ""
            read: float | None = None
            if cell.measurement is None:
                read = (cell.value or self.reading.value)(record)
            elif (there := measures.get(config, cell.measurement.spec)) is not None:
                read = cell.measurement.value(there)
                link = relative(measures.path(config, cell.measurement.spec), self.page)
            said = "not measured" if record.status == "finished" else record.status
            if read is not None:
                said = f"{read:.{self.reading.digits_of(cell)}f}"
            arm = config.optimizer.name if named else ""
            yield Run(arm, config.seed, said, relative(path, self.page), command(path), link)
