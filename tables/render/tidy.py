"""A table's runs one by one, for whoever computes statistics of their own."""

from __future__ import annotations

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Records
from tables.base import Cell, Table, own_value
from tables.stats import read_run

__all__ = ["runs_csv"]

_COLUMNS = ("profile", "column", "value", "seed", "status", "measured", "missed", "run")


def runs_csv(table: Table, records: Records, profile: Profile) -> str:
    """One line a run and cell: labels, column, seed, what was measured, and the fingerprint.

    ``value`` names what is read: the table's own value, its alternatives, the cell's own, or the
    measure of the trained run. ``status`` is the record's, ``missing`` where there is none;
    ``missed`` the sparsity reached minus the one asked for.
    """
    import pandas as pd  # here, so that a machine that only trains does without

    width = len(table.rows[0].labels) if table.rows else 0
    names = table.headers[:width]
    lines = []
    for row in table.rows:
        for i, entry in enumerate(row.entries, start=width):
            if not isinstance(entry, Cell):
                continue
            readings = (table.own, *table.alternatives)
            for reading in readings if own_value(entry) is None else readings[:1]:
                read, header = reading.value, reading.headers(table.headers)[i]
                for config in entry.runs:
                    record = records.get(config)
                    found = None if record is None else read_run(entry, record, records, read)[0]
                    lines.append(
                        {
                            **dict(zip(names, row.labels, strict=True)),
                            "profile": profile.name,
                            "column": header,
                            "value": own_value(entry) or read.__name__,
                            "seed": config.seed,
                            "status": "missing" if record is None else record.status,
                            "measured": found,
                            "missed": None if record is None else record.missed,
                            "run": config.fingerprint,
                        }
                    )
    return pd.DataFrame(lines, columns=[*names, *_COLUMNS]).to_csv(index=False)
