"""The arithmetic of the forward pass: whether S2-SAM's perturbation arrives in it."""

from __future__ import annotations

from paper_repro.config import PRECISIONS
from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Record
from tables import TABLES
from tables.base import BEST_EPOCH, Cell, Delta, Row, Table
from tables.compare import Experiment, cell, contenders

__all__ = ["ablation_precision"]

SPARSITY = 0.9


def speed(record: Record) -> float | None:
    """Training images a second, evaluation left out."""
    return record.body["speed"].get("images_per_second") if record.status == "finished" else None


@TABLES.register("ablation-precision")
def ablation_precision(profile: Profile) -> Table:
    """SGD, SAM and S2-SAM with MEST(EM) at 90 % in each precision, on the same seeds."""
    experiment = Experiment(profile.method("mest", sparsity=SPARSITY))
    optimizers = contenders(profile)
    none = Delta(Cell(), Cell())
    rows = []
    for precision in PRECISIONS:
        own = {
            label: cell(profile, experiment, optimizer, precision=precision)
            for label, optimizer in optimizers.items()
        }
        for label, optimizer in optimizers.items():
            full = cell(profile, experiment, optimizer, precision=PRECISIONS[0])
            rows.append(
                Row(
                    (precision, label),
                    (
                        own[label],
                        none if label == "SGD" else Delta(own[label], own["SGD"]),
                        none if precision == PRECISIONS[0] else Delta(own[label], full),
                        Cell(own[label].runs, value=speed, digits=0),
                    ),
                )
            )
    return Table(
        name="ablation-precision",
        title="Ablation. Precision, MEST(EM) at 90 %, test accuracy (%) after the last epoch",
        headers=(
            "precision",
            "optimizer",
            "accuracy",
            "Δ to SGD in the same precision",
            "Δ to the same in float32",
            "images/s",
        ),
        rows=tuple(rows),
        notes=(
            "tf32 is what the device has of it: on a CPU its runs compute in float32 and repeat "
            "the float32 rows. A record's environment names the arithmetic.",
            "Images/s are of training processes that shared the machine with others.",
            "How much of the perturbation arrives in each precision is measured by "
            "`python -m benchmarks.perturbation`, and in runs with `--diagnostics`.",
        ),
        alternatives=(BEST_EPOCH,),
    )
