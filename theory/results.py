"""Everything that one run of the theory measures, collected in one place."""

__all__ = ["Options", "Results", "collect", "stages"]

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np

from theory import (
    beyond,
    clipped,
    corrected,
    generalization,
    pac_bayes,
    printed,
    regime,
    smoothing,
    stability,
    stationary,
)
from theory.checks import Cell, Estimate, Outcome, outcome
from theory.counterexamples import (
    Counterexample,
    example_lemma1,
    example_optimization,
    search_all,
)
from theory.equivalences import orbit
from theory.grid import Grid, problems
from theory.lemma import lemma_cells
from theory.mutants import Verdict, survey
from theory.objections import objections
from theory.one_example import example_theorem1
from theory.parts import checked, equivalences, properties
from theory.proofs import PROOFS
from theory.proofs.extremal import BASIN
from theory.rates import Rate, rates
from theory.reshuffle import Reshuffled, reshuffled
from theory.statements import evaluate
from theory.worlds.extremal import basin, extremal_cells, impulse
from theory.worlds.masks import mask_cells

Part = TypeVar("Part")
BEYOND_TWO = (2.2, 2.4, 2.6)
STATEMENTS = (*printed.PRINTED, *corrected.CORRECTED, *beyond.BEYOND)


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
    theorem1_example: dict[str, tuple[Fraction, ...]]
    optimization_example: dict[str, float]
    rates: list[Rate]
    equivalences: dict[str, tuple[float, int]]
    orbits: list[tuple[tuple[float, ...], float, np.ndarray, np.ndarray]]
    thresholds: list[stability.Threshold]
    heavy_thresholds: list[stability.Threshold]
    heavy_outside: int
    wander: tuple[np.ndarray, dict[str, np.ndarray]]
    impulses: list[float]
    basins: list[tuple[float, float, float]]
    drifts: list[smoothing.Drift]
    spreads: list[smoothing.Spread]
    amplitudes: tuple[np.ndarray, dict[str, np.ndarray]]
    linear: list[tuple[str, float, float, Estimate]]
    stationary: list[stationary.Stationary]
    regimes: list[regime.Regime]
    reshuffled: list[Reshuffled]
    gaps: list[generalization.Gap]
    coupled: list[generalization.Coupled]
    excess: list[generalization.Excess]
    clipped: list[clipped.ClippedGap]
    pac_bayes: list[pac_bayes.Certificate]


def collect(options: Options, advance: Callable[[str], object] = lambda stage: None) -> Results:
    """Run every check; ``advance`` is called with the name of each stage before it starts."""
    fast, seed, grid = options.fast, options.seed, options.grid
    everything = problems(grid, seed)
    # Bonferroni: all intervals of the grid hold together with the grid's confidence. Each problem
    # gives fewer than 1,600 cells, repetitions included.
    confidence = 1 - (1 - grid.confidence) / (1600 * len(everything))
    found: list[Cell] = []
    retried = 0
    for problem, density in everything:
        advance(f"grid: {problem.name}, density {density:g}")
        some, again = checked(problem, density, grid, fast, confidence, seed)
        found += some
        retried += again
    advance("Lemma 1")
    found += lemma_cells(200 if fast else 2000, seed)

    def stage(name: str, part: Callable[[], Part]) -> Part:
        advance(name)
        return part()

    ratios, far = np.linspace(0.1, 2.9, 57), np.array([0.01, 0.1, 0.5, 1.0, 2.0])
    heavy, outside = stability.root_cells(beyond.MOMENTUM_STABLE, 20_000)
    found += heavy
    found += mask_cells(beyond.DYNAMIC_MASKS) + extremal_cells(beyond.EXTREMAL)
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
    continuous = stage(
        "continuous perturbation",
        lambda: clipped.clipped_gaps(
            (100,) if fast else (100, 400, 1600), *((4, 150) if fast else (24, 600)), seed
        ),
    )
    found += clipped.clipped_cells(continuous)
    outcomes = {s.name: outcome(s.name, found) for s in STATEMENTS}
    return Results(
        options=options,
        confidence=confidence,
        outcomes=outcomes,
        retried=retried,
        failures=stage("proofs", lambda: {p.name: len(p.failures()) for p in PROOFS}),
        objections=stage("premises", lambda: {p.name: list(objections(p)) for p in PROOFS}),
        properties=stage("assumptions", lambda: properties(everything, seed)),
        mutation=stage("mutants", lambda: survey(fast)),
        counterexamples=stage("counterexamples", search_all),
        lemma_example=example_lemma1(),
        theorem1_example=example_theorem1(),
        optimization_example=stage("the project's examples", example_optimization),
        rates=stage("rates", lambda: rates(8 if fast else 32, 512 if fast else 16384, seed)),
        equivalences=stage("equivalences", lambda: equivalences(fast, seed)),
        orbits=stage(
            "deterministic quadratics",
            lambda: [
                (s, a, *orbit(s, a / max(s), 0.1, 1500 if fast else 8_000, 16, seed))
                for s in spectra
                for a in (0.01, 0.1)
            ],
        ),
        thresholds=stage("stability", lambda: stability.thresholds(fast)),
        heavy_thresholds=stage("stability with momentum", lambda: stability.heavy_thresholds(fast)),
        heavy_outside=outside,
        wander=(far, stage("wandering", lambda: stability.wander(0.9, far, 3000))),
        impulses=[impulse(ratio, 0.9) for ratio in far],
        basins=[(a, basin(a), float(evaluate(BASIN, {"a": a, "rho": 1.0}))) for a in BEYOND_TWO],
        drifts=stage(
            "drift", lambda: smoothing.drifts(*((8, 4000) if fast else (64, 20_000)), seed)
        ),
        spreads=stage(
            "spread of u", lambda: smoothing.spreads(*((4, 1000) if fast else (16, 4000)), seed)
        ),
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
        clipped=continuous,
        pac_bayes=stage(
            "PAC-Bayes",
            lambda: pac_bayes.certificates((1.0, 0.5, 0.1, 0.05), 200 if fast else 2000, seed),
        ),
    )


def stages(options: Options) -> int:
    """How often ``collect`` calls ``advance``, for a progress bar."""
    return len(problems(options.grid, options.seed)) + 25
