"""Everything that one run of the theory measures, collected in one place."""

__all__ = ["Options", "Results", "collect", "stages"]

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from theory import corrected, generalization, pac_bayes, printed, regime, stability, stationary
from theory.assumptions import largest_ratio
from theory.checks import Cell, Estimate, Outcome, outcome
from theory.counterexamples import (
    Counterexample,
    example_lemma1,
    example_optimization,
    search_all,
)
from theory.equivalences import (
    against_optimizer,
    change_of_variables,
    distance_on_line,
    dunkl_williams,
    gradient_error,
    masked_and_restricted,
    orbit,
)
from theory.grid import Grid, arms, cells, problems, simulate
from theory.lemma import lemma_cells
from theory.mutation import Verdict, objections, survey
from theory.problems import Logistic, Problem, Quadratic, digits, rotated
from theory.proofs import PROOFS
from theory.rates import Rate, rates
from theory.reshuffle import Reshuffled, reshuffled

Part = TypeVar("Part")


@dataclass(frozen=True)
class Options:
    """Size and randomness of a run."""

    fast: bool = False
    seeds: int | None = None
    seed: int = 0

    @property
    def grid(self) -> Grid:
        """The grid of this size."""
        base = Grid(8, 4, (10, 50), (10, 30), (1.0, 0.1), examples=150) if self.fast else Grid()
        if self.seeds is None:
            return base
        return Grid(**{**vars(base), "seeds": self.seeds, "logistic_seeds": self.seeds})


@dataclass(frozen=True)
class Results:
    """What ``collect`` found; see the modules for each part."""

    options: Options
    confidence: float
    outcomes: dict[str, Outcome]
    retried: int
    failures: dict[str, int]
    objections: dict[str, list[str]]
    properties: dict[str, dict[str, float]]
    mutation: list[Verdict]
    counterexamples: list[Counterexample]
    lemma_example: dict[str, float]
    optimization_example: dict[str, float]
    rates: list[Rate]
    equivalences: dict[str, tuple[float, int]]
    orbits: list[tuple[tuple[float, ...], float, np.ndarray, np.ndarray]]
    thresholds: list[stability.Threshold]
    amplitudes: tuple[np.ndarray, dict[str, np.ndarray]]
    linear: list[tuple[str, float, float, Estimate]]
    stationary: list[stationary.Stationary]
    regimes: list[regime.Regime]
    reshuffled: list[Reshuffled]
    gaps: list[generalization.Gap]
    coupled: list[generalization.Coupled]
    excess: list[generalization.Excess]
    pac_bayes: list[pac_bayes.Certificate]


def _checked(
    problem: Problem, density: float, grid: Grid, fast: bool, confidence: float, seed: int
) -> tuple[list[Cell], int]:
    """All cells of one problem, and how many arms an inconclusive cell made run again."""
    logistic = isinstance(problem, Logistic)
    settings = arms((1.0,) if logistic else (0.0, 0.5, 2.0), full=not (logistic or fast))
    runs = grid.logistic_seeds if logistic else grid.seeds
    horizons = grid.logistic_horizons if logistic else grid.horizons
    records = list(simulate(problem, settings, runs, horizons, np.random.default_rng([seed, 1])))
    groups = {
        arm: cells(problem, density, [r for r in records if r.arm is arm], confidence)
        for arm in settings
    }
    retried = 0
    for factor in (8,) if logistic else (16, 128):
        again = [
            arm for arm, found in groups.items() if any(c.verdict == "inconclusive" for c in found)
        ]
        if not again:
            break
        retried += len(again)
        rng = np.random.default_rng([seed, factor])
        records = list(simulate(problem, again, factor * runs, horizons, rng))
        for arm in again:
            mine = [r for r in records if r.arm is arm]
            groups[arm] = cells(problem, density, mine, confidence)
    return [cell for found in groups.values() for cell in found], retried


def _equivalences(fast: bool, seed: int) -> dict[str, tuple[float, int]]:
    """The largest deviation of each equivalence, and over how many steps or pairs."""
    rng = np.random.default_rng(seed)
    steps, pairs = (100, 2_000) if fast else (1_000, 50_000)
    dim = 10
    quadratic = Quadratic(
        rotated(np.geomspace(0.05, 1, dim), rng),
        rng.standard_normal(dim),
        sigma=0.3,
        mask=np.arange(dim) % 3 > 0,
    )
    images, labels, _, _ = digits(rng, 200)
    logistic = Logistic(images, labels)
    start = np.tile(quadratic.start(), (4, 1))
    x = rng.standard_normal((pairs, dim)) * np.exp(2 * rng.standard_normal((pairs, 1)))
    y = rng.standard_normal((pairs, dim)) * np.exp(2 * rng.standard_normal((pairs, 1)))
    # One quarter of equal norm and one of opposite direction, where the inequality is an equality.
    quarter = pairs // 4
    y[:quarter] *= (np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1))[:quarter, None]
    y[quarter : 2 * quarter] = -x[quarter : 2 * quarter] * 3
    optimizer = max(
        against_optimizer(problem, steps, 0.1, 0.05, decay, momentum, seed)
        for problem in (quadratic, logistic)
        for decay, momentum in ((0.0, 0.0), (5e-4, 0.9))
    )
    return {
        "change of variables": (
            change_of_variables(quadratic, start, steps, 0.3, 0.1, seed),
            steps,
        ),
        "masked and restricted": (masked_and_restricted(quadratic, steps, 0.3, 0.1, seed), steps),
        "paper_repro.optim.S2SAM": (optimizer, steps),
        "Dunkl-Williams": (float(dunkl_williams(x, y).max()), pairs),
        "gradient error against SAM": (
            max(
                gradient_error(logistic, steps, 1.0, 0.5, seed),
                gradient_error(quadratic, steps, 0.3, 0.1, seed),
            ),
            8 * (steps - 1),
        ),
        "distance on the line": (abs(distance_on_line(3.0, 0.1, 0.05, 0.4, 300) - 1), 300),
    }


