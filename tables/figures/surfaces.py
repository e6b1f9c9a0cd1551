"""Figures 1 and 3: loss surfaces and Hessian spectra, SGD beside S2-SAM, by sparsity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from paper_repro.experiment.measures import Measured, Measures
from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Records
from tables.compare import DATASET_LABELS
from tables.figures import FIGURES
from tables.figures.style import COLOURS, CONTOUR, LINES, SURFACE, WIDTH, described, figure
from tables.surfaces import LABELS, SPARSITIES, size_of, trained

__all__ = ["draw"]

_OPTIMIZERS = ("SGD", "S2-SAM")
_LEVELS = 12
#: Heights below so much of the highest are drawn as that.
_LEAST = 1e-4
_HIGH = 2.3  # inches a row
_UNIT = "filter norms"

#: By optimizer and sparsity: what was measured, by seed.
Panels = dict[tuple[str, float], dict[int, Measured]]


@FIGURES.register("surfaces")
def draw(profile: Profile, records: Records) -> Iterator[tuple[str, Any]]:
    """For each method a 3-D surface, a contour and a spectrum; those without a measure not.

    The surface drawn is the first seed's along the first pair of directions, its heights in equal
    ratios: the corners are thousands of times as high as the basin. Titles give its Ra and that of
    all pairs and all seeds, which may order the networks otherwise.
    """
    for label in LABELS:
        name = label.split("(")[0].lower()
        found = _panels(profile, records, label, "surface")
        if any(found.values()):
            yield f"surface-{name}", _surfaces(profile, label, found, flat=False)
            yield f"contour-{name}", _surfaces(profile, label, found, flat=True)
        found = _panels(profile, records, label, "spectrum")
        if any(found.values()):
            yield f"spectrum-{name}", _spectra(profile, label, found)


def _panels(profile: Profile, records: Records, label: str, measure: str) -> Panels:
    measures, spec = Measures(records.folder), size_of(profile).spec(measure)
    panels: Panels = {}
    for sparsity in SPARSITIES:
        for optimizer, cell in zip(_OPTIMIZERS, trained(profile, label, sparsity), strict=True):
            there = {config.seed: measures.get(config, spec) for config in cell.runs}
            panels[optimizer, sparsity] = {s: m for s, m in there.items() if m is not None}
    return panels


def _title(profile: Profile, label: str, what: str) -> str:
    return f"{what}: {label}, {DATASET_LABELS[profile.datasets['cifar10']]}"


def _ra(found: Mapping[int, Measured]) -> str:
    """What is drawn with its Ra, and Ra over the pairs of directions of all seeds with its n."""
    seed, first = next(iter(found.items()))
    own = first.values["ra_each"][0]
    shown = "not finite" if own is None else _plain(own)
    said = f"drawn: seed {seed}, pair 1, Ra {shown}\n"
    pairs = [ra for measured in found.values() for ra in measured.values["ra_each"]]
    each = [ra for ra in pairs if ra is not None]
    if not each:
        return said + "no pair's Ra is finite"
    finite = "" if len(each) == len(pairs) else f"{len(each)} finite of "
    seeds = f" of {len(found)} seeds" if len(found) > 1 else ""
    spread = f" ± {_plain(np.std(each, ddof=1))}" if len(each) > 1 else ""
    return said + f"mean of {finite}{len(pairs)} pairs{seeds}: {_plain(np.mean(each))}{spread}"


def _surfaces(profile: Profile, label: str, panels: Panels, flat: bool) -> Any:
    drawn = figure(WIDTH, _HIGH * len(SPARSITIES) + 0.8)
    drawn.suptitle(
        _title(profile, label, "Contours of the loss (nats)" if flat else "Loss surface")
    )
    for row, sparsity in enumerate(SPARSITIES):
        # One scale for the networks that are compared.
        grids = [_heights(panels[o, sparsity]) for o in _OPTIMIZERS]
        known = [g for g in grids if g is not None]
        low = min((float(np.nanmin(g)) for g in known), default=0.0)
        high = max((float(np.nanmax(g)) for g in known), default=1.0)
        for column, (optimizer, heights) in enumerate(zip(_OPTIMIZERS, grids, strict=True)):
            place = row * len(_OPTIMIZERS) + column + 1
            axes = drawn.add_subplot(
                len(SPARSITIES), len(_OPTIMIZERS), place, **({} if flat else {"projection": "3d"})
            )
            found = panels[optimizer, sparsity]
            said = _ra(found) if found else "not measured"
            axes.set_title(f"{optimizer}, {sparsity:.0%}\n{said}", fontsize=7.5)
            if heights is None:
                axes.set_axis_off()
                continue
            axis = np.array(_first(found).values["axis"])
            (_contour if flat else _surface)(axes, axis, heights, low, max(high, low + 1e-9))
    return described(drawn, _in_words(drawn, flat))


def _in_words(drawn: Any, flat: bool) -> str:
    """The figure's title, what its panels are, and their titles, which have the numbers."""
    what = "lines of equal loss, in equal ratios" if flat else "the loss (nats) on a log scale"
    panels = "; ".join(axes.get_title().replace("\n", ", ") for axes in drawn.axes)
    title = drawn.get_suptitle()
    return f"{title}. Each panel: {what}, over the plane of two directions ({_UNIT}). {panels}."


