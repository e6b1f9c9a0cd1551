"""What the smoothing law says of training: spread of u against w, and drift of the mean."""

__all__ = ["Drift", "Spread", "drifts", "spreads"]

from dataclasses import dataclass

import numpy as np

from theory.checks import Estimate, estimate
from theory.iterate import RULES, iterate
from theory.problems import Quadratic
from theory.problems.mixture import mixture


@dataclass(frozen=True)
class Drift:
    """Where a rule's mean lies on the line from argmin F (0) to SAM's penalised minimum (1).

    ``distance``: between those two, in units of the weights' spread around their mean.
    """

    rule: str
    normalize: bool
    rho: float
    mean_w: Estimate
    mean_u: Estimate
    distance: float


def drifts(runs: int, steps: int, seed: int) -> list[Drift]:
    """Six random quadratics, one example a step, eta = 0.1; the first fifth is discarded.

    The penalised minimum is that of F + rho E|grad f_i|^2 / 2 without normalisation, and of
    F + rho E|grad f_i| (first order in rho) with it.
    """
    problem, eta = mixture(3), 0.1
    found = []
    for normalize, rho in ((False, 0.1), (True, 0.3)):
        bottom = problem.minimizer()
        away = problem.penalised(rho, normalize) - bottom
        for rule in RULES:
            w_sum, u_sum, square, kept = np.zeros((runs, 3)), np.zeros((runs, 3)), 0.0, 0
            rng = np.random.default_rng(seed)
            start = np.tile(bottom, (runs, 1))
            for moment in iterate(
                problem, rule, start, steps, eta=eta, rho=rho, rng=rng, normalize=normalize
            ):
                if moment.t < steps // 5:
                    continue
                kept += 1
                w_sum += moment.w - bottom
                u_sum += moment.u - bottom
                square += float(((moment.w - bottom) ** 2).sum(axis=1).mean())
            along = [
                estimate(total / kept @ away / (away @ away), 0.99) for total in (w_sum, u_sum)
            ]
            spread = np.sqrt(square / kept)
            distance = float(np.linalg.norm(away) / spread)
            found.append(Drift(rule, normalize, rho, along[0], along[1], distance))
    return found


@dataclass(frozen=True)
class Spread:
    """E|u|^2 - E|w|^2 (about the minimiser), measured and by the law.

    ``law``: rho (rho - eta) E|g|^2 without normalisation, exact; rho^2 - rho eta E|g| with it,
    exact but for the covariance of 1/|g| with the steps of |w|^2. ``reach``: rho / (eta |g|), and
    rho / eta without normalisation: above 1 u is spread more than w.
    """

    normalize: bool
    reach: float
    measured: Estimate
    law: float


def spreads(runs: int, steps: int, seed: int) -> list[Spread]:
    """A noisy quadratic with 50 eigenvalues from 0.02 to 1, sigma = 1, eta = 0.2."""
    dim, eta = 50, 0.2
    problem = Quadratic(np.diag(np.geomspace(0.02, 1.0, dim)), np.zeros(dim), sigma=1.0)
    found = []
    for normalize, rhos in ((False, (0.05, 0.2, 0.5)), (True, (0.05, 0.2, 0.5))):
        for rho in rhos:
            gap, square, length, kept = np.zeros(runs), 0.0, 0.0, 0
            before = np.zeros((runs, dim))
            rng = np.random.default_rng(seed)
            start = np.zeros((runs, dim))
            for moment in iterate(
                problem, "s2sam", start, steps, eta=eta, rho=rho, rng=rng, normalize=normalize
            ):
                if moment.t >= steps // 4:
                    kept += 1
                    gap += (moment.u**2).sum(axis=1) - (moment.w**2).sum(axis=1)
                    square += float((before**2).sum(axis=1).mean())
                    length += float(np.linalg.norm(before, axis=1).mean())
                before = moment.g
            square, length = square / kept, length / kept
            law = rho**2 - rho * eta * length if normalize else rho * (rho - eta) * square
            reach = rho / (eta * length) if normalize else rho / eta
            found.append(Spread(normalize, reach, estimate(gap / kept, 0.99), law))
    return found
