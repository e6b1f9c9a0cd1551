"""A table's runs one by one, for whoever computes statistics of their own."""

from __future__ import annotations

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Records
from tables.base import Cell, Table

__all__ = ["runs_csv"]

_COLUMNS = ("profile", "column", "value", "seed", "status", "measured", "missed", "run")


def runs_csv(table: Table, records: Records, profile: Profile) -> str:
    """One line a run and cell: labels, column, seed, what was measured, and the fingerprint.

    ``value`` names what is read from the record: the table's own value, its alternatives, or the
    cell's own. ``status`` is the record's, ``missing`` where there is none; ``missed`` the sparsity
    reached minus the one asked for.
    """
    import pandas as pd  # here, so that a machine that only trains does without

    width = len(table.rows[0].labels) if table.rows else 0
    names = table.headers[:width]
    lines = []
    for row in table.rows:
        for header, entry in zip(table.headers[width:], row.entries, strict=True):
            if not isinstance(entry, Cell) or getattr(entry, "measurement", None) is not None:
                continue
            values = (table.value, *(value for _, value in table.alternatives))
            for read in values if entry.value is None else (entry.value,):
                for config in entry.runs:
                    record = records.get(config)
                    lines.append(
                        {
                            **dict(zip(names, row.labels, strict=True)),
                            "profile": profile.name,
                            "column": header,
                            "value": read.__name__,
                            "seed": config.seed,
                            "status": "missing" if record is None else record.status,
                            "measured": None if record is None else read(record),
                            "missed": None if record is None else record.missed,
                            "run": config.fingerprint,
                        }
                    )
    return pd.DataFrame(lines, columns=[*names, *_COLUMNS]).to_csv(index=False)
