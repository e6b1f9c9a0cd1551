"""Table 5: accuracy under the 19 common corruptions at 80 % sparsity, with SGD and with S2-SAM.

The paper's is of ImageNet-C; here it is of CIFAR-10-C, generated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from paper_repro.data.corrupted import GROUPS, TYPES
from paper_repro.experiment.measures import Measured
from paper_repro.experiment.profiles import Profile
from paper_repro.measure import MEASURES
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Cell, Delta, MeanDelta, Measurement, Row, Table, number
from tables.compare import DATASET_LABELS, Experiment, compare
from tables.published import MEAN_GAIN_CORRUPTED
from tables.table1 import METHOD_LABELS, method_spec

__all__ = ["SPARSITY", "of_type", "table5", "table5_types"]

SPARSITY = 0.8
#: One that prunes by first-order saliency and one by curvature before training, two that search
#: while they train.
_LABELS = ("SNIP", "GraSP", "RigL", "MEST(EM)")
#: Test images that are corrupted, by profile; None for all.
_IMAGES = {"smoke": 100, "paper": None}
_A_THOUSAND = 1000


def corruptions(profile: Profile) -> Spec:
    """The measure as a profile takes it."""
    return MEASURES.spec("corruptions", images=_IMAGES.get(profile.name, _A_THOUSAND))


def of_type(name: str) -> Callable[[Measured], float | None]:
    """A type's mean over its severities."""

    def read(measured: Measured) -> float | None:
        found = measured.values["types"][name]
        return None if None in found else sum(found) / len(found)

    return read


#: Columns: header and what is read of the measure.
_COLUMNS = {
    "clean": number("clean"),
    "all 19": number("mean"),
    "common 15": number("common"),
    **{group: number("groups", group) for group in GROUPS},
}


def _measured(cell: Cell, spec: Spec, read: Callable[[Measured], float | None]) -> Cell:
    return replace(cell, published=None, measurement=Measurement(spec, read))


def _rows(profile: Profile, label: str) -> tuple[Row, ...]:
    """A method's rows, SGD, S2-SAM and Δ, with all columns of the measure."""
    spec = corruptions(profile)
    method = method_spec(profile, METHOD_LABELS[label], SPARSITY, "cifar10")
    sgd, s2sam, _ = compare(profile, label, [Experiment(method)])
    columns: list[tuple[Cell, Cell]] = []
    for read in _COLUMNS.values():
        cells = (sgd.entries[0], s2sam.entries[0])
        base, ours = (_measured(c, spec, read) for c in cells if isinstance(c, Cell))
        columns.append((base, ours))
    return (
        replace(sgd, entries=tuple(base for base, _ in columns)),
        replace(s2sam, entries=tuple(ours for _, ours in columns)),
        Row((label, "Δ"), tuple(Delta(ours, base) for base, ours in columns)),
    )


def _notes(profile: Profile) -> tuple[str, ...]:
    images = _IMAGES.get(profile.name, _A_THOUSAND)
    which = "all test images" if images is None else f"{images} test images, the same for all runs"
    data = profile.datasets["cifar10"]
    small = (
        (
            "The digits have 8 x 8 pixels and no colour: each is enlarged to 32 x 32, corrupted, "
            "and reduced by averages.",
        )
        if data == "digits"
        else ()
    )
    return (
        f"Of {which}, 19 types at 5 severities; clean is of the same images. Corruptions are "
        "generated (imagecorruptions-imaug's parts) with CIFAR-10-C's constants and fixed seeds; "
        "they are not pixel for pixel the published files, whose motion blur is ImageMagick's.",
        *small,
        "noise, blur, weather and digital are the benchmark's groups of 15 common types; extra are "
        "its four for validation.",
        "SNIP and GraSP rank all weights together; RigL and MEST leave the first convolution, the "
        "shortcuts and the classifier dense.",
    )


@TABLES.register("table5")
def table5(profile: Profile) -> Table:
    """Means over all types and by group, at the size of a profile."""
    rows = [row for label in _LABELS for row in _rows(profile, label)]
    means = tuple(
        MeanDelta(
            tuple(e for row in rows if isinstance(e := row.entries[i], Delta)),
            MEAN_GAIN_CORRUPTED if header == "all 19" else None,
        )
        for i, header in enumerate(_COLUMNS)
    )
    rows.append(Row(("all", "mean Δ"), means))
    published = (
        f"Published: a mean gain of {MEAN_GAIN_CORRUPTED} on ImageNet-C (the paper's text, of "
        "ResNet-50); the cells are not published as text.",
    )
    return Table(
        name="table5",
        title=f"Table 5. Accuracy (%) under corruptions, {_data(profile)}, {SPARSITY:.0%} sparsity",
        headers=("method", "optimizer", *_COLUMNS),
        rows=tuple(rows),
        notes=(*_notes(profile), *(published if profile.evidence else ())),
    )


@TABLES.register("table5-types")
def table5_types(profile: Profile) -> Table:
    """The same for each of the 19 types, the mean of its severities."""
    spec = corruptions(profile)
    pairs = []
    for label in _LABELS:
        sgd, s2sam, _ = _rows(profile, label)
        cells = (sgd.entries[0], s2sam.entries[0])
        pairs.append(tuple(c for c in cells if isinstance(c, Cell)))
    rows = []
    for group, names in GROUPS.items():
        for name in names:
            read = of_type(name)
            entries: list[Cell | Delta] = []
            for base, ours in pairs:
                measured = [_measured(c, spec, read) for c in (base, ours)]
                entries += [*measured, Delta(measured[1], measured[0])]
            rows.append(Row((group, name.replace("_", " ")), tuple(entries)))
    headers = tuple(f"{label} {what}" for label in _LABELS for what in ("SGD", "S2-SAM", "Δ"))
    assert len(rows) == len(TYPES)
    return Table(
        name="table5-types",
        title=f"Table 5 by type. Accuracy (%) under each corruption, mean of 5 severities, "
        f"{_data(profile)}, {SPARSITY:.0%} sparsity",
        headers=("group", "type", *headers),
        rows=tuple(rows),
        notes=_notes(profile),
    )


def _data(profile: Profile) -> str:
    name = DATASET_LABELS[profile.datasets["cifar10"]]
    return "CIFAR-10-C, generated" if name == "CIFAR-10" else f"{name}, corrupted"
