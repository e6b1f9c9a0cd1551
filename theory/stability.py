"""How large a step each method tolerates on the scalar quadratic, by simulation."""

__all__ = [
    "Threshold",
    "amplitudes",
    "heavy_thresholds",
    "predicted",
    "root_cells",
    "thresholds",
    "wander",
]

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy

from theory.checks import Cell, Estimate
from theory.iterate import RULES, iterate
from theory.problems import Quadratic
from theory.proofs.heavy import STABLE_LIMITS
from theory.proofs.scalar import BOUNDED_LIMIT
from theory.statements import Statement, evaluate
from theory.worlds.heavy import points

_BLOWN_UP = 1e6


@dataclass(frozen=True)
class Threshold:
    """The largest stable eta * h found, against its formula."""

    rule: str
    normalized: bool
    rho_h: float
    measured: float
    predicted: float
    resolution: float
    beta: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether the two differ by no more than the search's resolution."""
        return abs(self.measured - self.predicted) <= self.resolution


def predicted(rule: str, normalized: bool, rho_h: float, beta: float = 0.0) -> float:
    """The largest stable eta * h of ``theory.proofs.scalar`` and ``theory.proofs.heavy``.

    Without normalisation (u = w + rho g): 2 (1 + beta) (sgd), 2 (1 + beta) / (1 + rho h) (sam),
    and for s2sam, rho h < 1, the smaller of 2 (1 + beta) (1 + rho h) and
    (1 - beta) (1 - rho h) (1 - beta rho h) / (beta rho h). With it, beta = 0: 2, 2 and
    (3 + sqrt 5) / 2, in the sense of bounded orbits.
    """
    if normalized:
        return float(sympy.N(BOUNDED_LIMIT)) if rule == "s2sam" else 2.0
    if rule != "s2sam":
        return 2 * (1 + beta) / (1 + rho_h)
    limits = STABLE_LIMITS if beta * rho_h > 0 else STABLE_LIMITS[:1]
    return min(float(evaluate(limit, {"beta": beta, "r": rho_h})) for limit in limits)


def _final(
    rule: str,
    ratios: np.ndarray,
    starts: np.ndarray,
    rho: float,
    steps: int,
    norm: bool,
    beta: float = 0.0,
) -> np.ndarray:
    """Largest |w| over the last tenth of the steps; shape (len(ratios), len(starts))."""
    eta = np.repeat(ratios, len(starts))[:, None]
    w = np.tile(starts, len(ratios))[:, None]
    problem = Quadratic(np.ones((1, 1)), np.zeros(1))
    late = np.zeros(len(eta))
    rng = np.random.default_rng(0)
    with np.errstate(over="ignore", invalid="ignore"):
        for moment in iterate(
            problem, rule, w, steps, eta=eta, rho=rho, rng=rng, normalize=norm, momentum=beta
        ):
            if moment.t >= 0.9 * steps:
                size = np.nan_to_num(np.abs(moment.after[:, 0]), nan=np.inf)
                late = np.maximum(late, size)
    return late.reshape(len(ratios), len(starts))


def _shrinks(rule: str, ratios: np.ndarray, rho: float, steps: int, beta: float) -> np.ndarray:
    """Whether |w| is smaller late in the run than halfway; linear runs, shape (len(ratios),)."""
    w, problem = np.ones((len(ratios), 1)), Quadratic(np.ones((1, 1)), np.zeros(1))
    middle, late = np.zeros(len(ratios)), np.zeros(len(ratios))
    rng = np.random.default_rng(0)
    with np.errstate(over="ignore", invalid="ignore"):
        for moment in iterate(
            problem,
            rule,
            w,
            steps,
            eta=ratios[:, None],
            rho=rho,
            rng=rng,
            normalize=False,
            momentum=beta,
        ):
            size = np.nan_to_num(np.abs(moment.after[:, 0]), nan=np.inf)
            if 0.4 * steps <= moment.t < 0.5 * steps:
                middle = np.maximum(middle, size)
            elif moment.t >= 0.9 * steps:
                late = np.maximum(late, size)
    return (late < middle) | (late < 1e-300)  # below, float64 rounds to itself


