"""Table 6 and rebuttal R2: dense training with SGD, S2-SAM and SAM on six networks."""

from __future__ import annotations

from paper_repro.experiment.profiles import Profile
from tables import TABLES
from tables.base import BEST_EPOCH, Cell, Delta, Row, Table
from tables.compare import Experiment, cell, contenders, data_label, model_label, setting
from tables.published import R2_OTHERS, R2_RESNET32

__all__ = ["table6"]

#: The paper's data set and network, in its order.
NETWORKS = (
    ("cifar10", "resnet32x2"),
    ("cifar10", "mobilenetv2"),
    ("cifar10", "vgg19"),
    ("imagenet", "efficientnet_b0"),
    ("imagenet", "resnet34"),
    ("imagenet", "resnet50"),
)


@TABLES.register("table6")
def table6(profile: Profile) -> Table:
    """One row a network and optimizer."""
    published = {"resnet32x2": R2_RESNET32, **R2_OTHERS}
    rows = []
    for dataset, model in NETWORKS:
        three = contenders(profile, dataset)
        optimizers = {name: three[name] for name in ("SGD", "S2-SAM", "SAM")}  # as R2 has them
        known = dict(zip(optimizers, published[model], strict=True))
        experiment = Experiment(profile.method("dense"), dataset, model)
        cells = {name: cell(profile, experiment, o) for name, o in optimizers.items()}
        for name, own in cells.items():
            gain = round(known[name] - known["SGD"], 2)
            labels = (data_label(profile, dataset), model_label(profile, model), name)
            none = Delta(Cell(), Cell())
            delta = none if name == "SGD" else Delta(own, cells["SGD"], gain)
            rows.append(Row(labels, (Cell(own.runs, known[name]), delta)))
    shown = ", ".join(dict.fromkeys(data_label(profile, d) for d, _ in NETWORKS))
    return Table(
        name="table6",
        title=f"Table 6. Dense training on {shown}, test accuracy (%) after the last epoch",
        headers=("data", "network", "optimizer", "accuracy", "Δ to SGD"),
        rows=tuple(rows),
        notes=(
            *(how for d, m in NETWORKS if (how := setting(profile, d, m))),
            *(("Published: rebuttal R2.",) if profile.evidence else ()),
        ),
        alternatives=(BEST_EPOCH,),
    )
