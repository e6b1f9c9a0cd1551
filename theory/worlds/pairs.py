"""Worlds of two coupled runs: one step from two points, and neighbouring training sets."""

__all__ = ["excess_worlds", "lemma1_worlds", "stability_worlds"]

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from scipy.optimize import minimize_scalar

from theory.lemma import Loss, losses, pairs
from theory.statements import Statement


def _edge(statement: Statement, **numbers: float) -> float:
    """The largest step that the statement admits, at most 1.5 / L where nothing else bounds it."""
    return min(statement.largest_step(**numbers), 1.5 / numbers["L"])


def lemma1_worlds(statements: Sequence[Statement]) -> Iterator[dict[str, float]]:
    """One step from many pairs of points, equal and different samples, at each statement's edge."""
    rng = np.random.default_rng(0)
    for loss, statement, decay, rho, share in product(
        losses(rng), statements, (0.0, 0.3, 2.0), (0.01, 0.3), (1.0, 0.4)
    ):
        numbers = {"L": loss.L, "B": loss.B, "lambda": decay * loss.L, "rho": rho}
        eta = share * _edge(statement, **numbers)
        convex = loss.convex and _convex_admits(statements, eta, numbers)
        for example in (0, 1):
            yield from _one_step(loss, example, eta, numbers, rng, convex)


def _convex_admits(statements: Sequence[Statement], eta: float, numbers: dict[str, float]) -> bool:
    sharper = [s for s in statements if "convex" in s.properties]
    return any(s.admits(**numbers, eta=eta, delta=1.0) for s in sharper)


def _one_step(
    loss: Loss,
    example: int,
    eta: float,
    numbers: dict[str, float],
    rng: np.random.Generator,
    convex: bool,
) -> Iterator[dict[str, float]]:
    w, other, e, e2 = pairs(loss, numbers["rho"], 40, rng)
    g, g2 = loss.gradient(w + e, 0), loss.gradient(other + e2, example)
    still, still2 = loss.gradient(w, 0), loss.gradient(other, example)
    lam = numbers["lambda"]
    after = (1 - eta * lam) * (w - other) - eta * (g - g2)
    d, h = w - other, still - still2
    columns = {
        "delta": np.linalg.norm(d, axis=1),
        r"\delta_{t+1}": np.linalg.norm(after, axis=1),
        "q": np.linalg.norm(g - g2, axis=1),
        "e": np.linalg.norm(w + e - other - e2, axis=1),
        "r": eta * (np.linalg.norm(g - still, axis=1) + np.linalg.norm(g2 - still2, axis=1)),
        r"\|d\|^2": (d**2).sum(axis=1),
        r"\|h\|^2": (h**2).sum(axis=1),
        r"\langle d,h\rangle": (d * h).sum(axis=1),
    }
    for row in range(len(w)):
        world = {name: float(values[row]) for name, values in columns.items()}
        flags = {"equal": float(example == 0), "convex": float(convex)}
        yield {**numbers, **world, **flags, "eta": eta}


@dataclass(frozen=True)
class Line:
    """A scalar loss of an example z: gradient and value at w, its constants, convexity."""

    gradient: Callable[[np.ndarray, np.ndarray], np.ndarray]
    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    L: float
    B: float
    convex: bool


