"""The positive control: does SAM, two gradients a step, beat SGD at this size at all?"""

from __future__ import annotations

from dataclasses import replace

from paper_repro.experiment.profiles import Profile
from tables import TABLES
from tables.base import BEST_EPOCH, Cell, Delta, Row, Table
from tables.compare import Experiment, cell, contenders
from tables.published import R2_RESNET32, R6_MEST_EM

__all__ = ["SPARSITIES", "control"]

#: Dense, where SAM's gain is best known, and MEST(EM) where the paper claims it too.
SPARSITIES = (0.0, 0.9)


@TABLES.register("control")
def control(profile: Profile) -> Table:
    """SGD, SAM and S2-SAM, dense and with MEST(EM) at 90 %."""
    optimizers = contenders(profile)
    rows = []
    for sparsity in SPARSITIES:
        method = profile.method("mest", sparsity=sparsity) if sparsity else profile.method("dense")
        cells = {n: cell(profile, Experiment(method), o) for n, o in optimizers.items()}
        if sparsity:
            published = dict(zip(("SGD", "S2-SAM"), R6_MEST_EM[sparsity], strict=True))
        else:
            published = dict(zip(("SGD", "S2-SAM", "SAM"), R2_RESNET32, strict=True))
        for name, own in cells.items():
            known = published.get(name)
            gain = None if known is None else round(known - published["SGD"], 2)
            rows.append(
                Row(
                    (f"{sparsity:.0%}", name),
                    (
                        Cell(own.runs, known),
                        Delta(Cell(), Cell()) if name == "SGD" else Delta(own, cells["SGD"], gain),
                    ),
                )
            )
    return Table(
        name="control",
        title="Positive control. SAM against SGD, dense and MEST(EM), test accuracy (%)",
        headers=("sparsity", "optimizer", "accuracy (last epoch)", "Δ to SGD"),
        rows=tuple(rows),
        notes=(
            "A size of experiment at which SAM does not beat SGD says nothing of S2-SAM's failing "
            "to.",
        ),
        alternatives=(
            replace(BEST_EPOCH, renamed={"accuracy (last epoch)": "accuracy (best epoch)"}),
        ),
    )
