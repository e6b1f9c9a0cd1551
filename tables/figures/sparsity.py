"""Accuracy against sparsity: every seed a dot, their mean a line, the published curve beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Cell, Table, last_accuracy
from tables.compare import data_label
from tables.figures import FIGURES
from tables.figures.style import COLOURS, LINES, MARKERS, WIDTH, described, figure
from tables.stats import by_seed

__all__ = ["draw"]

_OPTIMIZERS = ("SGD", "S2-SAM")
_ASIDE = {"SGD": -0.08, "S2-SAM": 0.08}  # so that dots of one sparsity do not hide each other
_COLUMNS = 2


@dataclass
class _Curves:
    """By optimizer: what each sparsity's seeds reached, and what is published."""

    sparsities: tuple[str, ...]
    ours: dict[str, list[list[float]]] = field(default_factory=dict)
    published: dict[str, list[float | None]] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        return any(values for each in self.ours.values() for values in each)

    @property
    def seeds(self) -> str:
        counts = {len(v) for each in self.ours.values() for v in each if v}
        low, high = min(counts), max(counts)
        return f"n = {low}" if low == high else f"n = {low} to {high}"


@FIGURES.register("sparsity")
def draw(profile: Profile, records: Records) -> Iterator[tuple[str, Any]]:
    """MEST(EM) from dense to 98 % (R6), and all methods of Table 1; what has no run is left out."""
    sweep = _by_row(TABLES.build(Spec("ablation-sweep"), profile=profile), records)
    if sweep.measured:
        yield "sparsity-mest", _sweep(profile, sweep)
    table = TABLES.build(Spec("table1"), profile=profile)
    drawn: set[str] = set()
    for dataset in ("cifar10", "cifar100"):
        if dataset not in profile.datasets or profile.datasets[dataset] in drawn:
            continue  # nothing stands for it, or what has been drawn already
        drawn.add(profile.datasets[dataset])
        label = data_label(profile, dataset)
        found = {m: c for m, c in _by_column(table, label, records).items() if c.measured}
        if found:
            yield f"sparsity-{dataset}", _methods(label, found)


def _values(cell: Any, records: Records) -> list[float]:
    assert isinstance(cell, Cell)
    return list(by_seed(cell, records, last_accuracy).values())


def _by_row(table: Table, records: Records) -> _Curves:
    """A table with one row a sparsity and optimizer."""
    curves = _Curves(tuple(dict.fromkeys(row.labels[0] for row in table.rows)))
    for optimizer in _OPTIMIZERS:
        cells = [row.entries[0] for row in table.rows if row.labels[1] == optimizer]
        curves.ours[optimizer] = [_values(cell, records) for cell in cells]
        curves.published[optimizer] = [c.published for c in cells if isinstance(c, Cell)]
    return curves


def _by_column(table: Table, data: str, records: Records) -> Mapping[str, _Curves]:
    """A table with a row a method and optimizer, and a column a data set and sparsity."""
    columns = [
        (i, header.rsplit(" ", 1)[1])
        for i, header in enumerate(table.headers[2:])
        if header.rsplit(" ", 1)[0] == data
    ]
    found: dict[str, _Curves] = {}
    for row in table.rows:
        method, optimizer = row.labels
        if optimizer in _OPTIMIZERS:
            curves = found.setdefault(method, _Curves(tuple(s for _, s in columns)))
            curves.ours[optimizer] = [_values(row.entries[i], records) for i, _ in columns]
    return found


def _sweep(profile: Profile, curves: _Curves) -> Any:
    beside = profile.evidence and any(any(v) for v in curves.published.values())
    drawn = figure(WIDTH, 4.9 if beside else 3.1)
    drawn.suptitle(f"MEST(EM) over sparsities (R6), a dot a seed, {curves.seeds}")
    panels = drawn.subplots(2 if beside else 1, 1, squeeze=False)[:, 0]
    _panel(panels[0], curves.sparsities, curves.ours)
    panels[0].set_title(f"here: {data_label(profile, 'cifar10')}, {profile.name} profile")
    panels[0].legend(fontsize=8)
    if beside:
        known = {o: [[] if v is None else [v] for v in p] for o, p in curves.published.items()}
        _panel(panels[1], curves.sparsities, known)
        panels[1].set_title("published: ResNet-32, CIFAR-10 (mean of 3)")
    for axes in panels:
        axes.set_ylabel("test accuracy (%)")
    panels[-1].set_xlabel("sparsity (not to scale)")
    words = f"Test accuracy of MEST(EM) at {', '.join(curves.sparsities)} sparsity"
    return described(drawn, f"{words}: {_means(curves)}.")


def _methods(label: str, found: Mapping[str, _Curves]) -> Any:
    rows = -(-len(found) // _COLUMNS)
    drawn = figure(WIDTH, 0.8 + 1.7 * rows)
    drawn.suptitle(f"Test accuracy (%) by sparsity, {label}")
    wide = min(_COLUMNS, len(found))
    panels = drawn.subplots(rows, wide, squeeze=False, sharey=True).flatten()
    for axes, (method, curves) in zip(panels, found.items(), strict=False):
        _panel(axes, curves.sparsities, curves.ours)
        axes.set_title(f"{method} ({curves.seeds})", fontsize=8)
    for axes in panels[len(found) :]:
        axes.set_visible(False)
    handles = {h.get_label(): h for axes in panels for h in axes.get_legend_handles_labels()[0]}
    panels[0].legend(
        handles=list(handles.values()),
        loc="lower left",
        bbox_to_anchor=(0, 1.12),
        ncols=2,
        fontsize=8,
    )
    said = "; ".join(f"{method}: {_means(curves)}" for method, curves in found.items())
    return described(drawn, f"Test accuracy on {label} by method and sparsity. {said}.")


def _panel(axes: Any, sparsities: Sequence[str], by: Mapping[str, Sequence[list[float]]]) -> None:
    for optimizer, each in by.items():
        style = {"color": COLOURS[optimizer], "marker": MARKERS[optimizer]}
        dots = [(i + _ASIDE[optimizer], v) for i, values in enumerate(each) for v in values]
        means = [(i, sum(values) / len(values)) for i, values in enumerate(each) if values]
        if not means:
            continue
        axes.plot(*zip(*dots, strict=True), linestyle="", markersize=3.5, alpha=0.75, **style)
        axes.plot(
            *zip(*means, strict=True),
            LINES[optimizer],
            color=COLOURS[optimizer],
            linewidth=1.3,
            marker="_",
            label=optimizer,
        )
    axes.set_xticks(range(len(sparsities)), sparsities)
    axes.set_xlim(-0.4, len(sparsities) - 0.6)
    axes.grid(axis="y", color="#dddddd", linewidth=0.5)


def _means(curves: _Curves) -> str:
    said = []
    for optimizer, each in curves.ours.items():
        known = [
            f"{sum(values) / len(values):.2f} at {s}"
            for s, values in zip(curves.sparsities, each, strict=True)
            if values
        ]
        if known:
            said.append(f"{optimizer} {', '.join(known)}")
    return "; ".join(said)