_LINES = (
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


def _orders(n: int, steps: int, shuffled: bool) -> np.ndarray:
    """Every sequence of examples, each equally likely; shape (sequences, steps)."""
    if not shuffled:
        return np.array(list(product(range(n), repeat=steps)))
    epochs = product(permutations(range(n)), repeat=-(-steps // n))
    return np.array([sum(epoch, ()) for epoch in epochs])[:, :steps]


def _trajectory(
    line: Line, examples: np.ndarray, eta: float, rho: float, lam: float
) -> list[np.ndarray]:
    """w_0 = 0, ..., w_steps for every row of examples."""
    w, sign = np.zeros(len(examples)), np.zeros(len(examples))
    path = [w]
    for t in range(examples.shape[1]):
        g = line.gradient(w + rho * sign, examples[:, t])
        w, sign = w - eta * (g + lam * w), np.sign(g)
        path.append(w)
    return path


def stability_worlds(statements: Sequence[Statement]) -> Iterator[dict[str, float]]:
    """Neighbouring sets of two and three examples, both ways to sample, expectations exact."""
    for line, statement, n, shuffled, decay, rho, share in product(
        _LINES, statements, (2, 3), (False, True), (0.2, 1.05, 2.0), (0.0, 0.3), (1.0, 0.4)
    ):
        numbers = {"L": line.L, "B": line.B, "lambda": decay * line.L, "rho": rho, "n": float(n)}
        eta = share * _edge(statement, **numbers)
        flags = {}
        for name, convex in (("contracting", False), ("convex", True)):
            fitting = [s for s in statements if ("convex" in s.properties) == convex]
            admitted = any(s.admits(**numbers, eta=eta) for s in fitting)
            flags[name] = float(admitted and (line.convex or not convex))
        if not any(flags.values()):
            continue
        first = np.array([-2.0, 2.0, 1.0])[:n]
        second = first.copy()
        second[0] = 2.0
        order = _orders(n, 4, shuffled)
        ours = _trajectory(line, first[order], eta, rho, numbers["lambda"])
        theirs = _trajectory(line, second[order], eta, rho, numbers["lambda"])
        for t in range(4):
            apart, then = np.abs(ours[t] - theirs[t]), np.abs(ours[t + 1] - theirs[t + 1])
            differ = np.array(
                [
                    abs(
                        (
                            line.value(ours[t], np.array(z)) - line.value(theirs[t], np.array(z))
                        ).mean()
                    )
                    for z in (-2.0, 2.0)
                ]
            )
            yield {
                **numbers,
                **flags,
                "eta": eta,
                "delta": float(apart.mean()),
                r"\delta_{t+1}": float(then.mean()),
                "p": float((apart * (order[:, t] == 0)).mean()),
                "K": float(differ.max()),
            }


def _minimum(line: Line, examples: np.ndarray, lam: float) -> float:
    def value(w: float) -> float:
        return float(line.value(np.full(len(examples), w), examples).mean() + lam * w * w / 2)

    return float(minimize_scalar(value, bounds=(-5, 5), method="bounded").fun)


def excess_worlds(statements: Sequence[Statement]) -> Iterator[dict[str, float]]:
    """Training sets of two examples from a population of two, all four of them, lambda = 2L."""
    (statement,) = statements
    population, T, n = np.array([-2.0, 1.0]), 4, 2
    for line, rho, share in product(_LINES, (0.0, 0.3, 1.0), (1.0, 0.3)):
        lam = 2 * line.L
        numbers = {
            "L": line.L,
            "B": line.B,
            "lambda": lam,
            "rho": rho,
            "n": float(n),
            "T": T,
            "beta": 0.0,
        }
        eta = share * statement.largest_step(**numbers)
        slope, inside, outside, best, start, variance = [], [], [], [], [], []
        for chosen in product(population, repeat=n):
            examples = np.array(chosen)
            path = _trajectory(line, examples[_orders(n, T, False)], eta, rho, lam)[:T]
            w = np.concatenate(path)[:, None]
            ridge = lam * w[:, 0] ** 2 / 2
            g = line.gradient(w, examples)
            slope.append((g.mean(axis=1) + lam * w[:, 0]) ** 2)
            inside.append(line.value(w, examples).mean(axis=1) + ridge)
            outside.append(line.value(w, population).mean(axis=1) + ridge)
            # The gradient is taken at u, at most rho away: the largest variance within reach.
            far = [line.gradient(w + e, examples).var(axis=1).max() for e in (-rho, 0.0, rho)]
            variance.append(max(far))
            best.append(_minimum(line, examples, lam))
            start.append(line.value(np.zeros(n), examples).mean())
        yield {
            **numbers,
            "eta": eta,
            "sigma": float(np.sqrt(max(variance))),
            "F_0": float(np.mean(start)),
            "F_*": float(np.mean(best)),
            "S": float(np.mean(slope)),
            "EF": float(np.mean(inside)),
            "EF_pop": float(np.mean(outside)),
            r"\min F_{\rm pop}": _minimum(line, population, lam),
            **_curvature(line, lam),
        }


def _curvature(line: Line, lam: float) -> dict[str, float]:
    """Two points between which the loss is most concave (or flattest)."""
    w = np.linspace(-4, 4, 81)
    slopes = line.gradient(w, np.full(81, 1.0))
    at = int(np.argmin(np.diff(slopes)))
    x, p = w[at + 1] - w[at], slopes[at + 1] - slopes[at]
    return {r"\|x\|^2": x * x, r"\langle p,x\rangle": p * x, r"\|p\|^2": p * p}
