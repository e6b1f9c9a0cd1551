"""Lemma 1 on many pairs of weights: random ones, and the pairs that make it tight."""

__all__ = ["Loss", "Pairs", "lemma_cells", "losses", "pairs"]

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from theory import corrected, printed
from theory.checks import Cell, Estimate
from theory.problems.base import sphere
from theory.statements import Statement


@dataclass(frozen=True)
class Loss:
    """One example's loss with its constants; ``gradient(w, other)`` takes a second example too."""

    name: str
    L: float
    B: float
    convex: bool
    gradient: Callable[[np.ndarray, int], np.ndarray]
    axis: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Pairs of weights after one step: |w_{t+1} - w'_{t+1}|; shape (pairs,)."""

    apart: np.ndarray


def losses(rng: np.random.Generator, dim: int = 6) -> list[Loss]:
    """Huber, robust regression and binary logistic regression, with exact L and B."""
    a = rng.standard_normal((2, dim))
    a *= 3 / np.linalg.norm(a, axis=1, keepdims=True)

    def huber(u: np.ndarray, example: int) -> np.ndarray:
        # 10 (a u)^2 / 18 within |a u| <= 6, linear beyond: L = 10, B = 20 with |a| = 3.
        score = u @ a[example]
        return np.clip(score, -6, 6)[:, None] * a[example] * 10 / 9

    def robust(u: np.ndarray, example: int) -> np.ndarray:
        residual = u @ a[example] - example
        return (2 * residual / (1 + residual**2) ** 2)[:, None] * a[example]

    def logistic(u: np.ndarray, example: int) -> np.ndarray:
        sign = 1 - 2 * example
        return (-sign / (1 + np.exp(sign * (u @ a[example]))))[:, None] * a[example]

    axis = a[0] / 3
    return [
        Loss("Huber", 10.0, 20.0, True, huber, axis),
        Loss("robust regression", 18.0, 3 * 3 * np.sqrt(3) / 8, False, robust, axis),
        Loss("binary logistic", 9 / 4, 3.0, True, logistic, axis),
    ]


def pairs(loss: Loss, rho: float, count: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """w, w', e, e': half of them random, half along the loss's only curved direction."""
    dim = len(loss.axis)
    w = rng.standard_normal((count, dim)) * rng.choice([1e-3, 0.1, 1.0], size=(count, 1))
    apart = rng.choice([0.0, 1e-3, 0.1, 1.0], size=(count, 1))
    other = w + apart * sphere(count, dim, rng)
    e, e2 = rho * sphere(count, dim, rng), rho * sphere(count, dim, rng)
    half = count // 2
    sign = rng.choice([-1.0, 1.0], size=(half, 1))
    along = loss.axis[None] * sign
    w[:half] = -0.5 * apart[:half] * along
    other[:half] = 0.5 * apart[:half] * along
    e[:half], e2[:half] = rho * along, -rho * along
    return w, other, e, e2


def _sides(
    loss: Loss, eta: float, rho: float, lam: float, points: tuple[np.ndarray, ...]
) -> Iterator[tuple[Statement, np.ndarray, np.ndarray]]:
    w, other, e, e2 = points
    numbers = {
        "L": loss.L,
        "B": loss.B,
        "eta": eta,
        "rho": rho,
        "lambda": lam,
        "delta": np.linalg.norm(w - other, axis=1),
    }
    for example in (0, 1):
        first = w - eta * (loss.gradient(w + e, 0) + lam * w)
        second = other - eta * (loss.gradient(other + e2, example) + lam * other)
        stepped = Pairs(np.linalg.norm(first - second, axis=1))
        equal = example == 0
        statements = [printed.LEMMA1_EQUAL if equal else printed.LEMMA1_DIFFERENT]
        statements += [corrected.LEMMA1 if equal else corrected.LEMMA1_OTHER]
        if equal and loss.convex:
            statements.append(corrected.LEMMA1_CONVEX)
        for statement in statements:
            if statement.admits(**numbers):
                yield statement, statement.left.measure(stepped), statement.value(**numbers)


def lemma_cells(count: int, seed: int, shares: Sequence[float] = (0.1, 0.5, 1.0)) -> list[Cell]:
    """One cell per loss, eta, rho, lambda and statement: its worst pair out of ``count``.

    Args:
        count: pairs of weights of each cell.
        seed: of the pairs.
        shares: eta (L + lambda). Up to 1, eta lambda is at most 2/3 here, within the condition
            eta lambda <= 1 of the corrected statements; the printed ones have none.
    """
    rng = np.random.default_rng(seed)
    found = []
    for loss in losses(rng):
        for share, rho, decay in product(shares, (0.01, 0.1), (0.0, 0.1, 2.0)):
            eta, lam = share / (loss.L * (1 + decay)), decay * loss.L
            points = pairs(loss, rho, count, rng)
            for statement, left, right in _sides(loss, eta, rho, lam, points):
                worst = int(np.argmax(left / np.maximum(right, 1e-12)))
                value = float(left[worst])
                setting = {"eta": eta, "rho": rho, "lambda": lam, "L": loss.L}
                point = Estimate(value, value, value, count)
                bound = float(np.broadcast_to(right, left.shape)[worst])
                found.append(Cell(statement.name, loss.name, setting, point, bound))
    return found
