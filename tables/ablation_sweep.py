"""Rebuttal R6: MEST(EM) from dense to 98 %: does the gain grow with sparsity?"""

from __future__ import annotations

from paper_repro.experiment.profiles import Profile
from tables import TABLES
from tables.base import BEST_EPOCH, Row, Table
from tables.compare import Experiment, compare
from tables.published import R6_MEST_EM

__all__ = ["ablation_sweep"]


@TABLES.register("ablation-sweep")
def ablation_sweep(profile: Profile) -> Table:
    """One row of three for every sparsity of R6."""
    rows: list[Row] = []
    for sparsity, published in R6_MEST_EM.items():
        method = profile.method("mest", sparsity=sparsity) if sparsity else profile.method("dense")
        rows += compare(profile, f"{sparsity:.0%}", [Experiment(method, published=published)])
    return Table(
        name="ablation-sweep",
        title="Ablation R6. MEST(EM) over sparsities, test accuracy (%) after the last epoch",
        headers=("sparsity", "optimizer", "accuracy"),
        rows=tuple(rows),
        notes=(
            "The schedules of MEST(EM) are published for 90, 95 and 98 %; elsewhere its stages "
            "prune 20 % and 10 % of the active weights, as they do at 90 %.",
        ),
        alternatives=(BEST_EPOCH,),
    )
