"""Table 3: structured sparse training, CHEX and Chase, and what compaction then gains for real."""

from __future__ import annotations

from collections.abc import Callable

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Record
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import BEST_EPOCH, Cell, Delta, Row, Table
from tables.compare import Experiment, compare, data_label, model_label, setting

__all__ = ["table3"]

DATASET = "imagenet"
MODELS = ("resnet34", "resnet50")
#: Label, method, its sparsity: of CHEX the fraction of channels removed, of Chase that of weights.
METHODS: tuple[tuple[str, str, float], ...] = (
    ("CHEX 30 %", "chex", 0.3),
    ("CHEX 50 %", "chex", 0.5),
    ("Chase 80 %", "chase", 0.8),
    ("Chase 90 %", "chase", 0.9),
)


def compacted(field: str, scale: float = 1.0) -> Callable[[Record], float | None]:
    """Reads one number of what :mod:`paper_repro.measure.compaction` measured of a run."""

    def read(record: Record) -> float | None:
        found = (record.body.get("compaction") or {}).get(field)
        return None if record.status != "finished" or found is None else scale * float(found)

    read.__name__ = f"compaction_{field}"
    return read


#: Column, what it reads, digits.
COLUMNS: tuple[tuple[str, Callable[[Record], float | None], int], ...] = (
    ("MFLOPs dense", compacted("flops_before", 1e-6), 1),
    ("MFLOPs compacted", compacted("flops_after", 1e-6), 1),
    ("parameters compacted (x)", compacted("parameters_ratio"), 2),
    ("images/s dense", compacted("images_per_second_before"), 0),
    ("images/s compacted", compacted("images_per_second_after"), 0),
    ("speed (x)", compacted("speedup"), 2),
)


@TABLES.register("table3")
def table3(profile: Profile) -> Table:
    """CHEX and Chase on both networks, beside the dense ones."""
    rows: list[Row] = []
    for model in MODELS:
        methods: list[tuple[str, Spec]] = [("dense", profile.method("dense"))]
        methods += [(label, profile.method(name, sparsity=s)) for label, name, s in METHODS]
        for label, spec in methods:
            trio = compare(profile, label, [Experiment(spec, DATASET, model)])
            sgd, s2sam, difference = (row.entries[0] for row in trio)
            for name, own, delta in (
                ("SGD", sgd, Delta(Cell(), Cell())),
                ("S2-SAM", s2sam, difference),
            ):
                assert isinstance(own, Cell)
                # Of the dense network there is nothing to compact.
                runs = () if spec.name == "dense" else own.runs
                read = [Cell(runs, value=value, digits=digits) for _, value, digits in COLUMNS]
                labels = (model_label(profile, model), label, name)
                rows.append(Row(labels, (own, delta, *read)))
    return Table(
        name="table3",
        title=(
            f"Table 3. Structured sparsity on {data_label(profile, DATASET)}: test accuracy (%) "
            "after the last epoch, and the network without its removed channels"
        ),
        headers=(
            "network",
            "method",
            "optimizer",
            "accuracy",
            "Δ to SGD",
            *(header for header, _, _ in COLUMNS),
        ),
        rows=tuple(rows),
        notes=(
            *(how for model in MODELS if (how := setting(profile, DATASET, model))),
            "The percentage is of channels with CHEX and of weights with Chase, which also removes "
            "up to half of the channels. Only the channels within a block can go; those that "
            "blocks are added to stay.",
            "Compacted: the trained network with its dead channels cut out of the tensors, an "
            "ordinary dense network; FLOPs an image and images/s are of it and of the network "
            "before, in evaluation, timed in turn on the machine that trained it, by the fastest "
            "pass of each. Chase's zeros within the channels that are left are multiplied in both.",
            *(("The paper's cells are not published as text.",) if profile.evidence else ()),
        ),
        alternatives=(BEST_EPOCH,),
    )
