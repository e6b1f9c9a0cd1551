"""Table A.1: VGG-19 on CIFAR-10 and CIFAR-100, uniform and ERK."""

from __future__ import annotations

from paper_repro.experiment.profiles import Profile
from paper_repro.registry import Spec
from paper_repro.sparse import METHODS
from tables import TABLES
from tables.base import BEST_EPOCH, Delta, MeanDelta, Row, Table
from tables.compare import Experiment, capital, compare, data_label, model_label
from tables.table1 import CIFAR, METHOD_LABELS, SPARSITIES, method_spec

__all__ = ["table_a1"]

MODEL = "vgg19"
DISTRIBUTIONS = ("uniform", "erk")


def _spec(
    profile: Profile, name: str, distribution: str | None, sparsity: float, dataset: str
) -> Spec | None:
    if distribution is None:
        return method_spec(profile, name, sparsity, dataset)
    return profile.method(name, sparsity=sparsity, distribution=distribution)


@TABLES.register("tableA1")
def table_a1(profile: Profile) -> Table:
    """Table 1's methods on VGG-19, those that distribute sparsity over layers in both ways."""
    columns = [(d, s) for d in CIFAR if d in profile.datasets for s in SPARSITIES]
    rows: list[Row] = []
    for label, name in METHOD_LABELS.items():
        by_layer = "distribution" in METHODS.defaults(name)
        for distribution in DISTRIBUTIONS if by_layer else (None,):
            experiments = [
                Experiment(_spec(profile, name, distribution, s, d), dataset=d, model=MODEL)
                for d, s in columns
            ]
            labels = (label, {"uniform": "uniform", "erk": "ERK", None: "global"}[distribution])
            for row in compare(profile, label, experiments):
                rows.append(Row((*labels, row.labels[1]), row.entries))
    gains = [
        tuple(e for row in rows if isinstance(e := row.entries[i], Delta))
        for i in range(len(columns))
    ]
    rows.append(Row(("all", "all", "mean Δ"), tuple(MeanDelta(g) for g in gains)))
    return Table(
        name="tableA1",
        title=f"Table A.1. {capital(model_label(profile, MODEL))}, test accuracy (%) after the "
        "last epoch",
        headers=(
            "method",
            "distribution",
            "optimizer",
            *(f"{data_label(profile, d)} {s:.0%}" for d, s in columns),
        ),
        rows=tuple(rows),
        notes=(
            "Global: one ranking of all weights. Uniform leaves the first convolution and the "
            "classifier dense, and its sparsity is that of the other layers; ERK's is that of all "
            "of them together.",
            f"LT prunes {profile.prune_ratio:.0%} of the remaining weights a round; its last round "
            "is trimmed to exactly the sparsity in the header.",
            *(("The paper's cells are not published as text.",) if profile.evidence else ()),
        ),
        alternatives=(BEST_EPOCH,),
    )
