"""The generalization gap of S2-SAM on logistic regression against the stability bounds.

The population is the 1,797 digits themselves and a training set is drawn from them with
replacement, so the population risk of any weights is computed, not estimated.
"""

__all__ = ["Coupled", "Excess", "Gap", "coupled", "excess", "gaps", "generalization_cells"]

from dataclasses import dataclass

import numpy as np

from theory import corrected, printed
from theory.checks import Cell, Estimate, estimate
from theory.iterate import iterate
from theory.problems import Logistic, Problem, digits
from theory.statements import Statement

POPULATION = 1797
_STABLE = (corrected.STABILITY, corrected.CONVEX_STABILITY)


def _bound(statement: Statement, numbers: dict[str, float]) -> float:
    """The right side, or nan where the statement does not admit the setting."""
    return float(statement.value(**numbers)) if statement.admits(**numbers) else float("nan")


def _population(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    images, labels, _, _ = digits(rng, POPULATION)
    return images, labels


def _train(
    problem: Problem, rhos: np.ndarray, eta: float, decay: float, steps: int, seed: int
) -> np.ndarray:
    """S2-SAM from 0, one row for each radius; the final weights."""
    rng = np.random.default_rng(seed)
    start = np.zeros((len(rhos), problem.dim))
    w = start
    for moment in iterate(
        problem, "s2sam", start, steps, eta=eta, rho=rhos[:, None], rng=rng, decay=decay
    ):
        w = moment.after
    return w


@dataclass(frozen=True)
class Sets:
    """What training on sets of examples gave, for a statement's left side to be read off.

    ``population`` and ``sample``: the final weights' risk and training loss; ``regularized``: the
    excess of F_pop,lambda, averaged over all iterates.
    """

    population: np.ndarray | None = None
    sample: np.ndarray | None = None
    regularized: np.ndarray | None = None


@dataclass(frozen=True)
class Gap:
    """One setting: the mean gap over training sets, and every bound on it (nan: does not apply)."""

    n: int
    rho: float
    decay: float
    decay_over_L: float
    gap: Estimate
    printed: float
    corrected: float
    convex: float
    population: float
    error: float


def gaps(sizes: tuple[int, ...], sets: int, steps: int, seed: int) -> list[Gap]:
    """Train on ``sets`` training sets of each size, at lambda = 2L and at lambda = 0.01.

    L = 1/2 and B = sqrt 2 are one example's constants for images of unit length, exact.
    """
    rng = np.random.default_rng(seed)
    images, labels = _population(rng)
    whole = Logistic(images, labels)
    L, B = 0.5, float(np.sqrt(2))
    found = []
    for n in sizes:
        rhos = np.array([0.0, 1 / np.sqrt(n), 0.5])
        for decay in (2 * L, 0.01):
            eta = 1 / (L + decay)
            measured = np.zeros((sets, len(rhos)))
            risk, error = np.zeros(len(rhos)), np.zeros(len(rhos))
            for index in range(sets):
                chosen = rng.integers(POPULATION, size=n)
                problem = Logistic(images[chosen], labels[chosen], batch=1)
                w = _train(problem, rhos, eta, decay, steps, seed + index)
                everywhere = whole.loss(w)
                both = Sets(population=everywhere, sample=problem.loss(w))
                measured[index] = corrected.STABILITY.left.measure(both)
                risk += everywhere / sets
                error += whole.error(w) / sets
            for column, rho in enumerate(rhos):
                numbers = {"L": L, "B": B, "rho": rho, "n": n, "lambda": decay, "eta": eta}
                bounds = [_bound(s, numbers) for s in _STABLE]
                found.append(
                    Gap(
                        n,
                        float(rho),
                        decay,
                        decay / L,
                        estimate(measured[:, column], 0.99),
                        (6 * (B + (n - 1) * rho) + 1) / n,
                        bounds[0],
                        bounds[1],
                        float(risk[column]),
                        float(error[column]),
                    )
                )
    return found


@dataclass(frozen=True)
class Coupled:
    """Distance of two runs whose training sets differ in one example, against its bounds."""

    n: int
    rho: float
    decay: float
    distance: Estimate
    corrected: float
    convex: float


def coupled(n: int, pairs: int, steps: int, seed: int) -> list[Coupled]:
    """The same indices on neighbouring sets; mean |w_t - w'_t| over t >= T/2 and pairs of sets."""
    rng = np.random.default_rng(seed)
    images, labels = _population(rng)
    L, B = 0.5, float(np.sqrt(2))
    rhos = np.array([0.0, 1 / np.sqrt(n), 0.5])
    start = np.zeros((len(rhos), 10 * images.shape[1]))
    found = []
    for decay in (2 * L, 0.1):
        eta = 1 / (L + decay)
        distances = np.zeros((pairs, len(rhos)))
        for index in range(pairs):
            chosen = rng.integers(POPULATION, size=n)
            swapped = chosen.copy()
            swapped[rng.integers(n)] = rng.integers(POPULATION)
            twins = [
                iterate(
                    Logistic(images[c], labels[c], batch=1),
                    "s2sam",
                    start,
                    steps,
                    eta=eta,
                    rho=rhos[:, None],
                    rng=np.random.default_rng(seed + index),
                    decay=decay,
                )
                for c in (chosen, swapped)
            ]
            for one, other in zip(*twins, strict=True):
                if one.t >= steps // 2:
                    distances[index] += np.linalg.norm(one.after - other.after, axis=1)
        distances /= steps - steps // 2
        for column, rho in enumerate(rhos):
            numbers = {"L": L, "B": B, "rho": rho, "n": n, "lambda": decay, "eta": eta}
            bounds = [_bound(statement, numbers) / B for statement in _STABLE]
            distance = estimate(distances[:, column], 0.99)
            found.append(Coupled(n, float(rho), decay, distance, bounds[0], bounds[1]))
    return found


@dataclass(frozen=True)
class Excess:
    """Theorem 1 at lambda = 2L: the excess risk in two readings, and the two right sides."""

    n: int
    T: int
    rho: float
    regularized: Estimate
    plain: Estimate
    corrected: float
    printed: float
    theorem1: float
    best_plain: float


def excess(n: int, sets: int, T: int, seed: int) -> list[Excess]:
    """Average over all iterates (R uniform), lambda = 2L = 1, eta = 1/sqrt n, three radii.

    The printed right side takes mu = lambda, a PL constant of F_lambda only, and B = sqrt 2. The
    noise of a batch of one has a second moment of at most B^2, which stands for sigma^2.
    """
    rng = np.random.default_rng(seed)
    images, labels = _population(rng)
    whole = Logistic(images, labels)
    L, B, lam = 0.5, float(np.sqrt(2)), 1.0
    best = whole.infimum(lam)
    # Any weights' risk bounds the smallest risk from above, so the plain excess is understated.
    plain_best = float(whole.loss(whole.minimizer(1e-3))[0])
    rhos = np.array([0.0, 1 / np.sqrt(n), 0.5])
    eta = min(1 / (3 * L), 1 / np.sqrt(n))
    regular, plain = np.zeros((sets, len(rhos))), np.zeros((sets, len(rhos)))
    for index in range(sets):
        chosen = rng.integers(POPULATION, size=n)
        problem = Logistic(images[chosen], labels[chosen], batch=1)
        start = np.zeros((len(rhos), problem.dim))
        runs = iterate(
            problem,
            "s2sam",
            start,
            T,
            eta=eta,
            rho=rhos[:, None],
            rng=np.random.default_rng(seed + index),
            decay=lam,
        )
        for moment in runs:
            risk = whole.loss(moment.w)
            plain[index] += risk - plain_best
            regular[index] += risk + 0.5 * lam * (moment.w**2).sum(axis=1) - best
    plain, regular = plain / T, regular / T
    start_loss = float(np.log(10))
    numbers = {
        "L": L,
        "B": B,
        "sigma": B,
        "mu": lam,
        "lambda": lam,
        "n": n,
        "T": T,
        "eta": eta,
        "F_0": start_loss,
        "F_*": 0.0,
    }

    def side(statement: Statement, rho: float) -> float:
        return float(statement.value(rho=rho, **numbers))

    return [
        Excess(
            n,
            T,
            float(rho),
            estimate(corrected.EXCESS.left.measure(Sets(regularized=regular[:, column])), 0.99),
            estimate(plain[:, column], 0.99),
            side(corrected.EXCESS, rho),
            side(printed.APPENDIX_EXCESS, rho),
            side(printed.THEOREM1, rho),
            plain_best,
        )
        for column, rho in enumerate(rhos)
    ]


def _absolute(value: Estimate) -> Estimate:
    """The estimate of |mean|: both ends of the interval count."""
    high = max(abs(value.low), abs(value.high))
    low = max(0.0, value.low, -value.high)
    return Estimate(abs(value.mean), low, high, value.n)


def generalization_cells(measured: list[Gap], risks: list[Excess]) -> list[Cell]:
    """The gaps and excess risks as cells; their intervals have 99% coverage each.

    The printed statements are compared within their assumption lambda = 2L only: Theorem 1's
    appendix form at every radius, its main text, which is about SGD, at rho = 0. F is read as
    F_lambda there, for which mu = lambda is a PL constant; the plain F has none that is known, so
    its excess decides nothing.
    """
    name = "logistic regression"
    found = []
    for gap in measured:
        setting = {"n": gap.n, "rho": gap.rho, "lambda": gap.decay}
        bounds = {"stability": gap.corrected, "stability_convex": gap.convex}
        for statement, bound in bounds.items():
            if np.isfinite(bound):
                found.append(Cell(statement, name, setting, _absolute(gap.gap), bound))
    for risk in risks:
        setting = {"n": risk.n, "rho": risk.rho, "lambda": 1.0, "T": risk.T}
        found.append(Cell("excess", name, setting, risk.regularized, risk.corrected))
        found.append(
            Cell("theorem1_appendix_printed", name, setting, risk.regularized, risk.printed)
        )
        if risk.rho == 0:
            found.append(Cell("theorem1_printed", name, setting, risk.regularized, risk.theorem1))
    return found
