"""Training curves: loss and accuracy by epoch at 90 %, every seed a thin line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Record, Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Cell
from tables.compare import data_label
from tables.figures import FIGURES
from tables.figures.style import COLOURS, LINES, MARKERS, WIDTH, described, figure

__all__ = ["draw"]

_OPTIMIZERS = ("SGD", "S2-SAM", "SAM")
_SPARSITY = "90%"

#: Panels: what a line of a record's curve is asked for, and how the axis is named.
_PANELS = {
    "train_loss": "training loss",
    "train_accuracy": "training accuracy (%)",
    "test_accuracy": "test accuracy (%)",
}

Runs = Mapping[str, list[Record]]


@FIGURES.register("curves")
def draw(profile: Profile, records: Records) -> Iterator[tuple[str, Any]]:
    """One figure for each method that has a run at 90 % on CIFAR-10 or what stands for it."""
    label = data_label(profile, "cifar10")
    for method, cells in _cells(profile, label).items():
        runs = {
            optimizer: [
                r for c in cell.runs if (r := records.get(c)) is not None and r.body.get("curve")
            ]
            for optimizer, cell in cells.items()
        }
        if any(runs.values()):
            name = method.split("(")[0].lower() + ("-ems" if "EM&S" in method else "")
            yield f"curves-{name}", _curves(profile, f"{method} at {_SPARSITY}, {label}", runs)


def _cells(profile: Profile, label: str) -> dict[str, dict[str, Cell]]:
    """By method and optimizer: Table 1's, and SAM from Table 4."""
    found: dict[str, dict[str, Cell]] = {}
    table = TABLES.build(Spec("table1"), profile=profile)
    column = table.headers.index(f"{label} {_SPARSITY}") - 2
    for row in (*table.rows, *TABLES.build(Spec("table4"), profile=profile).rows):
        method, optimizer = row.labels
        entry = row.entries[column if len(row.entries) == len(table.headers) - 2 else 0]
        if optimizer in _OPTIMIZERS and isinstance(entry, Cell) and entry.runs:
            found.setdefault(method, {}).setdefault(optimizer, entry)
    return found


def _curves(profile: Profile, title: str, runs: Runs) -> Any:
    panels = {
        key: label
        for key, label in _PANELS.items()
        if any(_points(r, key) for each in runs.values() for r in each)
    }
    drawn = figure(WIDTH, 0.9 + 1.75 * len(panels))
    drawn.suptitle(title)
    noisy = any(r.config.label_noise for each in runs.values() for r in each)
    all_axes = drawn.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (key, label) in zip(all_axes, panels.items(), strict=True):
        for optimizer, each in runs.items():
            _lines(axes, key, optimizer, each)
        wrong = "\n(labels as given, wrong ones too)" if noisy and key == "train_accuracy" else ""
        axes.set_ylabel(label + wrong, fontsize=8)
        axes.grid(color="#dddddd", linewidth=0.5)
    all_axes[-1].set_xlabel("epoch")
    handles = {h.get_label(): h for a in all_axes for h in a.get_legend_handles_labels()[0]}
    all_axes[0].legend(
        handles=list(handles.values()),
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=3,
        fontsize=7.5,
        columnspacing=1,
    )
    return described(drawn, _words(title, runs))


def _points(record: Record, key: str) -> list[tuple[float, float]]:
    """(epoch, value) of a curve; epochs that were not evaluated have none."""
    curve = record.body["curve"]
    return [(line["epoch"], line[key]) for line in curve if line.get(key) is not None]


def _lines(axes: Any, key: str, optimizer: str, records: list[Record]) -> None:
    first = True
    for record in records:
        points = _points(record, key)
        if not points:
            continue
        few = len(points) < len(record.body["curve"]) // 10  # a line would say too much
        axes.plot(
            *zip(*points, strict=True),
            marker=MARKERS[optimizer] if few else None,
            linestyle="" if few else LINES[optimizer],
            color=COLOURS[optimizer],
            linewidth=0.9,
            markersize=5,
            fillstyle="none",
            alpha=0.85,
            label=f"{optimizer} (n = {len(records)})" if first and not few else None,
        )
        first = False


def _words(title: str, runs: Runs) -> str:
    said = []
    for optimizer, each in runs.items():
        last = [points[-1][1] for r in each if (points := _points(r, "train_loss"))]
        if last:
            said.append(f"{optimizer} {sum(last) / len(last):.3f} (n = {len(last)})")
    return f"Training curves of {title}. Training loss at the end: {', '.join(said)}."
