"""Δ as a forest plot: every measured difference with interval and seeds, and their mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paper_repro.config import RunConfig
from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Records
from tables.base import Delta, last_accuracy
from tables.effects import Effect, effects, mean_effect
from tables.figures import FIGURES
from tables.figures.style import COLOURS, GREY, MARKERS, PUBLISHED, WIDTH, described, figure
from tables.verdicts.parts import CONTROL, PARTS, Part

__all__ = ["GROUPS", "differences", "draw"]

#: Headings, and the parts of the claims whose differences stand under them.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Table 1": ("1a", "1b", "1c", "1d"),
    "R6: MEST(EM) by sparsity": ("2a",),
    "R3: LRR by sparsity": ("7",),
    "R4: LT at 90 % by share a round": ("6",),
}
_CONTROL = "Control: SAM − SGD"
_ROW, _MARGIN = 0.165, 1.9  # inches
_ROOM = 0.06  # of the axis, on both sides of what it must hold


@dataclass(frozen=True)
class _Line:
    """A line of the plot: a heading (no effect), a cell, or a mean."""

    label: str
    effect: Effect | None = None
    optimizer: str = "S2-SAM"
    pooled: bool = False


def differences(profile: Profile) -> dict[str, dict[str, Delta]]:
    """S2-SAM minus SGD in every cell that the claims are judged by, by heading and name.

    A heading for each of Table 1's data sets, one for each rebuttal.
    """
    by_label: dict[str, Part] = {part.label: part for part in PARTS}
    found: dict[str, dict[str, Delta]] = {}
    for heading, labels in GROUPS.items():
        for label in labels:
            for name, delta in by_label[label].deltas(profile).items():
                row, _, column = name.partition(", ")  # "MEST(EM), CIFAR-10 90%", or "90%"
                data, _, sparsity = column.rpartition(" ")
                where = f"{heading}, {data}" if data else heading
                found.setdefault(where, {})[f"{row} {sparsity}".strip()] = delta
    return found


@FIGURES.register("forest")
def draw(profile: Profile, records: Records) -> Iterator[tuple[str, Any]]:
    """One figure of all differences that have a pair of runs; none where there is no pair."""
    groups = differences(profile)
    everything = {(h, name): d for h, deltas in groups.items() for name, d in deltas.items()}
    names = {f"{h}: {name}": d for (h, name), d in everything.items()}
    control = {f"{_CONTROL}: {name}": d for name, d in CONTROL.deltas(profile).items()}
    found = effects({**names, **control}, records, last_accuracy)  # of one spread
    lines: list[_Line] = []
    above: set[tuple[RunConfig, ...]] = set()  # a rebuttal repeats cells of Table 1
    for heading, deltas in groups.items():
        new = {name: d for name, d in deltas.items() if _runs(d) not in above}
        above.update(map(_runs, new.values()))
        own = [
            _Line(name, found.each[key])
            for name in new
            if (key := f"{heading}: {name}") in found.each
        ]
        if own:
            lines += [_heading(heading, len(own), len(new)), *own]
    if lines:
        mean = mean_effect(found, names)
        if mean is not None:
            lines += [_Line("All of these, each once"), _Line("mean Δ", mean, pooled=True)]
    sam = [
        _Line("dense" if name == "0%" else f"MEST(EM) {name}", found.each[key], "SAM")
        for key in control
        if key in found.each and (name := key.rpartition(": ")[2])
    ]
    if sam:
        lines += [_heading(_CONTROL, len(sam), len(control)), *sam]
    if lines:
        yield "forest", _forest(profile, lines, found.df)


def _runs(delta: Delta) -> tuple[RunConfig, ...]:
    return (*delta.treatment.runs, *delta.baseline.runs)


def _heading(name: str, measured: int, cells: int) -> _Line:
    return _Line(f"{name} ({measured} of {cells} cells measured)")


def _forest(profile: Profile, lines: list[_Line], df: int) -> Any:
    drawn = figure(WIDTH, _MARGIN + _ROW * (len(lines) + 1))
    axes = drawn.add_subplot()
    shown = [line.effect for line in lines if line.effect is not None]
    ends = [x for e in shown for x in (*_interval(e), *_dots(e, profile))]
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = _ROOM * (high - low or 1.0)
    axes.axvline(0, color="#000000", linewidth=0.8)
    for y, line in enumerate(lines):
        _line(axes, y, line, profile.evidence)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlim(low - room, high + room)
    names = [line.label if line.effect is not None else "" for line in lines]
    axes.set_yticks(range(len(lines)), names, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel("Δ accuracy (points)\nright of 0: better than SGD", fontsize=8)
    drawn.suptitle("Test accuracy with S2-SAM minus with SGD")
    published = profile.evidence and any(e.published is not None for e in shown)
    _legend(axes, df, any(line.pooled for line in lines), published)
    return described(drawn, _words(lines, df))


def _interval(effect: Effect) -> tuple[float, float]:
    half = effect.half or 0.0
    return effect.mean - half, effect.mean + half


def _dots(effect: Effect, profile: Profile) -> list[float]:
    """Whatever else than the interval the axis must hold."""
    known = effect.published if profile.evidence else None
    return [*effect.gains.values(), *([] if known is None else [known])]


def _line(axes: Any, y: int, line: _Line, evidence: bool) -> None:
    effect = line.effect
    if effect is None:
        axes.text(
            0.5,
            y,
            line.label,
            transform=axes.get_yaxis_transform(),
            ha="center",
            va="center",
            fontsize=8,
            fontweight="bold",
            bbox={"color": "#ffffff", "pad": 0.5},
            zorder=5,
        )
        return
    colour = COLOURS[line.optimizer]
    if not line.pooled:
        axes.plot(
            list(effect.gains.values()), [y] * effect.n, ".", color=GREY, markersize=3, zorder=2
        )
    if effect.half is not None:
        axes.plot(_interval(effect), [y, y], color=colour, lw=1.3)
    marker = "D" if line.pooled else MARKERS[line.optimizer]
    axes.plot(effect.mean, y, marker, color=colour, markersize=7 if line.pooled else 4.5, zorder=3)
    if evidence and effect.published is not None:
        axes.plot(effect.published, y, "x", color=PUBLISHED, markersize=5, zorder=4)
    of = f"{effect.n} cells" if line.pooled else f"n = {effect.n}"
    axes.annotate(
        f"{effect.mean:+.2f} ({of})" + (", some diverged" if effect.lost else ""),
        (1.0, y),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
    )


def _legend(axes: Any, df: int, pooled: bool, published: bool) -> None:
    from matplotlib.lines import Line2D

    def mark(marker: str, colour: str, label: str, size: float = 4.5, line: Any = "") -> Any:
        return Line2D(
            [], [], marker=marker, color=colour, linestyle=line, markersize=size, label=label
        )

    # A cell of one seed borrows its spread from those of several.
    interval = (
        f"and 95 % interval, its width from\nthe scatter of seeds in all cells ({df} df)"
        if df
        else "no interval: one seed a cell"
    )
    mean = "mean over cells; no interval, since those\nof one seed are not independent"
    handles = [
        mark("o", COLOURS["S2-SAM"], f"mean of n seeds, {interval}", line="-" if df else ""),
        *([mark("D", COLOURS["S2-SAM"], mean, 7)] * pooled),
        mark(".", GREY, "each seed", 3),
        *([mark("x", PUBLISHED, "what the paper reports, of its own setting", 5)] * published),
    ]
    axes.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.45, 1.0),
        fontsize=7.5,
        borderaxespad=0.2,
    )


def _words(lines: list[_Line], df: int) -> str:
    said = "Forest plot of differences to SGD in accuracy."
    for optimizer in ("S2-SAM", "SAM"):
        own = [x.effect for x in lines if x.optimizer == optimizer and not x.pooled]
        cells = [effect for effect in own if effect is not None]
        if cells:
            up = sum(effect.mean > 0 for effect in cells)
            said += f" Of {optimizer}: {len(cells)}, {up} of them above 0."
    for line in lines:
        if line.pooled and line.effect is not None:
            effect = line.effect
            said += f" Mean of S2-SAM minus SGD: {effect.mean:+.2f} points over {effect.n} cells."
    return said if df else said + " No interval: one seed a cell."