def _properties(everything: list[tuple[Problem, float]], seed: int) -> dict[str, dict[str, float]]:
    """How close each dense problem of the grid comes to breaking what is assumed of it."""
    found: dict[str, dict[str, float]] = {}
    for problem, density in everything:
        if density < 1:
            continue
        known = problem if isinstance(problem, Logistic) else replace(problem, sigma=0.5)  # type: ignore[type-var]
        numbers = {"L": known.smoothness, "F_*": known.infimum()}
        numbers["sigma"] = float(np.sqrt(known.noise_variance(known.start()[None])[0]))
        names = ["smooth", "infimum", "unbiased", "variance"]
        mu = known.pl()
        if mu is not None:
            numbers["mu"] = mu
            names.append("pl")
        bound = known.lipschitz()
        if bound is not None:
            numbers["B"] = bound
            names.append("lipschitz")
        rng = np.random.default_rng(seed)
        found[known.name] = {name: largest_ratio(name, known, numbers, rng) for name in names}
    images, labels, _, _ = digits(np.random.default_rng(seed), 300)
    one = Logistic(images, labels, batch=1)
    numbers = {"L": one.example_smoothness, "B": float(np.sqrt(2))}
    rng = np.random.default_rng(seed)
    found["one example of logistic regression"] = {
        name: largest_ratio(name, one, numbers, rng)
        for name in ("example smooth", "lipschitz", "convex")
    }
    return found


def collect(options: Options, advance: Callable[[str], object] = lambda stage: None) -> Results:
    """Run every check; ``advance`` is called with the name of each stage before it starts."""
    fast, seed, grid = options.fast, options.seed, options.grid
    everything = problems(grid, seed)
    # Bonferroni: all intervals of the grid hold together with the grid's confidence. Each problem
    # gives fewer than 1,200 cells, repetitions included.
    confidence = 1 - (1 - grid.confidence) / (1200 * len(everything))
    found: list[Cell] = []
    retried = 0
    for problem, density in everything:
        advance(f"grid: {problem.name}, density {density:g}")
        some, again = _checked(problem, density, grid, fast, confidence, seed)
        found += some
        retried += again
    advance("Lemma 1")
    found += lemma_cells(200 if fast else 2000, seed)

    def stage(name: str, part: Callable[[], Part]) -> Part:
        advance(name)
        return part()

    ratios = np.linspace(0.1, 2.9, 57)
    spectra = (
        (1.0,),
        (1.0, 1.0),
        (1.0, 1.0, 1.0),
        (1.0, 2.0),
        (1.0, 10.0),
        (1.0, 1000.0),
        (1.0, 2.0, 5.0, 10.0),
    )
    measured = stage(
        "generalization gap",
        lambda: generalization.gaps(
            (100,) if fast else (100, 900), 4 if fast else 24, 150 if fast else 800, seed
        ),
    )
    risks = stage(
        "Theorem 1", lambda: generalization.excess(400, *((2, 60) if fast else (8, 200)), seed)
    )
    found += generalization.generalization_cells(measured, risks)
    outcomes = {s.name: outcome(s.name, found) for s in (*printed.PRINTED, *corrected.CORRECTED)}
    return Results(
        options=options,
        confidence=confidence,
        outcomes=outcomes,
        retried=retried,
        failures=stage("proofs", lambda: {p.name: len(p.failures()) for p in PROOFS}),
        objections=stage("premises", lambda: {p.name: list(objections(p)) for p in PROOFS}),
        properties=stage("assumptions", lambda: _properties(everything, seed)),
        mutation=stage("mutants", lambda: survey(fast)),
        counterexamples=stage("counterexamples", search_all),
        lemma_example=example_lemma1(),
        optimization_example=stage("the project's examples", example_optimization),
        rates=stage("rates", lambda: rates(8 if fast else 32, 512 if fast else 16384, seed)),
        equivalences=stage("equivalences", lambda: _equivalences(fast, seed)),
        orbits=stage(
            "deterministic quadratics",
            lambda: [
                (s, a, *orbit(s, a / max(s), 0.1, 1500 if fast else 8_000, 16, seed))
                for s in spectra
                for a in (0.01, 0.1)
            ],
        ),
        thresholds=stage("stability", lambda: stability.thresholds(fast)),
        amplitudes=(ratios, stage("amplitudes", lambda: stability.amplitudes(ratios, 2000))),
        linear=stage(
            "stationary variance",
            lambda: stationary.linear_check(*((32, 1000) if fast else (64, 6000)), seed),
        ),
        stationary=stage(
            "stationary distribution",
            lambda: stationary.stationary(
                (0.3, 1.0, 3.0), 0.5, *((4, 800) if fast else (16, 6000)), seed
            ),
        ),
        regimes=stage("regime", lambda: regime.regimes(fast, seed)),
        reshuffled=stage(
            "reshuffled epochs", lambda: reshuffled(*((8, 20_000) if fast else (32, 60_000)), seed)
        ),
        gaps=measured,
        coupled=stage(
            "stability of runs",
            lambda: generalization.coupled(*((100, 4, 150) if fast else (900, 24, 600)), seed),
        ),
        excess=risks,
        pac_bayes=stage(
            "PAC-Bayes",
            lambda: pac_bayes.certificates((1.0, 0.5, 0.1, 0.05), 200 if fast else 2000, seed),
        ),
    )


def stages(options: Options) -> int:
    """How often ``collect`` calls ``advance``, for a progress bar."""
    return len(problems(options.grid, options.seed)) + 20
