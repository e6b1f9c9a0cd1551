"""The simulation study as a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tables.inference.looks import LOOKS
from tables.inference.rules import AVERAGE, FAILS, HOLDS, NO_LARGER, STATED, UNDECIDED
from tables.inference.study import (
    SCENARIOS,
    Scenario,
    computed_power,
    coverage,
    ever,
    naive,
    simulate,
)
from tables.inference.study_beyond import (
    BEYOND,
    CELLS,
    POWERS,
    ROUGH,
    TOGETHER,
    along_directions,
    together,
    types_apart,
)

__all__ = ["page"]

_TEMPLATE = """# The verdicts' rules on simulated records

Made by `make claims-study`; {experiments:,} simulated histories a scenario, ± one standard error of
the simulation, in points. Each history is looked at with n = {looks} seeds a cell. Rules:
`tables/inference/rules.py`; truths and noise: `tables/inference/study.py`. No number here is of a
trained network.

## Errors

How often some look gives a verdict that is wrong of the truth simulated.

{errors}

Plain 95 % t-intervals of pairs, looked at as often, claim a gain of nothing with {once} (1 cell)
and {many} (24 cells, means over cells by seed); 2.5 % is what one look would. All four repeated
intervals at once hold the true effect with {coverage} (95 % promised).

Not promised: a shift that all differences of a seed share (κ of a difference's variance) is too
small at these sizes for the test of seeds to see always, and shortens the interval of a mean of
many cells; a negative correlation of pairs does so for any. Both would be ties of runs through
their seed, which a chaotic training forgets; the records' own correlation stands beside each
verdict.

## Power

Computed: of the look alone, from noncentral t with the true spread and the degrees of freedom that
spreads of so few runs give on average. Found: share of histories in which that look's verdict is
that the effect is above 0.

{powers}

## Beyond clean accuracy

The rules for surfaces (5a, 5b), corruptions (8), translation and structured sparsity (10a, 10b, and
10 for both), on truths and noise of `tables/inference/study_beyond.py`; what a run scatters by is
assumed there. Where a row is about several effects one by one, the error is that of any of them.
All networks are seen along the same few directions, which might by chance make a difference for all
of them (τ log points a pair): what the pairs differ by is added to the error of 5a and 5b.

{beyond}

Power, computed as above, of rows with as many differences as these claims have. Effects of 5a are
those from 80 to 98 %, of a steady rise. Rows without τ are along directions that are given; those
with τ as 5b is judged, where more seeds cannot make up for few directions that differ.

{beyond_powers}

## What becomes of a claim about 24 cells

All cells with the same Δ; the verdicts' shares at each look.

{fates}
"""


def page(experiments: int) -> str:
    """The study as Markdown, with n beside every number."""

    def percent(share: float) -> str:
        error = 100 * np.sqrt(share * (1 - share) / experiments)
        return f"{share:.2%} ± {error:.2f}"

    def errs(scenario: Scenario) -> tuple[str, ...]:
        wrong = percent(ever(simulate(scenario, experiments), scenario.wrong))
        promised = f"{STATED:.0%}" if scenario.held else "not promised"
        return scenario.name, ", ".join(scenario.wrong), promised, wrong

    errors = [errs(scenario) for scenario in SCENARIOS]
    powers = []
    for cells in (1, 3, 24):
        for effect in (0.1, 0.2, 0.4, 1.0):
            scenario = Scenario("", (effect,) * cells, ())
            for k, verdicts in enumerate(simulate(scenario, experiments, seed=1)):
                found = percent(float((verdicts == HOLDS).mean()))
                computed = f"{computed_power(scenario, k):.1%}"
                powers.append((cells, f"{effect:+g}", LOOKS[k], computed, found))
    beyond = [errs(scenario) for scenario in BEYOND]
    beyond += [
        (t.name, ", ".join(t.wrong), f"{t.stated:.0%}", percent(together(t, experiments)))
        for t in TOGETHER
    ]
    beyond += [row for tau in (0.0, 10.0) for row in _directions(experiments, tau, percent)]
    for said, rate in zip(("above", "below"), types_apart(experiments), strict=True):
        name = f"8, no effect, 19 types one by one: some said to be {said} 0"
        beyond.append((name, f"{said} 0", f"{STATED:.0%}", percent(rate)))
    beyond_powers = []
    for claim, scenario in POWERS:
        scale, c = scenario.asked.scale, scenario.weights
        truth = f"{float(c @ np.array(scenario.effects)):+.3g} {scale.unit}"
        spread = f"{float(np.sqrt((scenario.spread**2).mean())):.2g}"
        for k, verdicts in enumerate(simulate(scenario, experiments, seed=1)):
            found = percent(float((verdicts == HOLDS).mean()))
            computed = f"{computed_power(scenario, k):.1%}"
            beyond_powers.append((claim, len(c), spread, truth, LOOKS[k], computed, found))
    for tau in (0.0, 10.0):
        for fall in (10.0, 20.0, 40.0):
            for k, verdicts in enumerate(along_directions(experiments, fall, tau)):
                found = percent(float(np.isin(verdicts, (HOLDS, AVERAGE)).mean()))
                row = (f"5b, τ = {tau:g}", CELLS, f"{ROUGH:.2g}", f"{fall:+g} log points")
                beyond_powers.append((*row, LOOKS[k], "–", found))
    fates = []
    verdicts_shown = (HOLDS, AVERAGE, NO_LARGER, FAILS, UNDECIDED)
    for effect in (0.0, 0.1, 0.2, 0.4):
        scenario = Scenario("", (effect,) * 24, (), everywhere=True)
        for k, verdicts in enumerate(simulate(scenario, experiments, seed=3)):
            shares = (f"{(verdicts == v).mean():.1%}" for v in verdicts_shown)
            fates.append((f"{effect:+g}", LOOKS[k], *shares))
    return _TEMPLATE.format(
        experiments=experiments,
        looks=", ".join(map(str, LOOKS)),
        errors=_table(errors, ("truth", "wrong verdict", "stated, at most", "found")),
        once=percent(naive(SCENARIOS[0], experiments)),
        many=percent(naive(SCENARIOS[2], experiments)),
        coverage=percent(coverage(experiments)),
        powers=_table(powers, ("differences", "Δ", "n", "computed", "found")),
        beyond=_table(beyond, ("truth", "wrong verdict", "stated, at most", "found")),
        beyond_powers=_table(
            beyond_powers,
            ("claim", "differences", "σ of a run", "effect", "n", "computed", "found"),
        ),
        fates=_table(fates, ("Δ", "n", *verdicts_shown)),
    )


def _directions(
    experiments: int, tau: float, percent: Callable[[float], str]
) -> Iterator[tuple[str, ...]]:
    """Errors of 5b where directions differ; with τ also if that were not added to the error."""
    name = f"5b, no fall, 5 pairs of directions, τ = {tau:g}"
    # "Does not hold" is said of the mean and of any one cell, each with an error of its own.
    wrongs = (("fall claimed", (HOLDS, AVERAGE), STATED), ("rise claimed", (FAILS,), 2 * STATED))
    for sampled in (True, False) if tau else (True,):
        found = along_directions(experiments, tau=tau, sampled=sampled)
        for said, wrong, stated in wrongs:
            yield (
                f"{name}: {said}" + ("" if sampled else ", if nothing were added"),
                ", ".join(wrong),
                f"{stated:.0%}" if sampled else "not promised",
                percent(ever(found, wrong)),
            )


def _table(rows: Sequence[tuple[object, ...]], headers: tuple[str, ...]) -> str:
    from tabulate import tabulate

    text: str = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    return text
