"""Runs whose masks change: prune the smallest active weight, grow one that was pruned."""

__all__ = ["mask_cells", "mask_worlds"]

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from theory.checks import Cell, Estimate
from theory.iterate import unit
from theory.problems import Problem, Quadratic, Robust, rotated
from theory.statements import Statement

_DEPTH, _LONG = 6, 60


def _problems() -> list[Problem]:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((12, 5))
    return [
        Quadratic(rotated(np.geomspace(0.2, 1.0, 5), rng), 2 * rng.standard_normal(5)),
        Robust(features, features @ rng.standard_normal(5) * 2),
        Quadratic(np.eye(5), np.zeros(5)),  # attains the noise term, so T is tested too
    ]


def _changed(w: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each row's mask with its smallest active weight pruned and another position grown."""
    mask = mask.copy()
    smallest = np.where(mask, np.abs(w), np.inf).argmin(axis=1)
    grown = np.where(mask, -1.0, rng.random(w.shape)).argmax(axis=1)
    rows = np.arange(len(w))
    mask[rows, smallest], mask[rows, grown] = False, True
    return mask


def _run(
    problem: Problem, eta: float, rho: float, sigma: float, every: int
) -> Iterator[dict[str, float]]:
    """One world for each T; noise is +-push at each step, all paths followed."""
    depth = _DEPTH if sigma else 0
    rows, steps = 2**depth, depth or _LONG
    rng = np.random.default_rng(1)
    mask = np.tile(np.array([True, True, True, False, False]), (rows, 1))
    w = np.where(mask, problem.start(), 0.0)
    direction = np.zeros_like(w)
    start = float(problem.loss(w).mean())
    squares = jumps = 0.0
    for t in range(steps):
        sign = 1.0 - 2.0 * ((np.arange(rows) >> t) & 1) if sigma else np.zeros(rows)
        noise = sigma * sign[:, None] * mask / np.sqrt(3)  # three active coordinates: sigma long
        slope = problem.gradient(w) * mask
        g = problem.gradient(w + rho * direction * mask) * mask + noise
        moved = w - eta * g
        direction = unit(g)
        after, there = moved, mask
        if (t + 1) % every == 0:
            there = _changed(moved, mask, rng)
            after = np.where(there, moved, 0.0)
        before, then = float(problem.loss(moved).mean()), float(problem.loss(after).mean())
        here = float((slope**2).sum(axis=1).mean())
        if t:
            yield {
                "L": problem.smoothness,
                "eta": eta,
                "rho": rho,
                "sigma": sigma,
                "lambda": 0.0,
                "beta": 0.0,
                "F_0": start,
                "F_*": problem.infimum(),
                "T": float(t),
                "S_T": squares,
                "G_T": here,
                "F_T": float(problem.loss(w).mean()),
                "F_{T+1}^-": before,
                "F_{T+1}": then,
                "j": then - before,
                "J": jumps,
            }
        squares += here
        jumps += then - before
        # A perturbation on weights that were just pruned would be outside the mask.
        w, mask, direction = after, there, direction * there


def mask_worlds(statements: Sequence[Statement]) -> Iterator[dict[str, float]]:
    """At the edge and within, with masks that change at every step, every third, and never."""
    (statement,) = statements
    for problem, share, rho, sigma, every in product(
        _problems(), (1.0, 0.3), (0.0, 0.3, 2.0), (0.0, 1.0), (1, 3, 1000)
    ):
        eta = share * statement.largest_step(L=problem.smoothness, beta=0.0, **{"lambda": 0.0})
        yield from _run(problem, eta, rho, sigma, every)


def mask_cells(statement: Statement) -> list[Cell]:
    """Both sides in every world; means over all paths, so exact."""
    found = []
    names = ("eta", "rho", "sigma", "T", "J")
    for index, world in enumerate(mask_worlds([statement])):
        value = float(statement.left.measure(world))
        right = float(statement.value(**{k: world[k] for k in statement.constants}))
        setting = {name: world[name] for name in names}
        left = Estimate(value, value, value, 1)
        found.append(Cell(statement.name, "changing masks", setting, left, right, f"{index}"))
    return found
