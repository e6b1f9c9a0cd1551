"""Worlds of whole runs without normalisation, seen along random directions."""

__all__ = ["smoothing_worlds"]

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from theory.iterate import iterate
from theory.problems import Logistic, Problem, Robust, digits
from theory.problems.mixture import mixture
from theory.statements import Statement


def smoothing_worlds(statements: Sequence[Statement]) -> Iterator[dict[str, float]]:
    """Convex and non-convex losses with real minibatches; no stationarity is needed."""
    rng = np.random.default_rng(0)
    images, labels, _, _ = digits(rng, 60)
    problems: list[Problem] = [
        mixture(0),
        Robust(rng.standard_normal((20, 4)), rng.standard_normal(20), sigma=0.5),
        Logistic(images, labels, batch=4),
    ]
    for problem, eta, rho in product(problems, (0.05, 0.3), (0.02, 0.2, 0.5)):
        yield from _run(problem, eta / problem.smoothness, rho / problem.smoothness, rng)


def _run(
    problem: Problem, eta: float, rho: float, rng: np.random.Generator
) -> Iterator[dict[str, float]]:
    x = rng.standard_normal(problem.dim) * problem.mask
    start = problem.start()[None] + 0.3 * rng.standard_normal((1, problem.dim)) * problem.mask
    sums = np.zeros(3)
    plain = np.zeros(3)
    first, before = float((start @ x)[0]), None
    for moment in iterate(problem, "s2sam", start, 40, eta=eta, rho=rho, rng=rng, normalize=False):
        w, u, g = (float((v @ x)[0]) for v in (moment.w, moment.u, moment.g))
        if before is not None:
            w_before, g_before, T = before
            if T:
                yield {
                    "eta": eta,
                    "rho": rho,
                    "T": float(T),
                    r"\omega_t": w,
                    r"\gamma_{t-1}": g_before,
                    "beta": 0.9,
                    r"\mu_{t-1}": w_before,  # an identity on any path: any buffer will do
                    **dict(zip(("S_u", "S_w", "S_g"), sums, strict=True)),
                    "W_0": first**2,
                    "W_T": w_before**2,
                    "W_{T+1}": w**2,
                    "u_{T+1}": u**2,
                    "w_{T+1}": w**2,
                    "g_T": g_before**2,
                    **dict(zip(("M_u", "M_w", "M_g"), plain / T, strict=True)),
                    "x_0": first,
                    "x_T": w_before,
                    "h": 1.0 + rho,
                    "b": g,
                    "x": w,
                }
            sums = sums + np.array([u**2, w**2, g_before**2])
            plain = plain + np.array([u, w, g_before])
            before = (w, g, T + 1)
        else:
            before = (w, g, 0)
