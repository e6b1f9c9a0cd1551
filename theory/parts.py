"""Parts of the results that put several modules together."""

__all__ = ["checked", "equivalences", "properties"]

from dataclasses import replace

import numpy as np

from theory.assumptions import largest_ratio
from theory.checks import Cell
from theory.equivalences import (
    against_optimizer,
    change_of_variables,
    distance_on_line,
    dunkl_williams,
    gradient_error,
    masked_and_restricted,
)
from theory.grid import Grid, arms, cells, simulate
from theory.problems import Logistic, Problem, Quadratic, digits, rotated


def checked(
    problem: Problem, density: float, grid: Grid, fast: bool, confidence: float, seed: int
) -> tuple[list[Cell], int]:
    """All cells of one problem, and how many arms an inconclusive cell made run again."""
    logistic = isinstance(problem, Logistic)
    settings = arms((1.0,) if logistic else (0.0, 0.5, 2.0), full=not (logistic or fast))
    runs = grid.logistic_seeds if logistic else grid.seeds
    horizons = grid.logistic_horizons if logistic else grid.horizons
    records = list(simulate(problem, settings, runs, horizons, np.random.default_rng([seed, 1])))
    groups = {
        arm: cells(problem, density, [r for r in records if r.arm is arm], confidence)
        for arm in settings
    }
    retried = 0
    for factor in (8,) if logistic else (16, 128):
        again = [
            arm for arm, found in groups.items() if any(c.verdict == "inconclusive" for c in found)
        ]
        if not again:
            break
        retried += len(again)
        rng = np.random.default_rng([seed, factor])
        records = list(simulate(problem, again, factor * runs, horizons, rng))
        for arm in again:
            mine = [r for r in records if r.arm is arm]
            groups[arm] = cells(problem, density, mine, confidence)
    return [cell for found in groups.values() for cell in found], retried


def equivalences(fast: bool, seed: int) -> dict[str, tuple[float, int]]:
    """The largest deviation of each equivalence, and over how many steps or pairs."""
    rng = np.random.default_rng(seed)
    steps, pairs = (100, 2_000) if fast else (1_000, 50_000)
    dim = 10
    quadratic = Quadratic(
        rotated(np.geomspace(0.05, 1, dim), rng),
        rng.standard_normal(dim),
        sigma=0.3,
        mask=np.arange(dim) % 3 > 0,
    )
    images, labels, _, _ = digits(rng, 200)
    logistic = Logistic(images, labels)
    start = np.tile(quadratic.start(), (4, 1))
    x = rng.standard_normal((pairs, dim)) * np.exp(2 * rng.standard_normal((pairs, 1)))
    y = rng.standard_normal((pairs, dim)) * np.exp(2 * rng.standard_normal((pairs, 1)))
    # One quarter of equal norm and one of opposite direction, where the inequality is an equality.
    quarter = pairs // 4
    y[:quarter] *= (np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1))[:quarter, None]
    y[quarter : 2 * quarter] = -x[quarter : 2 * quarter] * 3
    optimizer = max(
        against_optimizer(problem, steps, 0.1, 0.05, decay, momentum, seed)
        for problem in (quadratic, logistic)
        for decay, momentum in ((0.0, 0.0), (5e-4, 0.9))
    )
    return {
        "change of variables": (
            change_of_variables(quadratic, start, steps, 0.3, 0.1, seed),
            steps,
        ),
        "masked and restricted": (masked_and_restricted(quadratic, steps, 0.3, 0.1, seed), steps),
        "paper_repro.optim.S2SAM": (optimizer, steps),
        "Dunkl-Williams": (float(dunkl_williams(x, y).max()), pairs),
        "gradient error against SAM": (
            max(
                gradient_error(logistic, steps, 1.0, 0.5, seed),
                gradient_error(quadratic, steps, 0.3, 0.1, seed),
            ),
            8 * (steps - 1),
        ),
        "distance on the line": (abs(distance_on_line(3.0, 0.1, 0.05, 0.4, 300) - 1), 300),
    }


def properties(everything: list[tuple[Problem, float]], seed: int) -> dict[str, dict[str, float]]:
    """How close each dense problem of the grid comes to breaking what is assumed of it."""
    found: dict[str, dict[str, float]] = {}
    for problem, density in everything:
        if density < 1:
            continue
        known = problem if isinstance(problem, Logistic) else replace(problem, sigma=0.5)  # type: ignore[type-var]
        numbers = {"L": known.smoothness, "F_*": known.infimum()}
        numbers["sigma"] = float(np.sqrt(known.noise_variance(known.start()[None])[0]))
        names = ["smooth", "infimum", "unbiased", "variance"]
        mu = known.pl()
        if mu is not None:
            numbers["mu"] = mu
            names.append("pl")
        bound = known.lipschitz()
        if bound is not None:
            numbers["B"] = bound
            names.append("lipschitz")
        rng = np.random.default_rng(seed)
        found[known.name] = {name: largest_ratio(name, known, numbers, rng) for name in names}
    images, labels, _, _ = digits(np.random.default_rng(seed), 300)
    one = Logistic(images, labels, batch=1)
    numbers = {"L": one.example_smoothness, "B": float(np.sqrt(2))}
    rng = np.random.default_rng(seed)
    found["one example of logistic regression"] = {
        name: largest_ratio(name, one, numbers, rng)
        for name in ("example smooth", "lipschitz", "convex")
    }
    return found
