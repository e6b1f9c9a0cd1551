"""How dense each layer is after training, by method: where a method leaves the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Record, Records
from tables.figures import FIGURES
from tables.figures.curves import by_method
from tables.figures.style import COLOURS, LINES, WIDTH, described, figure

__all__ = ["draw"]

_COLUMNS = 2
_LEAST = 1e-4


@FIGURES.register("densities")
def draw(profile: Profile, records: Records) -> Iterator[tuple[str, Any]]:
    """One panel a method, where the curves are; of records that have their layers' densities."""
    where, methods = by_method(profile, records)
    found: dict[str, dict[str, np.ndarray]] = {}
    for method, runs in methods.items():
        each = {o: _densities(own) for o, own in runs.items()}
        known = {o: densities for o, densities in each.items() if len(densities)}
        if known:
            found[method] = known
    if found:
        yield "densities", _drawn(where, found)


def _densities(runs: list[Record]) -> np.ndarray:
    """Densities by layer, in the network's order, of the runs that have as many: [n, layers]."""
    each = [list(d.values()) for r in runs if (d := r.body.get("layer_densities"))]
    return np.array([e for e in each if len(e) == len(each[0])])


def _n(by: Mapping[str, np.ndarray]) -> str:
    """``n = 3``, or by optimizer where they differ: ``n: SGD 3, S2-SAM 2``."""
    counts = {optimizer: len(densities) for optimizer, densities in by.items()}
    if len(set(counts.values())) == 1:
        return f"n = {max(counts.values())}"
    return "n: " + ", ".join(f"{optimizer} {n}" for optimizer, n in counts.items())


def _drawn(where: str, found: Mapping[str, Mapping[str, np.ndarray]]) -> Any:
    wide = min(_COLUMNS, len(found))
    rows = -(-len(found) // wide)
    drawn = figure(WIDTH, 1.1 + 1.6 * rows)
    drawn.suptitle(f"Density of each layer after training, {where}")
    panels = drawn.subplots(rows, wide, squeeze=False, sharex=True, sharey=True).flatten()
    for axes, (method, by) in zip(panels, found.items(), strict=False):
        for optimizer, densities in by.items():
            # A layer without a weight has no place on the axis; it stands at its foot.
            shown = np.maximum(densities.mean(0), _LEAST)
            style = {"color": COLOURS[optimizer], "linewidth": 1.2, "label": optimizer}
            axes.semilogy(range(1, len(shown) + 1), shown, LINES[optimizer], **style)
        axes.set_title(f"{method} ({_n(by)})", fontsize=8)
        axes.set_ylim(0.8 * _LEAST, 1.25)
        axes.grid(axis="y", color="#dddddd", linewidth=0.5)
    for axes in panels[len(found) :]:
        axes.set_visible(False)
    handles = {h.get_label(): h for axes in panels for h in axes.get_legend_handles_labels()[0]}
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1.12)}
    panels[0].legend(handles=list(handles.values()), ncols=3, fontsize=7.5, **place)
    drawn.supylabel("density of the masked layers, first to last", fontsize=8)
    said = []
    for method, by in found.items():
        means = [densities.mean(0) for densities in by.values()]
        least, most = min(m.min() for m in means), max(m.max() for m in means)
        said.append(f"{method} {least:.2%} to {most:.0%} ({_n(by)})")
    words = f"Densities of the layers after training, means over seeds, {where}: {'; '.join(said)}."
    return described(drawn, words)
