"""Tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Records
from paper_repro.files import write_text
from tables.base import (
    Cell,
    Delta,
    Entry,
    Interaction,
    MeanDelta,
    Number,
    Reading,
    Row,
    Table,
    Words,
    best_accuracy,
    own_value,
)
from tables.render import tex
from tables.render.state import state
from tables.render.tidy import runs_csv
from tables.render.trained import about
from tables.stats import Summary, differing, summarise

__all__ = ["csv", "latex", "markdown", "notes", "text", "write"]

_WARNING = (
    "**Not evidence.** The {name} profile shows that the pipeline works ({about}). "
    "Its numbers say nothing about the paper's claims."
)
_NO_EVIDENCE = "Not evidence: this size only shows that the pipeline works."
_CELL = "mean ± standard deviation over seeds (number of runs)."
_DELTA = (
    "Δ: difference to {baseline}, or between what its row or column names, paired by seed, "
    "[95 % t-interval of its mean] if there are two or more (number of pairs)."
)
_MEAN_DELTA = (
    "mean Δ: mean of the rows' Δ, [95 % t-interval of it over the seeds] if all rows have the same "
    "two or more (number of rows that have one)."
)
_GAPS = (
    "–: nothing measured yet. failed: no run of the cell finished, and those tried failed (for "
    "want of memory or the like). diverged: a loss of theirs became infinite."
)
_PUBLISHED = "{name}: the published number, in the paper's setting."
_BEST = "The authors' code reports the epoch that is best on the test images."


def text(summary: Summary, published: float | None = None, digits: int = 2) -> str:
    """One entry in words: ``92.31 ± 0.12 (3)``, ``+0.34 [-0.10, +0.78] (3)``, ``–``, ``failed``."""
    lost = {"failed": summary.failed, "diverged": summary.diverged}
    if summary.mean is None:
        shown = " and ".join(word for word, n in lost.items() if n) or "–"
    else:
        if summary.difference:
            shown = _signed(summary.mean, digits)
            if summary.low is not None and summary.high is not None:
                shown += f" [{_signed(summary.low, digits)}, {_signed(summary.high, digits)}]"
        else:
            shown = f"{summary.mean:.{digits}f}"
            if summary.std is not None:
                shown += f" ± {summary.std:.{digits}f}"
        lost["not as sparse as asked"] = summary.elsewhere
        counts = [str(summary.n), *(f"{n} {word}" for word, n in lost.items() if n)]
        shown += f" ({', '.join(counts)})"
    if published is not None:
        sign = "+" if summary.difference else ""
        shown += f" [paper {published:{sign}.{digits}f}]"
    return shown


def _signed(number: float, digits: int) -> str:
    return f"{round(number, digits) + 0.0:+.{digits}f}"  # nothing is not negative


def _grid(table: Table, records: Records, reading: Reading, paper: bool) -> list[list[str]]:
    return [
        [*row.labels, *(_shown(entry, records, reading, paper) for entry in row.entries)]
        for row in table.rows
        if reading.value is table.value or not row.only_words
    ]


def _shown(
    entry: Entry,
    records: Records,
    reading: Reading,
    paper: bool,
    published: bool = True,
) -> str:
    if isinstance(entry, Words):
        return entry.say(records)
    if isinstance(entry, Number):
        shown = "–" if entry.value is None else f"{entry.value:.{entry.digits}f}"
        known = _known(entry, paper) if published else ""
        return f"{shown} [published {known}]" if known else shown
    known_by = entry.published if paper and published and reading.comparable else None
    summary = summarise(entry, records, reading.value)
    return text(summary, known_by, reading.digits_of(entry))


def _legend(table: Table, profile: Profile, published: str) -> list[str]:
    """How to read the entries that this table has; ``published`` names the published ones."""
    entries = _measured(table)
    if not entries:
        return []
    kinds = {type(entry) for entry in entries}
    known = any(entry.published is not None for entry in entries)
    return [
        _CELL,
        *([_DELTA.format(baseline=table.baseline)] if Delta in kinds else []),
        *([_MEAN_DELTA] if MeanDelta in kinds else []),
        _GAPS,
        *([_published(table, published)] if known and profile.evidence else []),
    ]


def _published(table: Table, name: str) -> str:
    said = _PUBLISHED.format(name=name)
    best = any(reading.value is best_accuracy for reading in table.alternatives)
    return f"{said} {_BEST}" if best else said


def _measured(table: Table) -> list[Cell | Delta | MeanDelta | Interaction]:
    """The entries that say what runs measured."""
    return [e for row in table.rows for e in row.entries if not isinstance(e, Words | Number)]


def _trains_nothing(table: Table) -> bool:
    """Whether all entries are known without any record, so that no profile makes a difference."""
    entries = [entry for row in table.rows for entry in row.entries]
    return bool(entries) and all(isinstance(entry, Number) for entry in entries)


def markdown(table: Table, records: Records, profile: Profile) -> str:
    """The whole page: title, warning, table, its alternatives, legend, notes, what is missing."""
    parts = [f"# {table.title}"]
    if _trains_nothing(table):
        parts.append("Nothing is trained for this table; it is the same in every profile.")
    elif profile.evidence:
        parts.append(f"Profile `{profile.name}`: {about(table, profile)}.")
    else:
        parts.append(_WARNING.format(name=profile.name, about=about(table, profile)))
    for reading in (table.own, *differing(table, records)):
        parts += [f"## {reading.title}"] if reading.title else []
        parts.append(_grid_table(table, _grid(table, records, reading, profile.evidence), reading))
    parts += ["## Notes", "\n".join(f"- {note}" for note in notes(table, records, profile))]
    return "\n\n".join(parts) + "\n"


def notes(table: Table, records: Records, profile: Profile) -> list[str]:
    """How to read a table, what to know of its numbers, and what there is of it."""
    return [
        *_legend(table, profile, "[paper x]"),
        *table.notes,
        *_repeated(table, records),
        *state(table, records),
    ]


def _repeated(table: Table, records: Records) -> list[str]:
    """What is said of alternatives that would show the same numbers again."""
    if not any(records.get(config) for config in table.runs()):
        return []
    shown = differing(table, records)
    return [
        f"{reading.title}: the same numbers, hence not shown again."
        for reading in table.alternatives
        if reading not in shown
    ]


def _grid_table(table: Table, grid: list[list[str]], reading: Reading) -> str:
    """Labels and words to the left, numbers to the right."""
    from tabulate import tabulate  # here, so that a machine that only trains does without

    sides = ["left"] * len(table.headers)
    for row in table.rows:
        for i, entry in enumerate(row.entries, start=len(row.labels)):
            if not isinstance(entry, Words):
                sides[i] = "right"
    headers = reading.headers(table.headers)
    return tabulate(grid, headers, tablefmt="pipe", disable_numparse=True, colalign=sides)


def latex(table: Table, records: Records, profile: Profile) -> str:
    """What a paper would print (:mod:`tables.render.tex`): legend, notes and state stand below."""
    nothing = _trains_nothing(table)
    caption = [
        # LaTeX numbers tables itself.
        re.sub(r"^Table ([A-Z0-9.]+)\. (.*)", r"\2 (the paper's Table \1)", table.title) + ".",
        *([] if nothing else [f"Profile {profile.name}: {about(table, profile)}."]),
        *([] if profile.evidence or nothing else [_NO_EVIDENCE]),
    ]
    legend = _legend(table, profile, "published")
    return tex.page(
        table,
        lambda entry: _shown(entry, records, table.own, False, published=False),
        lambda entry: _known(entry, profile.evidence),
        " ".join(caption),
        [" ".join(legend), *table.notes, *state(table, records)[:1]],
    )


def _known(entry: Entry, paper: bool) -> str:
    """An entry's published number alone."""
    if isinstance(entry, Words):
        return ""
    published = entry.published
    if published is None or not (paper or isinstance(entry, Number)):
        return ""
    sign = "+" if isinstance(entry, Delta | MeanDelta | Interaction) else ""
    return f"{published:{sign}.{entry.digits}f}"


