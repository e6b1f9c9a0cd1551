"""Adversarial and S2-SAM's perturbations on the scalar quadratic."""

__all__ = ["basin", "extremal_cells", "extremal_worlds", "impulse"]

from collections.abc import Iterator, Sequence

import numpy as np

from theory.checks import Cell, Estimate
from theory.iterate import iterate
from theory.problems import Quadratic
from theory.statements import Statement


def impulse(a: float, beta: float, steps: int = 20_000) -> float:
    """The l1 norm of w's response to a perturbation, in units of rho: the worst any can do."""
    w, m, total = 0.0, 0.0, 0.0
    for t in range(steps):
        m = beta * m + w + (1.0 if t == 0 else 0.0)
        w -= a * m
        total += abs(w)
    return total


def extremal_worlds(statements: Sequence[Statement]) -> Iterator[dict[str, float]]:
    """The worst perturbation, random ones and S2-SAM's, from starts within 3 rho, 300 steps."""
    (statement,) = statements
    rng = np.random.default_rng(0)
    rho = 0.7
    for a in (0.05, 0.5, 0.95, 1.05, 1.5, 1.9, 2.1, 2.4, 2.6):
        stable = statement.admits(a=a, rho=rho)
        for kind in ("worst", "random", "s2sam"):
            w, sign = 3 * rho * rng.uniform(-1, 1), 0.0
            for t in range(300):
                e = {"worst": -np.sign((1 - a) * w), "random": rng.uniform(-1, 1), "s2sam": sign}
                shift = rho * float(e[kind])
                after = (1 - a) * w - a * shift
                edge = 2 * rho / (a - 2) if a > 2 else np.nan
                yield {
                    "a": a,
                    "rho": rho,
                    "b": 0.5,
                    "x": min(abs(w), edge) if a > 2 else abs(w),
                    "x_{t+1}": abs(after),
                    "X": abs(after),
                    "stable": float(stable),
                    "late": float(stable and t > 280),
                    "inside": float(a > 2),
                }
                w, sign = after, float(np.sign(w + shift))
                if abs(w) > 1e6:
                    break


def extremal_cells(statement: Statement) -> list[Cell]:
    """|w| late in every run of ``extremal_worlds`` against the largest that is possible."""
    found = []
    for index, world in enumerate(extremal_worlds([statement])):
        if world["late"]:
            value = float(statement.left.measure(world))
            setting = {"a": world["a"], "rho": world["rho"]}
            right = float(statement.value(**setting))
            left = Estimate(value, value, value, 1)
            found.append(Cell(statement.name, "scalar quadratic", setting, left, right, f"{index}"))
    return found


def basin(a: float, resolution: float = 1e-4) -> float:
    """The largest |w_0| / rho from which normalised S2-SAM stays bounded, by bisection."""
    problem = Quadratic(np.eye(1), np.zeros(1))
    low, high = 0.5, 100.0
    while high - low > resolution * low:
        starts = np.linspace(low, high, 12)[:, None]
        bounded = np.ones(12, dtype=bool)
        rng = np.random.default_rng(0)
        for moment in iterate(problem, "s2sam", starts, 300, eta=a, rho=1.0, rng=rng):
            bounded &= np.abs(moment.after[:, 0]) < 1e4
        first = int(np.argmin(bounded)) if not bounded.all() else 11
        low, high = float(starts[max(first - 1, 0), 0]), float(starts[first, 0])
    return 0.5 * (low + high)
