"""Figures 1 and 3 as numbers: roughness, sharpness and curvature around trained networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from paper_repro.experiment.profiles import Profile
from paper_repro.measure import MEASURES
from paper_repro.registry import Scalar, Spec
from tables import TABLES
from tables.base import Cell, Delta, Entry, Measurement, Row, Table, number
from tables.compare import DATASET_LABELS, Experiment, compare
from tables.table1 import METHOD_LABELS, method_spec

__all__ = ["LABELS", "SPARSITIES", "Size", "size_of", "surfaces", "trained"]

LABELS = ("SNIP", "GraSP", "MEST(EM)")
SPARSITIES = (0.8, 0.9, 0.95, 0.98)
#: Whose surface is also taken along directions that fill the zeros, to show the difference.
_UNRESTRICTED = ("MEST(EM)", 0.9)

Options = Mapping[str, Scalar]


@dataclass(frozen=True)
class Size:
    """How closely a profile looks.

    Attributes:
        seeds: runs of a cell that are measured, of the profile's first ones; None for all.
        surface, sharpness, spectrum: options of the measures.
    """

    seeds: int | None
    surface: Options
    sharpness: Options
    spectrum: Options

    def spec(self, measure: str, **more: Scalar) -> Spec:
        """A measure with this size's options."""
        return MEASURES.spec(measure, **{**getattr(self, measure), **more})


_CLOSE = Size(
    None,
    {"points": 51, "directions": 5, "samples": 1000},
    {"samples": 2000},
    {"samples": 2000, "nodes": 60},
)
_SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "smoke": Size(
            1,
            {"points": 11, "directions": 5, "samples": 100},
            {"samples": 200, "steps": 10},
            {"samples": 200, "nodes": 15, "repeats": 2},
        ),
        "paper": _CLOSE,
    }
)
#: So that the 24 networks of a seed take about 40 minutes of a core.
_MIDDLE = Size(
    None,
    {"points": 11, "directions": 5, "samples": 100},
    {"samples": 200, "steps": 10},
    {"samples": 100, "nodes": 15, "repeats": 2},
)


def size_of(profile: Profile) -> Size:
    """How closely the runs of a profile are looked at."""
    return _SIZES.get(profile.name, _MIDDLE)


def trained(profile: Profile, label: str, sparsity: float) -> tuple[Cell, Cell]:
    """The runs of a method with SGD and with S2-SAM."""
    few = replace(profile, seeds=profile.seeds[: size_of(profile).seeds])
    method = method_spec(profile, METHOD_LABELS[label], sparsity, "cifar10")
    sgd, s2sam, _ = compare(few, label, [Experiment(method)])
    first, second = sgd.entries[0], s2sam.entries[0]
    assert isinstance(first, Cell) and isinstance(second, Cell)
    return first, second


#: Columns: header, measure, what is read of it, digits.
_COLUMNS = (
    ("Ra", "surface", "ra", 2),
    ("loss", "surface", "loss", 4),
    ("worst-case sharpness", "sharpness", "worst", 3),
    ("average sharpness", "sharpness", "average", 3),
    ("largest eigenvalue", "spectrum", "largest", 2),
    ("trace", "spectrum", "trace", 1),
)


def _rows(
    profile: Profile, label: str, sparsity: float, shown: str, restrict: bool = True
) -> list[Row]:
    runs = trained(profile, label, sparsity)
    columns: list[list[Cell]] = []
    for _, measure, key, digits in _COLUMNS:
        if not restrict and key != "ra":
            columns.append([Cell(), Cell()])
            continue
        more: Options = {} if restrict else {"restrict": False}
        taken = Measurement(size_of(profile).spec(measure, **more), number(key))
        columns.append([Cell(c.runs, digits=digits, measurement=taken) for c in runs])
    labels = (shown, f"{sparsity:.0%}")
    delta: tuple[Entry, ...] = tuple(Delta(ours, base) for base, ours in columns)
    return [
        Row((*labels, "SGD"), tuple(base for base, _ in columns)),
        Row((*labels, "S2-SAM"), tuple(ours for _, ours in columns)),
        Row((*labels, "Δ"), delta),
    ]


@TABLES.register("surfaces")
def surfaces(profile: Profile) -> Table:
    """The networks whose surfaces the paper draws, and how rough and sharp they are."""
    rows = [
        row
        for label in LABELS
        for sparsity in SPARSITIES
        for row in _rows(profile, label, sparsity, label)
    ]
    label, sparsity = _UNRESTRICTED
    rows += _rows(profile, label, sparsity, f"{label}, unrestricted", restrict=False)
    size = size_of(profile)
    grid = size.spec("surface")
    worst, middle = size.spec("sharpness"), size.spec("spectrum")
    return Table(
        name="surfaces",
        title="Figures 1 and 3. Roughness, sharpness and curvature of the training loss, "
        f"{DATASET_LABELS[profile.datasets['cifar10']]}",
        headers=("method", "sparsity", "optimizer", *(header for header, *_ in _COLUMNS)),
        rows=tuple(rows),
        notes=(
            f"Ra (nats): mean absolute deviation of {grid['points']} x {grid['points']} heights "
            f"within {grid['span']:g} filter norms of w, mean of {grid['directions']} pairs of "
            f"random directions, the same for all networks; {grid['samples']} training images, no "
            "augmentation, batch norm and biases do not move. It depends on span, grid and the "
            "scale of cross-entropy.",
            "Directions are 0 at pruned weights; unrestricted ones fill the zeros, and the surface "
            "is then that of a dense network.",
            f"Worst case (nats): the highest rise found for relative steps of length "
            f"{worst['rho']:g} (a lower bound, {worst['steps']} gradients); average: over "
            f"{worst['draws']} draws in which each weight moves by {worst['sigma']:.0%} of itself; "
            f"{worst['samples']} images.",
            f"Eigenvalue and trace: of the Hessian over active parameters, {middle['repeats']} "
            f"Lanczos quadratures of {middle['nodes']} nodes, {middle['samples']} images.",
            "Sharpness says little about generalization between different settings "
            "(arXiv 2302.07011).",
        ),
    )
