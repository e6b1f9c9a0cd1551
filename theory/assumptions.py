"""What the statements assume of a problem, tested on it: each property as a ratio of at most 1.

A ratio above 1 is a counterexample to the property with these constants; at most 1 means that none
was found among the points tried, which is evidence and not a proof (``theory.proofs.constants``
proves the smoothness and Lipschitz constants of the test problems).
"""

__all__ = ["PROPERTIES", "largest_ratio"]

from collections.abc import Callable, Mapping

import numpy as np

from theory.problems import Problem

_POINTS = 200
_DRAWS = 4000
_ERRORS = 6.0  # standard errors that a mean may be off


def _points(problem: Problem, rng: np.random.Generator) -> np.ndarray:
    """Points around the start, far from it and along descent from it; (3 points, dim)."""
    scales = rng.choice([1e-2, 0.3, 3.0], size=(_POINTS, 1))
    spread = rng.standard_normal((_POINTS, problem.dim)) * scales * problem.mask
    path = [problem.start()[None]]
    for _ in range(_POINTS - 1):
        path.append(path[-1] - problem.gradient(path[-1]) / problem.smoothness)
    return np.concatenate([problem.start() + spread, spread, np.concatenate(path)])


def _norms(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1)


def _pairs(problem: Problem, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random pairs, and pairs along the direction that the Hessian stretches most."""
    x = _points(problem, rng)
    along = rng.standard_normal(x.shape) * problem.mask
    for _ in range(20):
        along = problem.gradient(x + 1e-3 * along) - problem.gradient(x)
        along /= np.maximum(_norms(along)[:, None], 1e-300)
    y = np.concatenate([rng.permutation(x), x + 1e-3 * along])
    return np.concatenate([x, x]), y


def _stretch(slope: np.ndarray, apart: np.ndarray, constant: float) -> float:
    length = _norms(apart)
    kept = length > 1e-9  # below, rounding of the gradients is all there is
    return float((_norms(slope)[kept] / (constant * length[kept])).max())


def _smooth(problem: Problem, numbers: Mapping[str, float], rng: np.random.Generator) -> float:
    x, y = _pairs(problem, rng)
    return _stretch(problem.gradient(x) - problem.gradient(y), x - y, numbers["L"])


def _example_pairs(
    problem: Problem, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = _pairs(problem, rng)
    drawn = problem.draw(len(x), rng)
    slope = problem.sample_gradient(x, drawn) - problem.sample_gradient(y, drawn)
    return x, slope, x - y


def _example_smooth(
    problem: Problem, numbers: Mapping[str, float], rng: np.random.Generator
) -> float:
    _, slope, apart = _example_pairs(problem, rng)
    return _stretch(slope, apart, numbers["L"])


def _convex(problem: Problem, numbers: Mapping[str, float], rng: np.random.Generator) -> float:
    _, slope, apart = _example_pairs(problem, rng)
    inner = (slope * apart).sum(axis=1)
    return float(1 - (inner / np.maximum(numbers["L"] * (apart**2).sum(axis=1), 1e-300)).min())


def _lipschitz(problem: Problem, numbers: Mapping[str, float], rng: np.random.Generator) -> float:
    x = _points(problem, rng)
    return float(_norms(problem.sample_gradient(x, problem.draw(len(x), rng))).max() / numbers["B"])


def _above(problem: Problem, w: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
    value = problem.loss(w) + 0.5 * numbers.get("lambda", 0.0) * (w**2).sum(axis=1)
    return value - numbers["F_*"]


def _infimum(problem: Problem, numbers: Mapping[str, float], rng: np.random.Generator) -> float:
    above = _above(problem, _points(problem, rng), numbers)
    return float(1 - above.min() / max(float(np.abs(above).max()), 1e-300) + 1e-15)


def _pl(problem: Problem, numbers: Mapping[str, float], rng: np.random.Generator) -> float:
    w = _points(problem, rng)
    above = _above(problem, w, numbers)
    w, above = w[above > 1e-6 * above.max()], above[above > 1e-6 * above.max()]
    # Nearer to the minimum, a lower bound on F_* and rounding say nothing.
    slope = problem.gradient(w) + numbers.get("lambda", 0.0) * w
    return float((2 * numbers["mu"] * above / (slope**2).sum(axis=1)).max())


def _noise(problem: Problem, rng: np.random.Generator) -> np.ndarray:
    w = np.tile(problem.start(), (_DRAWS, 1))
    return problem.sample_gradient(w, problem.draw(_DRAWS, rng)) - problem.gradient(w[:1])


def _unbiased(problem: Problem, numbers: Mapping[str, float], rng: np.random.Generator) -> float:
    noise = _noise(problem, rng)
    size = np.sqrt((noise**2).sum(axis=1).mean())
    if size == 0:
        return 0.0
    return float(np.linalg.norm(noise.mean(axis=0)) / (_ERRORS * size / np.sqrt(_DRAWS)))


def _variance(problem: Problem, numbers: Mapping[str, float], rng: np.random.Generator) -> float:
    squared = (_noise(problem, rng) ** 2).sum(axis=1)
    low = squared.mean() - _ERRORS * squared.std() / np.sqrt(_DRAWS)
    return float(low / max(numbers["sigma"] ** 2, 1e-300))


PROPERTIES: dict[str, Callable[[Problem, Mapping[str, float], np.random.Generator], float]] = {
    "smooth": _smooth,
    "infimum": _infimum,
    "pl": _pl,
    "unbiased": _unbiased,
    "variance": _variance,
    "lipschitz": _lipschitz,
    "example smooth": _example_smooth,
    "convex": _convex,
}
"""What each property needs of ``numbers``: L; F_*; mu and F_*; nothing; sigma; B; L; L."""


def largest_ratio(
    name: str, problem: Problem, numbers: Mapping[str, float], rng: np.random.Generator
) -> float:
    """How close the problem comes to breaking the property; above 1 it is broken.

    Args:
        name: one of ``PROPERTIES``.
        numbers: the constants that are claimed, by the names of ``theory.symbols``.

    Raises:
        ValueError: there is no such property, or a constant that it needs is missing.
    """
    if name not in PROPERTIES:
        raise ValueError(f"unknown property {name!r}; known: {', '.join(PROPERTIES)}")
    try:
        return PROPERTIES[name](problem, numbers, rng)
    except KeyError as missing:
        raise ValueError(f"the property {name!r} needs a value for {missing}") from None
