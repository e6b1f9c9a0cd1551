"""Where can a small experiment answer? Beds for S2-SAM, each asked first whether SAM gains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from paper_repro.config import RunConfig
from paper_repro.experiment.profiles import Profile
from paper_repro.optim import OPTIMIZERS
from paper_repro.registry import Spec
from paper_repro.sparse import METHODS
from tables import TABLES
from tables.base import Cell, Delta, Row, Table

__all__ = ["BEDS", "Bed", "pilot"]

RHOS = (0.05, 0.1, 0.2)
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Bed:
    """A size of experiment.

    Attributes:
        model: a network's name here.
        sparsity: of MEST(EM).
        settings: fields of the run's config.
    """

    model: str
    sparsity: float
    settings: dict[str, Any] = field(default_factory=dict)


#: Small data lets a sparse network fit what it sees, which is where sharpness should matter; wrong
#: labels are where SAM's published gain is largest; all data and few epochs is nearer to the paper.
BEDS = {
    "5,000 images, 100 epochs, ResNet-20 at 90 %": Bed(
        "resnet20",
        0.9,
        {"train_size": 5_000, "epochs": 100, "test_on": "wide", "evaluate_every": 25},
    ),
    "2,000 images, 200 epochs, ResNet-20 at 90 %": Bed(
        "resnet20",
        0.9,
        {"train_size": 2_000, "epochs": 200, "test_on": "wide", "evaluate_every": 50},
    ),
    "1,000 images, 200 epochs, ResNet-20 at 90 %": Bed(
        "resnet20",
        0.9,
        {"train_size": 1_000, "epochs": 200, "test_on": "wide", "evaluate_every": 200},
    ),
    "2,000 images, 40 % of their labels wrong, 100 epochs, ResNet-20 at 90 %": Bed(
        "resnet20",
        0.9,
        {
            "train_size": 2_000,
            "label_noise": 0.4,
            "epochs": 100,
            "test_on": "wide",
            "evaluate_every": 100,
        },
    ),
    "50,000 images, 20 epochs, ResNet-20 at 90 %": Bed(
        "resnet20", 0.9, {"epochs": 20, "evaluate_every": 5}
    ),
    "10,000 images, 60 epochs, ResNet-32 x2 at 90 %": Bed(
        "resnet32x2",
        0.9,
        {"train_size": 10_000, "epochs": 60, "test_on": "wide", "evaluate_every": 15},
    ),
}


def run(bed: Bed, optimizer: Spec, seed: int) -> RunConfig:
    """A run of a bed. It is of no profile, so that it stays what it is when profiles change."""
    return RunConfig(
        profile="pilot",
        dataset="cifar10",
        model=bed.model,
        method=METHODS.spec("mest", sparsity=bed.sparsity),
        optimizer=optimizer,
        seed=seed,
        init="released",
        **bed.settings,
    )


@TABLES.register("pilot")
def pilot(profile: Profile) -> Table:
    """SGD, SAM and S2-SAM on each bed; it decided what the ``cpu`` profile is."""
    rows: list[Row] = []
    for label, bed in BEDS.items() if profile.name == "cpu" else ():

        def of(name: str, bed: Bed = bed, **options: float) -> Cell:
            return Cell(tuple(run(bed, OPTIMIZERS.spec(name, **options), s) for s in SEEDS))

        base = of("sgd")
        rows.append(Row((label, "SGD"), (base, Delta(Cell(), Cell()))))
        for rho in RHOS:
            for name, word in (("sam", "SAM"), ("s2sam", "S2-SAM")):
                own = of(name, rho=rho)
                rows.append(Row((label, f"{word}, ρ = {rho:g}"), (own, Delta(own, base))))
    return Table(
        name="pilot",
        title="Pilot. Where SAM gains: test accuracy (%) after the last epoch, MEST(EM)",
        about="CIFAR-10 and the networks of the beds that the rows name",
        headers=("bed", "optimizer", "accuracy", "Δ to SGD"),
        rows=tuple(rows),
        notes=(
            "The runs are of no profile.",
            "A bed says something of S2-SAM only if SAM, at two gradients a step, gains there.",
            "With fewer than 50,000 training images the others are tested on too.",
        ),
    )
