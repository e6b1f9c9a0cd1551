"""The rules on simulated records whose truth is known: how often they err, and what they find.

    python -m tables.inference

Each scenario draws whole histories, 20 seeds a cell of which a look at n sees the first n, and puts
them through the code that judges the records. An error counts if *any* look makes it, since looks
are what the error is spent over. Runs of cell i, arm a, seed s:

    y = 100 - e[i] + [a = treatment] (Δ[i] + sqrt(κ) σ[i] √2 q[s]) + σ[i, a] noise

with errors e[i] spread evenly from 6 to 17 points, σ[i] = 0.07 sqrt(e[i]) (0.17 to 0.29 points, as
10,000 test images give), the baseline's times a ratio, noise normal of unit variance, correlation r
between the two runs of a pair, and q a normal shift that all differences of a seed share (κ: its
variance over that of a difference). Other scenarios say their own levels and spreads, among them
those of the records and of values that are no accuracies (:mod:`tables.inference.study_beyond`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tables.inference.estimate import fit
from tables.inference.looks import LOOKS
from tables.inference.rules import (
    AVERAGE,
    FAILS,
    HOLDS,
    MARGIN,
    NO_LARGER,
    Rule,
    decide,
    power,
    repeated_interval,
)

__all__ = [
    "SCENARIOS",
    "Scenario",
    "computed_power",
    "coverage",
    "ever",
    "naive",
    "paths",
    "simulate",
]

SPREAD = 0.07


@dataclass(frozen=True)
class Scenario:
    """A truth, and the verdicts that would be wrong of it.

    Attributes:
        name: in the page's words.
        effects: Δ[i] of each cell, in points.
        wrong: verdicts that are wrong.
        everywhere: whether the claim is about every cell.
        r: correlation of the runs of a pair.
        kappa: κ.
        even: the same spread in all cells.
        tails: Student's t noise with this many degrees of freedom instead of normal noise.
        ratio: of the baseline's spread to the treatment's.
        held: whether the stated error is promised here; where it is not, the page shows the price.
        rule: what is asked, where it is not of a gain in accuracy.
        weighted: c, where it is not the mean.
        least, most: error of the first and the last of several cells, in points.
        sd: a run's spread in each cell, or in the first and the last, where it does not follow
            from the error.
    """

    name: str
    effects: tuple[float, ...]
    wrong: tuple[str, ...]
    everywhere: bool = False
    r: float = 0.0
    kappa: float = 0.0
    even: bool = False
    tails: int | None = None
    ratio: float = 1.0
    held: bool = True
    rule: Rule | None = None
    weighted: tuple[float, ...] | None = None
    least: float = 6.0
    most: float = 17.0
    sd: tuple[float, ...] | None = None

    @property
    def asked(self) -> Rule:
        return self.rule or Rule(everywhere=self.everywhere)

    @property
    def weights(self) -> np.ndarray:
        if self.weighted is not None:
            return np.array(self.weighted)
        return np.full(len(self.effects), 1 / len(self.effects))

    @property
    def errors(self) -> np.ndarray:
        n = len(self.effects)
        return np.linspace(self.least, self.most, n) if n > 1 else np.array([10.0])

    @property
    def spread(self) -> np.ndarray:
        if self.sd is not None:
            cells = len(self.effects)
            each = len(self.sd) == cells
            return np.array(self.sd if each else np.linspace(self.sd[0], self.sd[-1], cells))
        flat = np.full(len(self.effects), float(np.sqrt(self.errors.mean())))
        return SPREAD * (flat if self.even else np.sqrt(self.errors))


def _cells(effects: tuple[float, ...]) -> str:
    return "1 cell" if len(effects) == 1 else f"{len(effects)} cells"


_UP = (HOLDS, AVERAGE)
_ONE, _THREE, _MANY = (0.0,), (0.0,) * 3, (0.0,) * 24
#: Of a run at 98 %, points, by the records of Table 1 that were there when the rules were changed
#: for it: SNIP, GraSP, SET, DSR, RigL, MEST(EM), MEST(EM&S).
RECORDED = (1.46, 2.77, 1.33, 1.79, 0.18, 0.41, 0.44)
SCENARIOS: tuple[Scenario, ...] = (
    *(
        Scenario(f"no effect, {_cells(cells)}: gain claimed", cells, _UP)
        for cells in (_ONE, _THREE, _MANY)
    ),
    *(
        Scenario(f"no effect, {_cells(cells)}: loss claimed", cells, (FAILS,))
        for cells in (_ONE, _THREE, _MANY)
    ),
    Scenario("every cell, none below 0: gain claimed", _MANY, _UP, everywhere=True),
    Scenario(
        "every cell, mean +0.1, none below 0: some cell said to lose",
        (0.0,) * 12 + (0.2,) * 12,
        (FAILS,),
        everywhere=True,
    ),
    Scenario("every cell +1 but one of 0: each said to gain", (1.0,) * 23 + (0.0,), (HOLDS,), True),
    *(
        Scenario(
            f"gain of {MARGIN:g}, {_cells((0,) * n)}: said to be none", (MARGIN,) * n, (NO_LARGER,)
        )
        for n in (1, 3, 24)
    ),
    Scenario("no effect, 24 cells, pairs r = 0.3", _MANY, _UP, r=0.3),
    Scenario("no effect, 1 cell, pairs r = 0.6", _ONE, _UP, r=0.6),
    Scenario("no effect, 24 cells, one spread for all", _MANY, _UP, even=True),
    *(
        Scenario(
            f"no effect, 1 cell, baseline scatters {ratio:g} times as much: {said}",
            _ONE,
            wrong,
            ratio=ratio,
        )
        for ratio in (0.6, 0.3, 0.1)
        for said, wrong in (("gain claimed", _UP), ("loss claimed", (FAILS,)))
    ),
    Scenario("no effect, 3 cells, baselines scatter 0.3 times as much", _THREE, _UP, ratio=0.3),
    *(
        Scenario(
            f"no effect, 21 cells that scatter as recorded: {said}",
            (0.0,) * 21,
            wrong,
            sd=RECORDED * 3,
        )
        for said, wrong in (("gain claimed", _UP), ("loss claimed", (FAILS,)))
    ),
    Scenario(
        "every cell, 21 as recorded, two in three +10: some cell said to lose",
        (10.0,) * 14 + (0.0,) * 7,
        (FAILS,),
        everywhere=True,
        sd=RECORDED * 3,
    ),
    Scenario(
        "every cell +10 but one of 0 that scatters twice as much: each said to gain",
        (10.0,) * 6 + (0.0,),
        (HOLDS,),
        everywhere=True,
        sd=(1.0,) * 6 + (2.0,),
    ),
    Scenario(
        "every cell, six of +1 and one of 0 that scatters twice as much: some cell said to lose",
        (1.0,) * 6 + (0.0,),
        (FAILS,),
        everywhere=True,
        sd=(1.0,) * 6 + (2.0,),
    ),
    Scenario("no effect, 3 cells, t(5) noise", _THREE, _UP, tails=5),
    *(
        Scenario(f"no effect, 24 cells, seeds shared, κ = {k:g}", _MANY, _UP, kappa=k, held=False)
        for k in (0.02, 0.05, 0.1)
    ),
    Scenario("no effect, 1 cell, pairs r = -0.3", _ONE, _UP, r=-0.3, held=False),
)


def paths(scenario: Scenario, experiments: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Treatment and baseline accuracies, shape [experiments, C, LOOKS[-1]]."""
    rng = np.random.default_rng(seed)
    shape = (experiments, len(scenario.effects), LOOKS[-1])

    def noise() -> np.ndarray:
        if scenario.tails is None:
            return rng.standard_normal(shape)
        tails = scenario.tails
        return rng.standard_t(tails, shape) / np.sqrt(tails / (tails - 2))

    own, other = noise(), noise()
    baseline = scenario.r * own + np.sqrt(1 - scenario.r**2) * other
    shift = np.sqrt(2 * scenario.kappa) * rng.standard_normal((experiments, 1, LOOKS[-1]))
    level, spread = (100.0 - scenario.errors)[:, None], scenario.spread[:, None]
    gains = np.array(scenario.effects)[:, None]
    return level + gains + spread * (own + shift), level + scenario.ratio * spread * baseline


