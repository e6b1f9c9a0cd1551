"""What there is behind a table: how many runs and measures, and on what they were made."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from paper_repro.experiment.measures import Measures
from paper_repro.experiment.records import Record, Records
from tables.base import Delta, Table

__all__ = ["state"]


def state(table: Table, records: Records) -> list[str]:
    """What there is: how many runs, and on what they were trained."""
    wanted = list(table.runs())
    if not wanted:
        return []
    there = [record for config in wanted if (record := records.get(config)) is not None]
    counts = Counter(record.status for record in there)
    lost = [f"{counts[status]} {status}" for status in ("failed", "diverged") if counts[status]]
    said = f"{len(there)} of {len(wanted)} runs have a record"
    said += f" ({', '.join(lost)})." if lost else "."
    elsewhere = [record for record in there if record.missed]
    if elsewhere:
        worst = max(elsewhere, key=lambda record: abs(record.missed))
        said += (
            f" {len(elsewhere)} of them missed the sparsity asked for by more than a layer's "
            f"rounding, {worst.config.method.name} at {worst.config.sparsity:.2%} by "
            f"{worst.missed:+.2%}."
        )
    environments = [record.body["environment"] for record in there]
    uncommitted = sum(bool(e["dirty"]) or e["commit"] is None for e in environments)
    if uncommitted:
        said += f" {uncommitted} of them were run from code that was not committed."
    where = Counter(map(_machine, there))
    machines = "; ".join(f"{name} ({n})" for name, n in sorted(where.items()))
    moved = sum(bool(record.body.get("earlier")) for record in there)
    if moved:
        said += (
            f" {moved} of them went on in another environment than they began in; their records "
            "name all of them."
        )
    said += _apart(table, records) + _engines(there) + _data(there)
    threads = Counter(int(e["threads"]) for e in environments if e.get("threads"))
    if len(threads) > 1:
        shown = ", ".join(f"{n} ({count})" for n, count in sorted(threads.items()))
        said += (
            f" They were computed on different numbers of processor threads (runs): {shown}; that "
            "changes a run's last bits, and so where it ends, but not what it is."
        )
    return [
        said,
        *([f"Trained on (runs): {machines}."] if where else []),
        *_measures(table, records),
    ]


def _apart(table: Table, records: Records) -> str:
    """How many pairs of runs that a Δ compares were not trained on the same kind of machine."""
    deltas = [e for row in table.rows for e in row.entries if isinstance(e, Delta)]
    pairs: dict[tuple[str, str], bool] = {}
    for delta in deltas:
        theirs = {config.seed: config for config in delta.baseline.runs}
        for ours in delta.treatment.runs:
            other = theirs.get(ours.seed)
            both = [None if c is None else records.get(c) for c in (ours, other)]
            where = [_machine(r) for r in both if r is not None and r.status == "finished"]
            if other is not None and len(where) == 2:
                pairs[ours.fingerprint, other.fingerprint] = where[0] != where[1]
    n = sum(pairs.values())
    if not n:
        return ""
    return (
        f" {n} of {len(pairs)} pairs that a Δ compares were trained on different machines (device "
        "or version of torch)."
    )


def _machine(record: Record) -> str:
    """The device, a processor's model say, and the version of torch."""
    environment = record.body["environment"]
    return f"{environment.get('device')}, torch {environment.get('torch')}"


def _engines(there: Sequence[Record]) -> str:
    """What computed the steps, where that is not one engine in the arithmetic asked for."""
    environments = [(record.config, record.body["environment"]) for record in there]
    how = Counter(
        f"{e.get('engine', 'dense')}, {e.get('arithmetic', config.precision)}"
        for config, e in environments
    )
    plain = all(
        e.get("engine", "dense") != "sparse-bf16"
        and e.get("arithmetic", config.precision) == config.precision
        for config, e in environments
    )
    if len(how) < 2 and plain:
        return ""
    shown = "; ".join(f"{name} ({n})" for name, n in sorted(how.items()))
    stored = any(e.get("engine") == "sparse-bf16" for _, e in environments)
    return f" Engine and arithmetic (runs): {shown}." + (
        " `sparse-bf16` stores activations in bfloat16." if stored else ""
    )


def _data(there: Sequence[Record]) -> str:
    """Whether runs that should have been trained on the same data were not, as far as they say."""
    found: dict[tuple[object, ...], Counter[str]] = defaultdict(Counter)
    for record in there:
        digest = record.body["environment"].get("data")
        if digest is not None:
            config = record.config
            found[config.dataset, config.train_size, config.label_noise][digest] += 1
    mixed = [
        f"{name}: {', '.join(f'{digest} ({n})' for digest, n in sorted(digests.items()))}"
        for (name, *_), digests in found.items()
        if len(digests) > 1
    ]
    if not mixed:
        return ""
    return (
        " **They were not trained on the same examples**: copies of the data differ in their "
        "order, and with it in the part that is trained on (digests, runs): "
        f"{'; '.join(mixed)}."
    )


def _measures(table: Table, records: Records) -> list[str]:
    """How many of the measures that the cells read are there, and where they were taken."""
    wanted = list(table.measures())
    if not wanted:
        return []
    measures = Measures(records.folder)
    there = [found for pair in wanted if (found := measures.get(*pair)) is not None]
    said = f"{len(there)} of {len(wanted)} measures of trained runs are there"
    where = Counter(m.body["environment"].get("device") for m in there)
    machines = "; ".join(f"{name} ({n})" for name, n in sorted(where.items()))
    uncommitted = sum(m.body["environment"]["dirty"] is not False for m in there)
    said += f", taken on {machines}." if there else "."
    if uncommitted:
        said += f" {uncommitted} of them were taken by code that was not committed."
    return [said]
