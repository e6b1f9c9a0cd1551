"""The default grid: which runs check which statements, and the runs themselves."""

__all__ = ["Arm", "Grid", "Record", "arms", "cells", "compare", "problems", "simulate"]

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from theory import beyond, corrected, printed
from theory.checks import Cell, Estimate, estimate
from theory.iterate import iterate
from theory.problems import Logistic, Problem, Quadratic, Robust, digits, rotated
from theory.statements import Statement

_DESCENT = (
    corrected.SMOOTH,
    corrected.WEIGHT_DECAY,
    corrected.MOMENTUM,
    beyond.MOMENTUM_PRACTICAL,
    corrected.SCHEDULED_RADIUS,
    corrected.SCHEDULED,
)
_LAST_ITERATE = (corrected.PL, corrected.PL_DECAY)
_TIGHTER = (beyond.SMOOTH_FAMILY.at(theta=0.5), beyond.SMOOTH_BEST)
_PRINTED = (printed.APPENDIX_OPTIMIZATION, printed.APPENDIX_OPTIMIZATION_OVER_T)


@dataclass(frozen=True)
class Grid:
    """The size of the grid. ``seeds`` runs with noise each; one run where there is none."""

    seeds: int = 32
    logistic_seeds: int = 12
    horizons: tuple[int, ...] = (10, 100, 500)
    logistic_horizons: tuple[int, ...] = (10, 100, 200)
    densities: tuple[float, ...] = (1.0, 0.5, 0.1)
    dim: int = 20
    examples: int = 300
    confidence: float = 0.99


@dataclass(frozen=True)
class Arm:
    """One setting of the optimizer; eta in units of the largest step that ``limits`` admits.

    ``schedule`` is "constant", "radius" (rho_t = rho / sqrt(t)) or "both" (and
    eta_t = eta / sqrt(t + 1)). ``decay`` is in units of L.
    """

    eta: float
    rho: float
    sigma: float
    decay: float = 0.0
    momentum: float = 0.0
    schedule: str = "constant"
    limits: Statement = corrected.MOMENTUM

    def step(self, smoothness: float) -> float:
        """The step size itself, by the step condition of ``limits``."""
        numbers = {"L": smoothness, "lambda": self.decay * smoothness, "beta": self.momentum}
        return self.eta * self.limits.largest_step(**numbers)


def arms(noises: Sequence[float], full: bool) -> list[Arm]:
    """Every optimizer setting of the grid; ``full`` adds the inner points."""
    etas, radii = ((0.1, 0.5, 1.0), (0.0, 0.05, 0.5)) if full else ((0.5, 1.0), (0.0, 0.5))
    ends = ((0.5, 1.0), (0.05, 0.5)) if full else ((1.0,), (0.5,))
    plain = [Arm(*point) for point in product(etas, radii, noises)]
    decayed = [
        Arm(eta, rho, sigma, decay=decay)
        for eta, rho, sigma, decay in product(*ends, noises, (0.1, 2.0))
    ]
    heavy = [
        Arm(eta, rho, sigma, decay=decay, momentum=beta)
        for eta, rho, sigma, decay, beta in product(*ends, noises, (0.0, 0.1), (0.5, 0.9))
    ]
    heavy += [
        replace(arm, limits=beyond.MOMENTUM_PRACTICAL) for arm in heavy if arm.decay or not full
    ]
    scheduled = [
        Arm(eta, rho, sigma, schedule=schedule)
        for eta, rho, sigma, schedule in product(*ends, noises, ("radius", "both"))
    ]
    shares, decays = ((0.75, 1.0), (0.0, 0.1)) if full else ((1.0,), (0.0,))
    beyond_one = [
        Arm(eta, rho, sigma, decay=decay, limits=beyond.SMOOTH_BEST)
        for eta, rho, sigma, decay in product(shares, ends[1], noises, decays)
    ]
    return plain + decayed + heavy + scheduled + beyond_one