def csv(table: Table, records: Records, profile: Profile) -> str:
    """One line an entry: labels, column, numbers, and the fingerprints of its runs.

    ``value`` names what is read from a record: the table's own value first, then its alternatives.
    ``published`` is the paper's number; where the profile is no evidence it is left empty.
    """
    width = len(table.rows[0].labels) if table.rows else 0
    lines: list[dict[str, object]] = []
    for reading in (table.own, *table.alternatives):
        value, paper = reading.value, profile.evidence and reading.comparable
        for row, header, entry in _entries(table, width, reading):
            if isinstance(entry, Words):
                if value is not table.value:
                    continue
                lines.append(
                    {
                        "profile": profile.name,
                        **dict(zip(table.headers[:width], row.labels, strict=True)),
                        "column": header,
                        "words": entry.say(records),
                    }
                )
                continue
            if isinstance(entry, Number):
                if value is table.value:
                    lines.append(
                        {
                            "profile": profile.name,
                            **dict(zip(table.headers[:width], row.labels, strict=True)),
                            "column": header,
                            "mean": entry.value,
                            "published": entry.published,
                        }
                    )
                continue
            own = own_value(entry)
            if own is not None and value is not table.value:
                continue  # reads the same in every alternative
            summary = summarise(entry, records, value)
            lines.append(
                {
                    "profile": profile.name,
                    **dict(zip(table.headers[:width], row.labels, strict=True)),
                    "column": header,
                    "value": own or value.__name__,
                    "mean": summary.mean,
                    "std": summary.std,
                    "n": summary.n,
                    "low95": summary.low,
                    "high95": summary.high,
                    "missing": summary.missing,
                    "failed": summary.failed,
                    "diverged": summary.diverged,
                    "not_as_sparse_as_asked": summary.elsewhere,
                    "published": entry.published if paper else None,
                    "runs": " ".join(c.fingerprint for c in getattr(entry, "runs", ())),
                }
            )
    import pandas as pd

    return pd.DataFrame(lines).to_csv(index=False)


def _entries(table: Table, width: int, reading: Reading) -> Iterator[tuple[Row, str, Entry]]:
    headers = reading.headers(table.headers)
    for row in table.rows:
        for header, entry in zip(headers[width:], row.entries, strict=True):
            yield row, header, entry


def write(table: Table, records: Records, profile: Profile, folder: Path) -> list[Path]:
    """Write ``<name>`` as ``.md``, ``.tex``, ``.csv`` and, for runs, ``.runs.csv``; their paths."""
    contents = {
        "md": markdown(table, records, profile),
        "tex": latex(table, records, profile),
        "csv": csv(table, records, profile),
    }
    if any(table.runs()):
        contents["runs.csv"] = runs_csv(table, records, profile)
    paths = []
    for suffix, content in contents.items():
        path = folder / f"{table.name}.{suffix}"
        write_text(path, content)
        paths.append(path)
    return paths
