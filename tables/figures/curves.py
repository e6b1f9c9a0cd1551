"""Training curves: loss and accuracy by epoch, every seed a thin line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Record, Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Cell, Entry
from tables.compare import data_label
from tables.figures import FIGURES
from tables.figures.style import COLOURS, LINES, MARKERS, WIDTH, described, figure

__all__ = ["Runs", "by_method", "draw", "name_of", "stacked"]

_OPTIMIZERS = ("SGD", "S2-SAM", "SAM")
#: Where SAM is trained too (Table 4).
_WITH_SAM = "90%"

#: Panels: what a line of a record's curve is asked for, and how the axis is named.
_PANELS = {
    "train_loss": "training loss",
    "train_accuracy": "training accuracy (%)",
    "test_accuracy": "test accuracy (%)",
}

#: Where some training labels are wrong.
_WRONG = {"train_accuracy": "training accuracy (%)\n(incl. wrong labels)"}

Runs = Mapping[str, list[Record]]


@FIGURES.register("curves")
def draw(profile: Profile, records: Records) -> Iterator[tuple[str, Any]]:
    """One figure for each method with a run at the sparsity of most runs, on CIFAR-10."""
    where, methods = by_method(profile, records)
    for method, runs in methods.items():
        title = f"{method} at {where}"
        noisy = any(r.config.label_noise for each in runs.values() for r in each)
        drawn = stacked(title, runs, _PANELS | (_WRONG if noisy else {}))
        yield f"curves-{name_of(method)}", described(drawn, _words(title, runs))


def by_method(profile: Profile, records: Records) -> tuple[str, dict[str, Runs]]:
    """The runs with a curve by method and optimizer, at the sparsity that has most of them.

    On CIFAR-10 or what stands for it; methods without any are left out. The first of the two says
    where: "98%, CIFAR-10".
    """
    label = data_label(profile, "cifar10")
    best: tuple[str, dict[str, Runs]] = ("", {})
    for sparsity, methods in _cells(profile, label).items():
        found: dict[str, Runs] = {}
        for method, cells in methods.items():
            runs = {
                optimizer: [
                    r
                    for c in cell.runs
                    if (r := records.get(c)) is not None and r.body.get("curve")
                ]
                for optimizer, cell in cells.items()
            }
            if any(runs.values()):
                found[method] = runs
        if _count(found) > _count(best[1]):
            best = f"{sparsity}, {label}", found
    return best


def _count(methods: Mapping[str, Runs]) -> int:
    return sum(len(each) for runs in methods.values() for each in runs.values())


def name_of(method: str) -> str:
    """A method's name in a file's name."""
    return method.split("(")[0].lower() + ("-ems" if "EM&S" in method else "")


def _cells(profile: Profile, label: str) -> dict[str, dict[str, dict[str, Cell]]]:
    """By sparsity, method and optimizer: Table 1's, and SAM from Table 4."""
    found: dict[str, dict[str, dict[str, Cell]]] = {}

    def add(sparsity: str, method: str, optimizer: str, entry: Entry) -> None:
        if optimizer in _OPTIMIZERS and isinstance(entry, Cell) and entry.runs:
            methods = found.setdefault(sparsity, {})
            methods.setdefault(method, {}).setdefault(optimizer, entry)

    table = TABLES.build(Spec("table1"), profile=profile)
    for row in table.rows:
        for header, entry in zip(table.headers[2:], row.entries, strict=True):
            data, sparsity = header.rsplit(" ", 1)
            if data == label:
                add(sparsity, row.labels[0], row.labels[1], entry)
    for row in TABLES.build(Spec("table4"), profile=profile).rows:
        add(_WITH_SAM, row.labels[0], row.labels[1], row.entries[0])
    return found


def stacked(title: str, runs: Runs, asked: Mapping[str, str]) -> Any:
    """Panels one above the other over the epochs; those of which no run has a number are left out.

    Args:
        title: of the figure.
        runs: by optimizer.
        asked: the axis's name by what a line of a curve is asked for; a dot leads inwards.
    """
    panels = {
        key: label
        for key, label in asked.items()
        if any(_points(r, key) for each in runs.values() for r in each)
    }
    drawn = figure(WIDTH, 0.9 + 1.75 * len(panels))
    drawn.suptitle(title)
    all_axes = drawn.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (key, label) in zip(all_axes, panels.items(), strict=True):
        for optimizer, each in runs.items():
            _lines(axes, key, optimizer, each)
        axes.set_ylabel(label, fontsize=8)
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
    return drawn


def _points(record: Record, key: str) -> list[tuple[float, float]]:
    """(epoch, value) of a curve; epochs without it, those not evaluated for one, are left out."""
    points = []
    for line in record.body["curve"]:
        value: Any = line
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            points.append((line["epoch"], value))
    return points


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
