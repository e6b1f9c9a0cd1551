"""The generalization gap with the continuous perturbation rho g / max(|g|, gamma), measured."""

__all__ = ["ClippedGap", "clipped_cells", "clipped_gaps"]

from dataclasses import dataclass
from itertools import product

import numpy as np

from theory import beyond, corrected
from theory.checks import Cell, Estimate, estimate
from theory.generalization import POPULATION, Sets, absolute
from theory.iterate import iterate
from theory.problems import Logistic, digits


@dataclass(frozen=True)
class ClippedGap:
    """Training sets of n digits: the measured gap, its bound, and the bound without the floor."""

    n: int
    numbers: dict[str, float]
    gap: Estimate
    bound: float
    unclipped: float
    error: float


def clipped_gaps(sizes: tuple[int, ...], sets: int, steps: int, seed: int) -> list[ClippedGap]:
    """Logistic regression at lambda = 0.1 and 2L = 1, rho = 0.1, gamma = 0.5, so kappa = 0.1.

    One example a step. The population is the digits themselves, so its risk is computed and not
    estimated.
    """
    rng = np.random.default_rng(seed)
    images, labels, _, _ = digits(rng, POPULATION)
    whole = Logistic(images, labels)
    found = []
    for n, decay in product(sizes, (0.1, 1.0)):
        numbers = {"L": 0.5, "B": float(np.sqrt(2)), "lambda": decay, "rho": 0.1, "gamma": 0.5}
        eta = 1 / (numbers["L"] + numbers["lambda"])
        numbers |= {"n": float(n), "eta": eta}
        measured, error = np.zeros(sets), 0.0
        for index in range(sets):
            chosen = rng.integers(POPULATION, size=n)
            problem = Logistic(images[chosen], labels[chosen], batch=1)
            w = np.zeros((1, problem.dim))
            for moment in iterate(
                problem,
                "s2sam",
                w,
                steps,
                eta=eta,
                rho=numbers["rho"],
                rng=np.random.default_rng(seed + index),
                decay=numbers["lambda"],
                floor=numbers["gamma"],
            ):
                w = moment.after
            both = Sets(population=whole.loss(w), sample=problem.loss(w))
            measured[index] = beyond.STABILITY_CLIPPED_CONVEX.left.measure(both)[0]
            error += float(whole.error(w)[0]) / sets
        found.append(
            ClippedGap(
                n,
                numbers,
                estimate(measured, 0.99),
                float(beyond.STABILITY_CLIPPED_CONVEX.value(**numbers)),
                float(corrected.CONVEX_STABILITY.value(**numbers)),
                error,
            )
        )
    return found


def clipped_cells(measured: list[ClippedGap]) -> list[Cell]:
    """The gaps as cells; of the general bound at the same constants only where it admits them."""
    found = []
    for gap in measured:
        for statement in (beyond.STABILITY_CLIPPED_CONVEX, beyond.STABILITY_CLIPPED):
            if statement.admits(**gap.numbers):
                bound = float(statement.value(**gap.numbers))
                left = absolute(gap.gap)
                found.append(Cell(statement.name, "logistic regression", gap.numbers, left, bound))
    return found