def _first(found: Mapping[int, Measured]) -> Measured:
    return next(iter(found.values()))


def _heights(found: Mapping[int, Measured]) -> np.ndarray | None:
    if not found:
        return None
    return np.array(_first(found).values["heights"], dtype=float)  # a null becomes nan


def _surface(axes: Any, axis: np.ndarray, heights: np.ndarray, low: float, high: float) -> None:
    a, b = np.meshgrid(axis, axis, indexing="ij")
    low = max(low, high * _LEAST)
    bottom, top = np.log10(low), np.log10(max(high, low * 1.01))
    axes.plot_surface(
        a,
        b,
        np.log10(np.maximum(heights, low)),
        cmap=SURFACE,
        vmin=bottom,
        vmax=top,
        linewidth=0.2,
        edgecolor="#333333",
    )
    axes.set_zlim(bottom, top)
    powers = np.arange(np.ceil(bottom), np.floor(top) + 1)
    axes.set_zticks(powers, [f"{10.0**power:g}" for power in powers])
    axes.set_xticks(axis[[0, len(axis) // 2, -1]])
    axes.set_yticks(axis[[0, len(axis) // 2, -1]])
    axes.tick_params(labelsize=7, pad=-2)
    axes.set_xlabel(_UNIT, fontsize=7, labelpad=-8)
    axes.set_ylabel(_UNIT, fontsize=7, labelpad=-8)
    axes.set_zlabel("loss (nats, log)", fontsize=7, labelpad=-4)
    axes.view_init(elev=28, azim=-60)


def _contour(axes: Any, axis: np.ndarray, heights: np.ndarray, low: float, high: float) -> None:
    from matplotlib.colors import LogNorm

    # In equal ratios: the basin, which is what is asked for, is flat beside the corners.
    low = max(low, high * _LEAST)
    levels = np.geomspace(low, max(high, low * 1.01), _LEVELS)
    shown = np.clip(heights.T, levels[0], levels[-1])
    axes.contourf(axis, axis, shown, levels=levels, cmap=CONTOUR, norm=LogNorm(low, levels[-1]))
    lines = axes.contour(axis, axis, shown, levels=levels, colors="#222222", linewidths=0.5)
    # On the light half alone: dark numbers on dark ground cannot be read.
    axes.clabel(lines, lines.levels[1 : _LEVELS // 2 : 2], fontsize=7, fmt=_plain)
    axes.plot(0, 0, marker="+", color="#000000", markersize=6)
    axes.set_aspect("equal")
    axes.set_xticks([axis[0], 0, axis[-1]])
    axes.set_yticks([axis[0], 0, axis[-1]])
    axes.tick_params(labelsize=7)
    axes.set_xlabel(_UNIT, fontsize=7, labelpad=1)
    axes.set_ylabel(_UNIT, fontsize=7, labelpad=-4)


def _plain(value: float) -> str:
    """Two digits, or all before the point; never with an exponent."""
    digits = 0 if abs(value) >= 9.95 or value == 0 else 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(digits, 0)}f}"


def _spectra(profile: Profile, label: str, panels: Panels) -> Any:
    drawn = figure(WIDTH, 4.6)
    drawn.suptitle(_title(profile, label, "Hessian's spectral density"))
    said = []
    for column, sparsity in enumerate(SPARSITIES):
        axes = drawn.add_subplot(2, len(SPARSITIES) // 2, column + 1)
        if not any(panels[optimizer, sparsity] for optimizer in _OPTIMIZERS):
            axes.set_title(f"{sparsity:.0%}\nnot measured")
            axes.set_axis_off()
            continue
        axes.set_title(f"{sparsity:.0%}")
        axes.set_xlabel("eigenvalue")
        axes.set_ylabel("density")
        for optimizer in _OPTIMIZERS:
            found = [m for m in panels[optimizer, sparsity].values() if "grid" in m.values]
            for number, measured in enumerate(found):
                axes.semilogy(
                    measured.values["grid"],
                    np.maximum(measured.values["density"], 1e-12),
                    LINES[optimizer],
                    color=COLOURS[optimizer],
                    linewidth=1.2,
                    label=f"{optimizer} (n = {len(found)})" if number == 0 else None,
                )
            if found:
                said.append(f"{sparsity:.0%} {optimizer} {_largest(found)}")
        axes.set_ylim(bottom=1e-7)  # a single outlier of 100,000 eigenvalues is still seen
        if axes.has_data():
            axes.legend(frameon=False, fontsize=7)
    words = f"{drawn.get_suptitle()}. Mean of the largest eigenvalues: {'; '.join(said)}."
    return described(drawn, words)


def _largest(found: Sequence[Measured]) -> str:
    each = [high for m in found if (high := m.number("largest")) is not None]
    return f"{_plain(float(np.mean(each)))} (n = {len(each)})" if each else "not finite"
