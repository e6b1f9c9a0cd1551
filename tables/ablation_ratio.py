"""Rebuttal R4: does S2-SAM help more when lottery-ticket pruning takes larger steps?"""

from __future__ import annotations

from paper_repro.experiment.profiles import Profile
from paper_repro.sparse.lt import spec_reaching
from tables import TABLES
from tables.base import BEST_EPOCH, Row, Table
from tables.compare import Experiment, compare
from tables.published import R4_LT

__all__ = ["ablation_ratio"]


@TABLES.register("ablation-ratio")
def ablation_ratio(profile: Profile) -> Table:
    """LT at 20, 30 and 40 % a round: as published, and with the last round trimmed to 90 %."""
    rows: list[Row] = []
    for (ratio, rounds), published in R4_LT.items():
        as_published = spec_reaching(0.9, ratio, trim=False, rounds=rounds)
        trimmed = spec_reaching(0.9, ratio)
        rows += compare(
            profile,
            f"{ratio:.0%} a round",
            [Experiment(as_published, published=published), Experiment(trimmed)],
        )
    left = ", ".join(f"{1 - (1 - r) ** k:.1%} after {k} rounds of {r:.0%}" for r, k in R4_LT)
    return Table(
        name="ablation-ratio",
        title="Ablation R4. LT by pruning ratio, test accuracy (%) after the last epoch",
        headers=("pruning", "optimizer", "rounds as published", "trimmed to exactly 90%"),
        rows=tuple(rows),
        notes=(
            f"The published rows are all named 90 % but are not at one sparsity: {left}. The last "
            "column compares the ratios at the same sparsity.",
        ),
        alternatives=(BEST_EPOCH,),
    )
