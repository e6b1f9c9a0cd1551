"""The iterations that the theory is about, in plain numpy float64, vectorised over runs."""

__all__ = ["RULES", "Moment", "iterate", "unit"]

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from theory.problems import Problem

RULES = ("sgd", "sam", "s2sam")
Scalar = float | np.ndarray


@dataclass(frozen=True)
class Moment:
    """Step ``t``: weights w_t, the point u_t of the gradient, the stochastic gradient g_t, w_{t+1}.

    Every array has shape (rows, dim).
    """

    t: int
    w: np.ndarray
    u: np.ndarray
    g: np.ndarray
    after: np.ndarray


def unit(vectors: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Rows divided by their norms, or by ``floor`` where those are below it; a zero row stays 0."""
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), floor)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


def _at(schedule: Scalar | Callable[[int], Scalar], t: int) -> Scalar:
    return schedule(t) if callable(schedule) else schedule


def iterate(
    problem: Problem,
    rule: str,
    start: np.ndarray,
    steps: int,
    *,
    eta: Scalar | Callable[[int], Scalar],
    rho: Scalar | Callable[[int], Scalar],
    rng: np.random.Generator,
    decay: Scalar = 0.0,
    momentum: Scalar = 0.0,
    normalize: bool = True,
    floor: float = 0.0,
    previous: np.ndarray | None = None,
) -> Iterator[Moment]:
    """Run ``steps`` steps and yield each.

    u_t = w_t + rho_t e_t with e_t = 0 (sgd), g_{t-1} / |g_{t-1}| (s2sam, the paper's Eq. 3; 0 at
    t = 0), or the normalised gradient at w_t on the same sample (sam, Eq. 2).
    m_{t+1} = momentum m_t + g_t + decay w_t and w_{t+1} = w_t - eta_t m_{t+1}, which is
    ``torch.optim.SGD``.

    Args:
        start: w_0; shape (rows, dim).
        eta: step size; a number, an array of shape (rows, 1), or a function of t.
        rho: radius, likewise. With ``normalize=False`` the perturbation is rho g instead.
        floor: gamma, the perturbation is rho g / max(|g|, gamma); 0 is the paper's.
        previous: the gradient of the step before, for a run that goes on; none by default.

    Raises:
        ValueError: unknown rule, or weights outside the problem's mask.
    """
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; known: {', '.join(RULES)}")
    if np.any(start[:, ~problem.mask]):
        raise ValueError("the start has weights outside the mask")

    def shape(g: np.ndarray) -> np.ndarray:
        return unit(g, floor) if normalize else g

    w = np.array(start, dtype=float)
    direction = np.zeros_like(w) if previous is None else shape(previous)
    buffer = np.zeros_like(w)
    for t in range(steps):
        drawn = problem.draw(len(w), rng)
        if rule == "sam":
            direction = shape(problem.sample_gradient(w, drawn))
        u = w if rule == "sgd" else w + _at(rho, t) * direction
        g = problem.sample_gradient(u, drawn)
        buffer = momentum * buffer + g + decay * w
        after = w - _at(eta, t) * buffer
        yield Moment(t, w, u, g, after)
        w = after
        if rule == "s2sam":
            direction = shape(g)
