"""What is there: records, tables, runs under way, failures, and files that cannot be read."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.profiles import PROFILES
from paper_repro.experiment.records import STATUSES, Record
from paper_repro.experiment.runs import Workplace
from paper_repro.files import worker_in
from paper_repro.registry import Registry, Spec

__all__ = ["report"]

_IS_RUN = re.compile("[0-9a-f]{16}")  # a fingerprint


def report(place: Workplace, tables: Registry | None) -> tuple[str, list[str]]:
    """The whole report, and a sentence for each record that cannot be read.

    Args:
        place: whose records and runs.
        tables: the table definitions, None where there are none.
    """
    records: dict[str, Record] = {}
    damaged: list[str] = []
    for one in place.records.examined():
        if isinstance(one, Record):  # without its curve: there may be tens of thousands
            reason = {"reason": one.body.get("reason")}
            records[one.config.fingerprint] = replace(one, body=reason)
        else:
            damaged.append(one)
    parts = [_records(place, records)]
    if tables is not None:
        parts.append(_tables(tables, records))
    parts += [_under_way(place, records), _failures(records)]
    return "\n\n".join(part for part in parts if part), damaged


def _records(place: Workplace, records: dict[str, Record]) -> str:
    if not records:
        return f"No records under {place.results}."
    counts = Counter((r.config.profile, r.status) for r in records.values())
    profiles = sorted({profile for profile, _ in counts})
    lines = [[p, *(counts[p, status] or "–" for status in STATUSES)] for p in profiles]
    return f"Records under {place.results}\n" + _plain(lines, ["profile", *STATUSES])


def _tables(tables: Registry, records: dict[str, Record]) -> str:
    """How many of each table's runs need no training any more, by profile."""

    def there(table: str, profile: str) -> str:
        try:
            runs = list(tables.build(Spec(table), profile=PROFILES[profile]).runs())
        except UserError:
            return "–"
        done = sum(
            record.status != "failed"
            for run in runs
            if (record := records.get(run.fingerprint)) is not None
        )
        return f"{done} of {len(runs)}"

    lines = [[table, *(there(table, profile) for profile in PROFILES)] for table in tables]
    lines = [line for line in lines if any(not entry.endswith(" of 0") for entry in line[1:])]
    return "Runs that are there, of those a table wants\n" + _plain(lines, ["table", *PROFILES])


def _under_way(place: Workplace, records: dict[str, Record]) -> str:
    lines = []
    for folder in sorted(path.parent for path in place.runs.glob("*/lock")):
        if not _IS_RUN.fullmatch(folder.name):  # that of the jobs has a lock of another kind
            continue
        worker = worker_in(folder)
        done = folder.name in records and records[folder.name].status != "failed"
        if worker is None and (done or not (folder / "checkpoint.pt").exists()):
            continue
        name, epochs = _run_in(folder)
        state = "interrupted" if worker is None else f"training ({worker})"
        lines.append([folder.name, f"{_epochs(folder)} of {epochs} epochs", state, name])
    title = "Runs under way or interrupted (the command that started one goes on with it)"
    return f"{title}\n{_plain(lines)}" if lines else ""


def _run_in(folder: Path) -> tuple[str, str]:
    try:
        config = RunConfig.from_dict(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError):
        return "its config.json cannot be read", "?"
    return str(config), str(config.epochs)


def _epochs(folder: Path) -> int:
    try:
        return (folder / "log.jsonl").read_text().count("\n")
    except OSError:
        return 0  # none yet, or killed before the first one was written down


def _failures(records: dict[str, Record]) -> str:
    lines = [
        [fingerprint, record.status, str(record.config), _first_line(record.body.get("reason"))]
        for fingerprint, record in records.items()
        if record.status != "finished"
    ]
    title = "Runs that failed (the next sweep tries them again) or diverged (a result)"
    return f"{title}\n{_plain(lines)}" if lines else ""


def _first_line(reason: object) -> str:
    return (str(reason or "").splitlines() or [""])[0]


def _plain(lines: Iterable[Iterable[object]], headers: Sequence[str] = ()) -> str:
    from tabulate import tabulate  # training machines do without it

    return tabulate(lines, headers, tablefmt="plain", disable_numparse=True)
