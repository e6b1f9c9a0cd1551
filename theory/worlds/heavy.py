"""Roots of S2-SAM's characteristic polynomial with momentum, at random points."""

__all__ = ["Point", "disagreements", "heavy_worlds", "points"]

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from theory.statements import Statement

_BAND = 1e-6  # a radius this close to 1 is decided by rounding


@dataclass(frozen=True)
class Point:
    """a = eta h, r = rho h, beta, and the largest modulus of the roots."""

    a: float
    r: float
    beta: float
    radius: float

    @property
    def numbers(self) -> dict[str, float]:
        """The constants by name."""
        return {"a": self.a, "r": self.r, "beta": self.beta}


def points(count: int, seed: int = 0) -> list[Point]:
    """Random settings over four decades of a and r, momentum from 0 to 0.99."""
    rng = np.random.default_rng(seed)
    a = 5 * 10 ** (-4 * rng.uniform(size=count))
    r = 2 * 10 ** (-3 * rng.uniform(size=count)) * (rng.uniform(size=count) > 0.1)
    beta = rng.choice([0.0, 0.5, 0.9, 0.99], size=count)
    matrix = np.zeros((count, 3, 3))
    matrix[:, 0] = np.stack([1 - a, -beta, -r], axis=1)
    matrix[:, 1] = np.stack([a, beta, r], axis=1)
    matrix[:, 2] = np.stack([a, 0 * a, r], axis=1)
    radius = np.abs(np.linalg.eigvals(matrix)).max(axis=1)
    rows = zip(a, r, beta, radius, strict=True)
    return [Point(*(float(x) for x in row)) for row in rows if abs(row[3] - 1) > _BAND]


def disagreements(statement: Statement, count: int) -> int:
    """At how many points the statement's conditions do not tell whether the radius is below 1."""
    return sum(statement.admits(**p.numbers) != (p.radius < 1) for p in points(count))


def heavy_worlds(statements: Sequence[Statement]) -> Iterator[dict[str, float]]:
    """The points that the statement admits; R is the largest modulus."""
    (statement,) = statements
    for point in points(1000):
        if statement.admits(**point.numbers):
            yield {**point.numbers, "R": point.radius}
