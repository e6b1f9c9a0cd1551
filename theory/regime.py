"""Which way S2-SAM perturbs: along SAM's direction, or along the noise of the last gradient?"""

__all__ = ["DIRECTIONS", "Regime", "regime", "regimes"]

from dataclasses import dataclass

import numpy as np

from theory.checks import Estimate, estimate, ratio_of_means
from theory.iterate import iterate, unit
from theory.problems import Logistic, Problem, digits

DIRECTIONS = ("s2sam", "sam", "full", "noise")
"""S2-SAM's own; SAM's on a fresh batch; the full gradient's; an independent batch's noise."""
_SYMMETRIC = ("noise", "random")  # mean-zero directions: averaging d and -d removes the slope


@dataclass(frozen=True)
class Regime:
    """One batch size and step size, averaged over the second half of S2-SAM's runs.

    ``reach``: rho / (eta |g_{t-1}|). Since u_t = w_{t-1} - (eta - rho / |g_{t-1}|) g_{t-1}, the
    perturbation undoes this share of the last step: below 1, u lies between w_{t-1} and w_t.
    ``cosine``: between S2-SAM's perturbation and SAM's at the same weights on a fresh batch.
    ``increase``: E[F(w + rho d) - F(w)] along each direction of ``DIRECTIONS``, over that along a
    uniformly random direction, ``increase_random``: a ratio of two means over the same runs, with
    the interval of such a ratio. ``noise_share``: E|g - grad F(u)|^2 / E|g|^2.
    """

    batch: int
    eta: float
    reach: Estimate
    noise_share: Estimate
    cosine: Estimate
    cosine_full: Estimate
    increase: dict[str, Estimate]
    increase_random: Estimate


def regime(
    problem: Problem, batch: int, eta: float, rho: float, runs: int, steps: int, seed: int
) -> Regime:
    """Measure one problem."""
    rng = np.random.default_rng(seed)
    start = np.tile(problem.start(), (runs, 1))
    sums = {
        name: np.zeros(runs) for name in (*DIRECTIONS, "random", "cosine", "cosine_full", "reach")
    }
    noise, total, kept = np.zeros(runs), np.zeros(runs), 0
    length = np.full(runs, np.inf)
    side = np.random.default_rng(seed + 1)
    for moment in iterate(problem, "s2sam", start, steps, eta=eta, rho=rho, rng=rng):
        before, length = length, np.linalg.norm(moment.g, axis=1)
        if moment.t < steps // 2 or moment.t % 5:
            continue
        kept += 1
        sums["reach"] += rho / (eta * before)
        w = moment.w
        here, drawn = problem.gradient(w), problem.draw(runs, side)
        directions = {
            "s2sam": (moment.u - w) / rho,
            # A fresh batch stands for step t's own: both are independent of the past.
            "sam": unit(problem.sample_gradient(w, drawn)),
            "full": unit(here),
            "noise": unit(problem.sample_gradient(w, problem.draw(runs, side)) - here),
            "random": unit(side.standard_normal(w.shape) * problem.mask),
        }
        base = problem.loss(w)
        for name, direction in directions.items():
            forward = problem.loss(w + rho * direction)
            back = problem.loss(w - rho * direction) if name in _SYMMETRIC else forward
            sums[name] += 0.5 * (forward + back) - base
        sums["cosine"] += (directions["s2sam"] * directions["sam"]).sum(axis=1)
        sums["cosine_full"] += (directions["s2sam"] * directions["full"]).sum(axis=1)
        at_u = problem.gradient(moment.u)
        noise += ((moment.g - at_u) ** 2).sum(axis=1)
        total += (moment.g**2).sum(axis=1)
    means = {name: values / kept for name, values in sums.items()}
    return Regime(
        batch,
        eta,
        estimate(means["reach"], 0.99),
        estimate(noise / total, 0.99),
        estimate(means["cosine"], 0.99),
        estimate(means["cosine_full"], 0.99),
        # The divisor is a mean over as few runs as the dividend: it is not known either.
        {name: ratio_of_means(means[name], means["random"], 0.99) for name in DIRECTIONS},
        estimate(means["random"], 0.99),
    )


def regimes(fast: bool, seed: int) -> list[Regime]:
    """Logistic regression on 400 digits, rho = 0.5, eta L in {1, 0.1}, batches of 1, 16 and 128."""
    images, labels, _, _ = digits(np.random.default_rng(seed), 400)
    runs, steps = (4, 60) if fast else (6, 240)
    found = []
    for ratio in (1.0, 0.1):
        for batch in (1, 16, 128):
            problem = Logistic(images, labels, ridge=0.001, batch=batch)
            eta = ratio / problem.smoothness
            found.append(regime(problem, batch, eta, 0.5, runs, steps, seed))
    return found