def _bisect(stable: Callable[[np.ndarray], np.ndarray], resolution: float) -> float:
    """The largest stable ratio in (0, 4.5], by refining a grid of 16 points."""
    low, high = 0.01, 4.5
    while high - low > resolution:
        grid = np.linspace(low, high, 16)
        fine = stable(grid)
        first_bad = int(np.argmin(fine)) if not fine.all() else len(grid)
        if first_bad == len(grid):
            return high
        low, high = (grid[first_bad - 1], grid[first_bad]) if first_bad else (0.0, grid[0])
    return 0.5 * (low + high)


def thresholds(fast: bool = False) -> list[Threshold]:
    """Bisect for every rule, normalised and not; h = 1, so rho h = rho and eta h = eta."""
    resolution, steps = (0.02, 1500) if fast else (0.005, 6000)
    found = []
    starts = np.linspace(-2, 2, 40)  # none is 0, in units of rho
    for rule in RULES:

        def bounded(ratios: np.ndarray, rule: str = rule) -> np.ndarray:
            return _final(rule, ratios, starts, 1.0, steps, True).max(axis=1) < _BLOWN_UP

        measured = _bisect(bounded, resolution)
        found.append(Threshold(rule, True, 1.0, measured, predicted(rule, True, 1.0), resolution))
        for rho_h in (0.1, 0.5, 0.9) if rule != "sgd" else (0.0,):

            def vanishing(ratios: np.ndarray, rule: str = rule, rho: float = rho_h) -> np.ndarray:
                return _final(rule, ratios, np.ones(1), rho, steps, False)[:, 0] < 1e-2

            measured = _bisect(vanishing, resolution)
            found.append(
                Threshold(rule, False, rho_h, measured, predicted(rule, False, rho_h), resolution)
            )
    return found


def heavy_thresholds(fast: bool = False) -> list[Threshold]:
    """The same at beta = 0.9, without normalisation, around the radius where S2-SAM loses."""
    resolution, steps, beta = (0.02, 2000, 0.9) if fast else (0.005, 8000, 0.9)
    found = []
    for rule in RULES:
        for rho_h in (0.01, 0.02, 0.05, 0.1, 0.5) if rule != "sgd" else (0.0,):

            def shrinks(ratios: np.ndarray, rule: str = rule, rho: float = rho_h) -> np.ndarray:
                return _shrinks(rule, ratios, rho, steps, beta)

            measured = _bisect(shrinks, resolution)
            formula = predicted(rule, False, rho_h, beta)
            found.append(Threshold(rule, False, rho_h, measured, formula, resolution, beta))
    return found


def root_cells(statement: Statement, count: int) -> tuple[list[Cell], int]:
    """The largest modulus of the roots against 1 within the conditions; how many points outside.

    Raises:
        ValueError: a point outside the conditions has all its roots inside the unit circle.
    """
    found, outside = [], 0
    for index, point in enumerate(points(count)):
        if not statement.admits(**point.numbers):
            outside += 1
            if point.radius < 1:
                raise ValueError(f"{statement.name}: stable outside its conditions at {point}")
            continue
        value = float(statement.left.measure(point))
        left = Estimate(value, value, value, 1)
        right = float(statement.value(**point.numbers))
        name = "scalar quadratic"
        found.append(Cell(statement.name, name, point.numbers, left, right, f"point {index}"))
    return found, outside


def wander(beta: float, ratios: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """Largest late |w| / rho against eta h with momentum, normalised, from within 2 rho."""
    starts = np.linspace(-2, 2, 40)
    found = {}
    for rule in RULES:
        late = _final(rule, ratios, starts, 1.0, steps, True, beta).max(axis=1)
        found[rule] = np.where(late < _BLOWN_UP, late, np.inf)
    return found


def amplitudes(ratios: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """Largest late |w| / rho against eta h, normalised, from within 2 rho; inf if unbounded."""
    starts = np.linspace(-2, 2, 40)
    found = {}
    for rule in RULES:
        late = _final(rule, ratios, starts, 1.0, steps, True).max(axis=1)
        found[rule] = np.where(late < _BLOWN_UP, late, np.inf)
    return found
