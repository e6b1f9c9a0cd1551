"""Worlds of two vectors, of one residual, of softmax probabilities."""

__all__ = ["constant_worlds", "geometry_worlds"]

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import softmax

from theory.statements import Statement


def geometry_worlds(statements: Sequence[Statement]) -> Iterator[dict[str, float]]:
    """Pairs of gradients of all lengths and angles, on a quadratic with L = 3."""
    rng = np.random.default_rng(0)
    for trial in range(400):
        x, y = rng.standard_normal((2, 3)) * np.exp(2 * rng.standard_normal((2, 1)))
        if trial % 4 == 0:
            y = -3 * x if trial % 8 else y * np.linalg.norm(x) / np.linalg.norm(y)
        a, b = np.linalg.norm(x), np.linalg.norm(y)
        unit_gap = float(np.linalg.norm(x / a - y / b))
        L, rho = 3.0, float(rng.exponential())
        yield {
            "a": float(a),
            "b": float(b),
            "C": float(x @ y / (a * b)),
            "e": float(L * rho * unit_gap * rng.uniform()),
            "h": unit_gap,
            "D": float(np.linalg.norm(x - y)),
            "S": float(a + b),
            "L": L,
            "rho": rho,
        }


def constant_worlds(statements: Sequence[Statement]) -> Iterator[dict[str, float]]:
    """Residuals on both sides of where Geman-McClure bends most, and ten probabilities."""
    rng = np.random.default_rng(0)
    for trial in range(400):
        v = rng.standard_normal(10)
        v /= np.linalg.norm(v)
        p = softmax(rng.standard_normal(10) * 4)
        yield {
            "x": float(trial / 50 - 4),
            "M": float(v.max()),
            "m": float(v.min()),
            "p": float(p[0]),
            "s": float((p[1:] ** 2).sum()),
        }
