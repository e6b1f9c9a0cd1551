"""Scalar losses of one example, every order of examples, and runs along them."""

__all__ = ["LINES", "Line", "Path", "edge", "orders", "path"]

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from theory.statements import Statement


def edge(statement: Statement, **numbers: float) -> float:
    """The largest step that the statement admits, at most 1.5 / L where nothing else bounds it."""
    return min(statement.largest_step(**numbers), 1.5 / numbers["L"])


@dataclass(frozen=True)
class Line:
    """A scalar loss of an example z: gradient and value at w, its constants, convexity."""

    gradient: Callable[[np.ndarray, np.ndarray], np.ndarray]
    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    L: float
    B: float
    convex: bool


LINES = (
    Line(
        lambda w, z: -z / (1 + np.exp(z * w)), lambda w, z: np.logaddexp(0, -z * w), 1.0, 2.0, True
    ),
    Line(
        lambda w, z: 2 * (w - z) / (1 + (w - z) ** 2) ** 2,
        lambda w, z: (w - z) ** 2 / (1 + (w - z) ** 2),
        2.0,
        3 * np.sqrt(3) / 8,
        False,
    ),
)
"""Binary logistic with |z| <= 2 (B = 2, L = z^2 / 4 = 1), and Geman-McClure (L = 2)."""


def orders(n: int, steps: int, shuffled: bool) -> np.ndarray:
    """Every sequence of examples, each equally likely; shape (sequences, steps)."""
    if not shuffled:
        return np.array(list(product(range(n), repeat=steps)))
    epochs = product(permutations(range(n)), repeat=-(-steps // n))
    return np.array([sum(epoch, ()) for epoch in epochs])[:, :steps]


@dataclass(frozen=True)
class Path:
    """Weights, perturbations and gradients, one array a step, a row for every order."""

    w: list[np.ndarray]
    shift: list[np.ndarray]
    g: list[np.ndarray]


def path(
    line: Line, examples: np.ndarray, eta: float, rho: float, lam: float, gamma: float = 1e-300
) -> Path:
    """From w_0 = 0, with the perturbation rho g / max(|g|, gamma)."""
    found = Path([np.zeros(len(examples))], [np.zeros(len(examples))], [])
    for t in range(examples.shape[1]):
        w, shift = found.w[-1], found.shift[-1]
        g = line.gradient(w + shift, examples[:, t])
        found.g.append(g)
        found.w.append(w - eta * (g + lam * w))
        found.shift.append(rho * g / np.maximum(np.abs(g), gamma))
    return found
