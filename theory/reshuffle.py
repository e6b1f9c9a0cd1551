"""Epochs that are reshuffled: a problem on which the descent bound is false without replacement.

Two examples, f_i(w) = h_i w^2 / 2 - s_i w with h = L -+ D and s = +-S: F = L w^2 / 2 is L-smooth,
its examples are not. In the second step of a reshuffled epoch the last gradient's sign says which
example comes next: u is on that example's side, and the mean of the gradient given the past is off
by up to D rho where the proof needs it to be off by L rho at most.
"""

__all__ = ["Reshuffled", "reshuffled"]

from dataclasses import dataclass

import numpy as np

from theory import corrected
from theory.checks import Estimate, estimate
from theory.iterate import iterate
from theory.problems import Problem


class _Two(Problem):
    """The two examples, drawn with replacement or in reshuffled epochs."""

    name = "two examples"

    def __init__(self, L: float, spread: float, slope: float, shuffled: bool) -> None:
        self.mask, self.smoothness = np.ones(1, dtype=bool), L
        self.curvatures = np.array([L - spread, L + spread])
        self.slopes = np.array([slope, -slope])
        self.shuffled = shuffled
        self._last: np.ndarray | None = None

    def loss(self, w: np.ndarray) -> np.ndarray:
        return self.smoothness * w[:, 0] ** 2 / 2

    def gradient(self, w: np.ndarray) -> np.ndarray:
        return self.smoothness * w

    def draw(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        if self._last is not None:
            second, self._last = 1 - self._last, None
            return second
        first = rng.integers(2, size=rows)
        self._last = first if self.shuffled else None
        return first

    def sample_gradient(self, w: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        return self.curvatures[drawn][:, None] * w - self.slopes[drawn][:, None]

    def noise_variance(self, w: np.ndarray) -> np.ndarray:
        both = self.curvatures[None] * w - self.slopes[None]
        return both.var(axis=1)

    def infimum(self, decay: float = 0.0) -> float:
        return 0.0

    def start(self) -> np.ndarray:
        return np.zeros(1)


@dataclass(frozen=True)
class Reshuffled:
    """The left side of ``smooth`` over its right side, and the same with L of one example."""

    shuffled: bool
    ratio: Estimate
    ratio_example: Estimate
    right: float
    steps: int


def reshuffled(runs: int, steps: int, seed: int) -> list[Reshuffled]:
    """Both ways to draw, from the minimum of F, with L = rho = 1, D = 10, S = 80, eta = 1e-4."""
    L, spread, slope, rho, eta = 1.0, 10.0, 80.0, 1.0, 1e-4
    found = []
    for shuffled in (False, True):
        problem = _Two(L, spread, slope, shuffled)
        start = np.zeros((runs, 1))
        total, variance = np.zeros(runs), 0.0
        rng = np.random.default_rng(seed)
        for moment in iterate(problem, "s2sam", start, steps, eta=eta, rho=rho, rng=rng):
            total += moment.w[:, 0] ** 2 * L**2
            variance = max(variance, float(problem.noise_variance(moment.u).mean()))
        numbers = {"eta": eta, "rho": rho, "T": steps, "F_0": 0.0, "F_*": 0.0}
        rights = [
            float(corrected.SMOOTH.value(L=constant, sigma=np.sqrt(variance), **numbers))
            for constant in (L, L + spread)
        ]
        ratios = [estimate(total / steps / right, 0.99) for right in rights]
        found.append(Reshuffled(shuffled, ratios[0], ratios[1], rights[0], steps))
    return found
