"""Two ways to compute the same thing, and how far apart they come out."""

__all__ = [
    "against_optimizer",
    "change_of_variables",
    "distance_on_line",
    "dunkl_williams",
    "gradient_error",
    "masked_and_restricted",
    "orbit",
]

from collections.abc import Sequence

import numpy as np
import torch

from paper_repro.optim import S2SAM
from theory.iterate import iterate, unit
from theory.problems import Problem, Quadratic


def change_of_variables(
    problem: Problem, start: np.ndarray, steps: int, eta: float, rho: float, seed: int
) -> float:
    """Largest |u_t - v_t| relative to 1 + |u_t|, with v run as corrected SGD on u alone.

    v_{t+1} = v_t - eta g_t + rho (g_t / |g_t| - g_{t-1} / |g_{t-1}|), g_t at v_t.
    """
    again = np.random.default_rng(seed)
    v, previous = start.copy(), np.zeros_like(start)
    worst = 0.0
    for moment in iterate(
        problem, "s2sam", start, steps, eta=eta, rho=rho, rng=np.random.default_rng(seed)
    ):
        scale = 1 + np.linalg.norm(moment.u, axis=1)
        worst = max(worst, float((np.linalg.norm(moment.u - v, axis=1) / scale).max()))
        g = problem.sample_gradient(v, problem.draw(len(v), again))
        direction = unit(g)
        v = v - eta * g + rho * (direction - previous)
        previous = direction
    return worst


def dunkl_williams(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x/|x| - y/|y|| over its bound 2 |x - y| / (|x| + |y|), row by row; at most 1.

    Rows with x = y, where both sides vanish, give 0.
    """
    left = np.linalg.norm(unit(x) - unit(y), axis=1)
    sizes = np.linalg.norm(x, axis=1) + np.linalg.norm(y, axis=1)
    right = 2 * np.linalg.norm(x - y, axis=1) / sizes
    return np.divide(left, right, out=np.zeros_like(left), where=right > 0)


def gradient_error(
    problem: Problem, steps: int, eta: float, rho: float, seed: int, rows: int = 4
) -> float:
    """Largest |grad F(u) - grad F(u_SAM)| over 2 L rho |g_{t-1} - g| / (|g_{t-1}| + |g|) in a run.

    u and u_SAM are the points where S2-SAM and SAM take their gradients at the same weights; g is
    the gradient that SAM perturbs with, here on a fresh draw. At most 1.
    """
    rng, side = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    start = np.tile(problem.start(), (rows, 1))
    previous, worst = None, 0.0
    for moment in iterate(problem, "s2sam", start, steps, eta=eta, rho=rho, rng=rng):
        g = problem.sample_gradient(moment.w, problem.draw(rows, side))
        if previous is not None:
            apart = problem.gradient(moment.u) - problem.gradient(moment.w + rho * unit(g))
            sizes = np.linalg.norm(previous, axis=1) + np.linalg.norm(g, axis=1)
            bound = 2 * problem.smoothness * rho * np.linalg.norm(previous - g, axis=1) / sizes
            worst = max(worst, float((np.linalg.norm(apart, axis=1) / bound).max()))
        previous = moment.g
    return worst


def masked_and_restricted(
    problem: Quadratic, steps: int, eta: float, rho: float, seed: int, rows: int = 3
) -> float:
    """Largest difference between S2-SAM on a masked problem and on its restriction."""
    start = np.tile(problem.start(), (rows, 1))
    masked = iterate(
        problem, "s2sam", start, steps, eta=eta, rho=rho, rng=np.random.default_rng(seed)
    )
    small = iterate(
        problem.restricted(),
        "s2sam",
        start[:, problem.mask],
        steps,
        eta=eta,
        rho=rho,
        rng=np.random.default_rng(seed),
    )
    worst = 0.0
    for wide, narrow in zip(masked, small, strict=True):
        worst = max(worst, float(np.abs(wide.after[:, problem.mask] - narrow.after).max()))
        worst = max(worst, float(np.abs(wide.after[:, ~problem.mask]).max(initial=0.0)))
    return worst


def distance_on_line(curvature: float, eta: float, rho: float, start: float, steps: int) -> float:
    """Final |w_t - minimiser| / rho of S2-SAM on the scalar quadratic without noise."""
    problem = Quadratic(np.array([[curvature]]), np.zeros(1))
    w = np.array([[start]])
    rng = np.random.default_rng(0)
    for moment in iterate(problem, "s2sam", w, steps, eta=eta, rho=rho, rng=rng):
        w = moment.after
    return float(abs(w[0, 0]) / rho)


def orbit(
    spectrum: Sequence[float], eta: float, rho: float, steps: int, runs: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """|w| / rho and |grad F(w)|^2 / (L rho)^2 on a deterministic quadratic, late in the run.

    Starts are random, at a distance of about rho; each value is a run's mean over the second half
    of the steps; shape (runs,).
    """
    hessian = np.diag(np.asarray(spectrum, dtype=float))
    problem = Quadratic(hessian, np.zeros(len(spectrum)))
    rng = np.random.default_rng(seed)
    start = rho * rng.standard_normal((runs, len(spectrum)))
    distance, squared, late = np.zeros(runs), np.zeros(runs), 0
    for moment in iterate(problem, "s2sam", start, steps, eta=eta, rho=rho, rng=rng):
        if moment.t >= 0.5 * steps:
            late += 1
            distance += np.linalg.norm(moment.w, axis=1) / rho
            squared += (problem.gradient(moment.w) ** 2).sum(axis=1)
    return distance / late, squared / late / (problem.smoothness * rho) ** 2


def against_optimizer(
    problem: Problem,
    steps: int,
    eta: float,
    rho: float,
    decay: float,
    momentum: float,
    seed: int,
    start: np.ndarray | None = None,
) -> float:
    """Largest difference, over all steps, between ``iterate`` and the optimizer that is trained.

    ``paper_repro.optim.S2SAM`` around ``torch.optim.SGD`` runs in float64 on two tensors that hold
    the weights' two halves, fed the same stochastic gradients' formula at its own perturbed
    weights; both w_{t+1} and u_{t+1} are compared at every step.
    """
    first = problem.start() if start is None else start
    halves = [torch.nn.Parameter(torch.tensor(part)) for part in np.array_split(first, 2)]
    base = torch.optim.SGD(halves, lr=eta, momentum=momentum, weight_decay=decay)
    optimizer = S2SAM(base, rho=rho)
    again = np.random.default_rng(seed)

    def held() -> np.ndarray:
        return np.concatenate([half.detach().numpy() for half in halves])

    worst = 0.0
    for moment in iterate(
        problem,
        "s2sam",
        first[None],
        steps,
        eta=eta,
        rho=rho,
        rng=np.random.default_rng(seed),
        decay=decay,
        momentum=momentum,
    ):
        worst = max(worst, float(np.abs(held() - moment.u[0]).max()))
        g = problem.sample_gradient(held()[None], problem.draw(1, again))[0]
        for half, part in zip(halves, np.array_split(g, 2), strict=True):
            half.grad = torch.tensor(part)
        optimizer.step()
        optimizer.eval()
        worst = max(worst, float(np.abs(held() - moment.after[0]).max()))
        optimizer.train()
    return worst
