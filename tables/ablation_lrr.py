"""Rebuttal R3: does S2-SAM improve learning-rate rewinding too?"""

from __future__ import annotations

from paper_repro.experiment.profiles import Profile
from paper_repro.sparse.lt import spec_reaching
from tables import TABLES
from tables.base import BEST_EPOCH, Row, Table
from tables.compare import Experiment, compare
from tables.published import R3_LRR

__all__ = ["ablation_lrr"]


@TABLES.register("ablation-lrr")
def ablation_lrr(profile: Profile) -> Table:
    """LRR at the sparsities of R3."""
    rows: list[Row] = []
    for sparsity, published in R3_LRR.items():
        spec = spec_reaching(sparsity, profile.prune_ratio, method="lrr")
        rows += compare(profile, f"{sparsity:.0%}", [Experiment(spec, published=published)])
    return Table(
        name="ablation-lrr",
        title="Ablation R3. Learning-rate rewinding, test accuracy (%) after the last epoch",
        headers=("sparsity", "optimizer", "accuracy"),
        rows=tuple(rows),
        notes=(
            f"A round prunes {profile.prune_ratio:.0%} of the remaining weights; the last one is "
            "trimmed to exactly the sparsity of its row.",
        ),
        alternatives=(BEST_EPOCH,),
    )