def simulate(scenario: Scenario, experiments: int, seed: int = 0) -> list[np.ndarray]:
    """The verdicts of each look, shape [experiments] each."""
    treatment, baseline = paths(scenario, experiments, seed)
    return [
        decide(fit(treatment[..., :n], baseline[..., :n], scenario.weights), k, scenario.asked)
        for k, n in enumerate(LOOKS)
    ]


def naive(scenario: Scenario, experiments: int, seed: int = 0) -> float:
    """How often a plain 95 % t-interval of pairs lies above 0 at some look: what is avoided."""
    from scipy import stats

    treatment, baseline = paths(scenario, experiments, seed)
    seen = np.zeros(experiments, dtype=bool)
    for n in LOOKS:
        means = (treatment - baseline)[..., :n].mean(1)
        half = stats.t.ppf(0.975, n - 1) * means.std(-1, ddof=1) / np.sqrt(n)
        seen |= means.mean(-1) > half
    return float(seen.mean())


def computed_power(scenario: Scenario, look: int) -> float:
    """What ``rules.power`` says, with the true standard error of independent runs.

    Degrees of freedom as they are found on average from spreads of n runs each.
    """
    n, cells = LOOKS[look], len(scenario.effects)
    arms = np.concatenate([scenario.spread, scenario.ratio * scenario.spread]) ** 2
    true = np.tile(scenario.weights**2, 2) * arms
    se = float(np.sqrt(true.sum() / n))
    found = true * np.random.default_rng(7).chisquare(n - 1, (2000, 2 * cells)) / (n - 1)
    df = float((found.sum(-1) ** 2 / (found**2).sum(-1)).mean()) * (n - 1)
    return power(float(scenario.weights @ np.array(scenario.effects)), se, df, look, cells)


def ever(verdicts: list[np.ndarray], wrong: tuple[str, ...]) -> float:
    """How often some look gives one of these verdicts."""
    return float(np.logical_or.reduce([np.isin(v, wrong) for v in verdicts]).mean())


def coverage(experiments: int) -> float:
    """How often the repeated intervals of all looks hold the true effect, 3 cells of Δ = 0.3."""
    scenario = Scenario("", (0.3,) * 3, ())
    treatment, baseline = paths(scenario, experiments, seed=2)
    held = np.ones(experiments, dtype=bool)
    for k, n in enumerate(LOOKS):
        fitted = fit(treatment[..., :n], baseline[..., :n], scenario.weights)
        low, high = repeated_interval(fitted, k)
        held &= (low <= 0.3) & (high >= 0.3)
    return float(held.mean())