def problems(grid: Grid, seed: int) -> list[tuple[Problem, float]]:
    """Every problem at every density, each with a random mask that no data has influenced."""
    rng = np.random.default_rng(seed)
    dim = grid.dim
    center = rng.standard_normal(dim) / np.sqrt(dim)
    definite = rotated(np.geomspace(0.02, 1.0, dim), rng)
    flat = rotated(np.r_[np.zeros(dim // 4), np.geomspace(0.1, 5.0, dim - dim // 4)], rng)
    features = rng.standard_normal((2 * dim, dim)) / np.sqrt(dim)
    targets = features @ center * 3
    images, labels, _, _ = digits(rng, grid.examples)
    found: list[tuple[Problem, float]] = []
    for density in grid.densities:
        keep = np.zeros(dim, dtype=bool)
        keep[rng.permutation(dim)[: max(1, round(density * dim))]] = True
        weights = rng.permutation(640) < round(density * 640)
        found += [
            (Quadratic(definite, center, mask=keep, name="quadratic"), density),
            (Quadratic(flat, center, mask=keep, name="flat quadratic"), density),
            (Robust(features, targets, mask=keep), density),
            (Logistic(images, labels, ridge=0.01, mask=weights), density),
        ]
    return found


@dataclass(frozen=True)
class Record:
    """What one arm's runs gave up to step ``T``; sample arrays have shape (runs,).

    ``infimum`` is that of F + decay |w|^2 / 2, or a lower bound on it.
    """

    arm: Arm
    T: int
    gradient: np.ndarray
    gradient_decayed: np.ndarray
    gradient_weighted: np.ndarray
    value: np.ndarray
    value_decayed: np.ndarray
    steepest: float
    variance: float
    infimum: float


def simulate(
    problem: Problem,
    settings: Sequence[Arm],
    seeds: int,
    horizons: Sequence[int],
    rng: np.random.Generator,
) -> Iterator[Record]:
    """Run S2-SAM under every arm at once and yield a record for each arm and horizon.

    Quadratics and robust regressions take the arm's sigma, and one run where that is 0; any other
    problem has its own noise and ``seeds`` runs.
    """
    noisy = not isinstance(problem, Quadratic | Robust)
    lowest = {
        arm.decay: problem.infimum(arm.decay * problem.smoothness)
        for arm in {arm.decay: arm for arm in settings}.values()
    }
    counts = [seeds if noisy or arm.sigma else 1 for arm in settings]
    owner = np.repeat(np.arange(len(settings)), counts)

    def column(values: Sequence[float]) -> np.ndarray:
        return np.asarray(values, dtype=float)[owner][:, None]

    if isinstance(problem, Quadratic | Robust):
        problem = replace(problem, sigma=column([arm.sigma for arm in settings]))
    eta = column([arm.step(problem.smoothness) for arm in settings])
    rho = column([arm.rho for arm in settings])
    decay = column([arm.decay * problem.smoothness for arm in settings])
    fading_eta = column([arm.schedule == "both" for arm in settings]) > 0
    fading_rho = column([arm.schedule != "constant" for arm in settings]) > 0
    start = np.tile(problem.start(), (len(owner), 1))
    totals = {name: np.zeros(len(owner)) for name in ("plain", "decayed", "weighted", "steps")}
    steepest = np.zeros(len(owner))
    variance = np.zeros(len(settings))
    runs = iterate(
        problem,
        "s2sam",
        start,
        max(horizons),
        eta=lambda t: np.where(fading_eta, eta / np.sqrt(t + 1), eta),
        rho=lambda t: np.where(fading_rho, rho / np.sqrt(max(t, 1)), rho),
        rng=rng,
        decay=decay,
        momentum=column([arm.momentum for arm in settings]),
    )
    for moment in runs:
        slope = problem.gradient(moment.w)
        squared = np.einsum("ri,ri->r", slope, slope)
        slope_decayed = slope + decay * moment.w
        step = np.where(fading_eta, eta / np.sqrt(moment.t + 1), eta)[:, 0]
        totals["plain"] += squared
        totals["decayed"] += np.einsum("ri,ri->r", slope_decayed, slope_decayed)
        totals["weighted"] += step * squared
        totals["steps"] += step
        steepest = np.maximum(steepest, np.linalg.norm(moment.g, axis=1))
        means = np.bincount(owner, problem.noise_variance(moment.u)) / np.asarray(counts)
        variance = np.maximum(variance, means)
        if moment.t + 1 not in horizons:
            continue
        done = moment.t + 1
        value = problem.loss(moment.after)
        value_decayed = value + 0.5 * decay[:, 0] * (moment.after**2).sum(axis=1)
        for index, arm in enumerate(settings):
            mine = owner == index
            yield Record(
                arm,
                done,
                totals["plain"][mine] / done,
                totals["decayed"][mine] / done,
                totals["weighted"][mine] / totals["steps"][mine],
                value[mine],
                value_decayed[mine],
                float(steepest[mine].max()),
                float(variance[index]),
                lowest[arm.decay],
            )


def _constants(problem: Problem, record: Record) -> dict[str, float]:
    """Every constant of ``theory.symbols`` that this record knows."""
    arm, L = record.arm, problem.smoothness
    start = problem.start()[None]
    lam, bound_B = arm.decay * L, problem.lipschitz()
    numbers = {
        "L": L,
        "sigma": float(np.sqrt(record.variance)),
        "rho": arm.rho,
        "c": arm.rho**2,
        "eta": arm.step(L),
        "lambda": lam,
        "beta": arm.momentum,
        "T": record.T,
        "F_0": float(problem.loss(start)[0]) + 0.5 * lam * float((start**2).sum()),
        "F_*": record.infimum,
        "B": bound_B + arm.sigma if bound_B is not None else record.steepest,
    }
    mu = problem.pl(lam)
    return numbers if mu is None else {**numbers, "mu": mu}


def compare(
    statement: Statement,
    problem: Problem,
    density: float,
    record: Record,
    confidence: float | None,
) -> Cell | None:
    """The statement's two sides in this record; None if it does not admit the setting.

    ``confidence`` None: the mean over the record's rows is the expectation itself.
    """
    numbers = _constants(problem, record)
    arm = record.arm
    if statement.schedule != arm.schedule or not statement.admits(**numbers):
        return None
    setting = {
        "density": density,
        **{name: numbers[name] for name in ("eta", "rho", "sigma", "lambda", "beta", "T")},
    }
    if statement in printed.PRINTED:  # F, not F_lambda, also where there is decay
        numbers["F_0"] = float(problem.loss(problem.start()[None])[0])
    samples = statement.left.measure(record)
    mean = float(samples.mean())
    left = Estimate(mean, mean, mean, 1) if confidence is None else estimate(samples, confidence)
    runs = (arm.step(numbers["L"]), arm.rho, arm.sigma, arm.decay, arm.momentum, arm.schedule)
    source = f"{problem.name} {density} {runs}"
    right = float(statement.value(**numbers))
    return Cell(statement.name, problem.name, setting, left, right, source)


def cells(
    problem: Problem, density: float, records: Sequence[Record], confidence: float
) -> list[Cell]:
    """Every comparison that the records allow, each once.

    A run without momentum or decay is admitted by three descent bounds, which agree there: it
    counts for the simplest alone. So ``momentum`` is judged by runs with momentum. The tighter
    bounds, ``smooth_family`` (at theta = 1/2) and ``smooth_best``, are held against the same runs
    and against runs at steps beyond 1 / (L + lambda), which the others do not admit.

    sigma^2 is exact for the problems with spherical noise. For logistic regression it is the
    largest over t of the mean conditional variance at u_t: the proofs use the noise only through
    E|g_t - grad F(u_t)|^2 at the points visited. B is global where one is proved, else the largest
    gradient met, the smallest value that any Lipschitz constant valid along the runs can have.
    """
    found = []
    for record in records:
        for family in (_DESCENT, _LAST_ITERATE):
            compared = (compare(s, problem, density, record, confidence) for s in family)
            found += [cell for cell in compared if cell is not None][:1]
        if not record.arm.momentum:
            statements = (*_TIGHTER, *_PRINTED)
            compared = (compare(s, problem, density, record, confidence) for s in statements)
            found += [cell for cell in compared if cell is not None]
    return found
