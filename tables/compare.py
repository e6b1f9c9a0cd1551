"""The comparison that most of the paper's tables make: SGD, S2-SAM, and the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paper_repro.experiment.profiles import Profile
from paper_repro.optim import OPTIMIZERS
from paper_repro.registry import Spec
from tables.base import Cell, Delta, Row

__all__ = ["DATASET_LABELS", "RHO", "Experiment", "cell", "compare"]

#: The paper's radius on CIFAR.
RHO = 0.05
DATASET_LABELS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "digits": "digits",
    "multi30k": "Multi30k",
    "phrases": "generated phrases",
    "wmt14": "WMT-14",
}


@dataclass(frozen=True)
class Experiment:
    """One column's experiment in a row: what is trained, whichever the optimizer.

    Attributes:
        method: with all options; None where the project does not have it.
        dataset: the paper's name of it.
        model: the paper's network.
        published: the paper's (SGD, S2-SAM).
    """

    method: Spec | None
    dataset: str = "cifar10"
    model: str = "resnet32x2"
    published: tuple[float, float] | None = None


def cell(
    profile: Profile,
    experiment: Experiment,
    optimizer: Spec,
    published: float | None = None,
    **settings: Any,
) -> Cell:
    """The runs of an experiment with one optimizer, one a seed of the profile."""
    if experiment.method is None:
        return Cell()
    runs = (
        profile.config(
            experiment.dataset, experiment.model, experiment.method, optimizer, seed, **settings
        )
        for seed in profile.seeds
    )
    return Cell(tuple(runs), published)


def compare(profile: Profile, label: str, experiments: Sequence[Experiment]) -> tuple[Row, ...]:
    """Three rows: SGD, S2-SAM and Δ, one entry an experiment."""
    sgd, s2sam = OPTIMIZERS.spec("sgd"), OPTIMIZERS.spec("s2sam", rho=RHO)
    base, ours, deltas = [], [], []
    for e in experiments:
        theirs, our, gain = None, None, None
        if e.published is not None:
            theirs, our = e.published
            gain = round(our - theirs, 2)
        base.append(cell(profile, e, sgd, theirs))
        ours.append(cell(profile, e, s2sam, our))
        deltas.append(Delta(ours[-1], base[-1], gain))
    return (
        Row((label, "SGD"), tuple(base)),
        Row((label, "S2-SAM"), tuple(ours)),
        Row((label, "Δ"), tuple(deltas)),
    )
