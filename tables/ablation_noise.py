"""Wrong labels: does S2-SAM gain where SAM is known to, and does the gain go with the noise?"""

from __future__ import annotations

from paper_repro.experiment.profiles import Profile
from tables import TABLES
from tables.base import Delta, Row, Table
from tables.compare import Experiment, cell, contenders

__all__ = ["NOISES", "ablation_noise"]

SPARSITY = 0.9
#: Fractions of the training labels that are wrong; 0 is the paper's setting.
NOISES = (0.0, 0.2, 0.4, 0.6)


@TABLES.register("ablation-noise")
def ablation_noise(profile: Profile) -> Table:
    """SGD, SAM and S2-SAM with MEST(EM) at 90 % over fractions of wrong labels."""
    experiment = Experiment(profile.method("mest", sparsity=SPARSITY))
    optimizers = contenders(profile)
    columns = [
        {
            name: cell(profile, experiment, optimizer, label_noise=noise)
            for name, optimizer in optimizers.items()
        }
        for noise in NOISES
    ]
    rows = [Row((name, "accuracy"), tuple(cells[name] for cells in columns)) for name in columns[0]]
    rows += [
        Row((name, "Δ to SGD"), tuple(Delta(cells[name], cells["SGD"]) for cells in columns))
        for name in ("SAM", "S2-SAM")
    ]
    rows.append(
        Row(
            ("S2-SAM", "Δ to SAM"),
            tuple(Delta(cells["S2-SAM"], cells["SAM"]) for cells in columns),
        )
    )
    return Table(
        name="ablation-noise",
        title="Ablation. Wrong training labels, MEST(EM) at 90 %, test accuracy (%) after the last "
        "epoch",
        headers=("optimizer", "", *(f"{noise:.0%} wrong" for noise in NOISES)),
        rows=tuple(rows),
        notes=(
            "That many training labels are replaced by another class, the same in every run; test "
            "labels are right. The paper trains on right labels only. SAM's published gain is "
            "largest with wrong ones (Foret et al. 2021, section 3.3).",
        ),
    )
