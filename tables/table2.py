"""Table 2: ResNet-50 on ImageNet, uniform and ERK, with FLOPs; rebuttals R1 and R7 are rows."""

from __future__ import annotations

from dataclasses import dataclass

from paper_repro.experiment.profiles import Profile
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import BEST_EPOCH, Cell, Delta, Number, Row, Table
from tables.compare import Experiment, capital, compare, data_label, model_label, setting
from tables.published import R1_IMAGENET_95, R2_OTHERS, R7_SET_5X
from tables.work import Work, work

__all__ = ["table2"]

DATASET, MODEL = "imagenet", "resnet50"
DISTRIBUTIONS = {"uniform": "uniform-rigl", "ERK": "erk"}
SPARSITIES = (0.8, 0.9)
#: Label, method, and by how much its training is longer.
METHODS: tuple[tuple[str, str, float], ...] = (
    ("SET", "set", 1.0),
    ("RigL", "rigl", 1.0),
    ("MEST(EM)", "mest", 1.0),
    ("MEST(EM&S)", "mest-ems", 1.0),
    ("MEST(EM) 1.7x", "mest", 1.7),
    ("MEST(EM&S) 1.7x", "mest-ems", 1.7),
    ("SET 5x", "set", 5.0),
    ("RigL 5x", "rigl", 5.0),
)


@dataclass(frozen=True)
class _Line:
    """What three rows of the table train: SGD, S2-SAM, and their difference."""

    label: str
    distribution: str
    sparsity: float
    method: Spec
    multiplier: float = 1.0
    published: tuple[float, float] | None = None


def _lines(profile: Profile) -> list[_Line]:
    lines = [_Line("dense", "–", 0.0, profile.method("dense"), 1.0, R2_OTHERS[MODEL][:2])]
    for label, name, multiplier in METHODS:
        for sparsity in (*SPARSITIES, 0.95):
            for shown, distribution in DISTRIBUTIONS.items():
                # R1 and R7 do not say which distribution is theirs; MEST's own is the uniform one.
                first, published = shown == "uniform", None
                if sparsity == 0.95:
                    if label not in R1_IMAGENET_95 or not first:
                        continue
                    published = R1_IMAGENET_95[label]
                elif label == "SET 5x" and first:
                    published = R7_SET_5X[sparsity]
                spec = profile.method(name, sparsity=sparsity, distribution=distribution)
                lines.append(_Line(label, shown, sparsity, spec, multiplier, published))
    return lines


@TABLES.register("table2")
def table2(profile: Profile) -> Table:
    """Accuracy, and training and inference FLOPs relative to dense, which need no training."""
    dense: Work | None = None
    rows: list[Row] = []
    for line in _lines(profile):
        experiment = Experiment(line.method, DATASET, MODEL, line.published, line.multiplier)
        sgd, s2sam, difference = (
            row.entries[0] for row in compare(profile, line.label, [experiment])
        )
        assert isinstance(sgd, Cell) and isinstance(s2sam, Cell) and isinstance(difference, Delta)
        own = work(sgd.runs[0]) if sgd.runs else None
        dense = dense or own
        flops = (Number(None), Number(None))
        if own is not None and dense is not None:
            flops = (
                Number(own.training / dense.training),
                Number(own.inference / dense.inference),
            )
        labels = (line.label, line.distribution, f"{line.sparsity:.0%}")
        none = Delta(Cell(), Cell())
        rows.append(Row((*labels, "SGD"), (sgd, none, *flops)))
        rows.append(Row((*labels, "S2-SAM"), (s2sam, difference, *flops)))
    data, model = data_label(profile, DATASET), model_label(profile, MODEL)
    absolute = (
        f"Dense: {dense.training:.2e} FLOPs of training, {dense.inference:.2e} an image of "
        "inference; two a multiply-accumulate, in convolutions and linear layers. "
        if dense is not None
        else ""
    )
    return Table(
        name="table2",
        title=f"Table 2. {capital(model)} on {data}, test accuracy (%) after the last epoch, "
        "and FLOPs",
        headers=(
            "method",
            "distribution",
            "sparsity",
            "optimizer",
            "accuracy",
            "Δ to SGD",
            "training FLOPs (x dense)",
            "inference FLOPs (x dense)",
        ),
        rows=tuple(rows),
        notes=(
            *([how] if (how := setting(profile, DATASET, MODEL)) else []),
            f"{absolute}They are counted from the topology schedule, not measured: RigL's dense "
            "gradients and the denser stages of MEST(EM&S) included, S2-SAM as SGD since it takes "
            "as many gradients. `make flops` holds the counting against RigL's published table.",
            "Uniform leaves the first convolution dense, as RigL does; ERK's sparsity is that of "
            "all layers together. 1.7x and 5x: so many times the epochs.",
            *(
                (
                    "Published: dense from rebuttal R2, RigL and MEST(EM) at 95 % from R1, SET 5x "
                    "from R7; neither R1 nor R7 says which distribution is meant, and both stand "
                    "beside the uniform one. The paper's other cells are not published as text.",
                )
                if profile.evidence
                else ()
            ),
        ),
        alternatives=(BEST_EPOCH,),
    )
