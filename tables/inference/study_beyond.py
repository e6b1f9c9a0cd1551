"""The rules beyond clean accuracy on simulated records: surfaces, corruptions, tasks together.

The truths are of the sizes that these rows have: as many differences, weighted alike, on the same
scale. What a run scatters by is assumed, and said on the page; no record is behind it.

Surfaces: 100 ln Ra, of which a network has σ = 20 log points to itself. What a pair of directions
adds for all networks cancels from a difference and is not drawn. Most scenarios have one value for
each network; histories with directions (:func:`along_directions`) have 5 pairs d and

    y[d] = level + [treatment] (Δ + τ q[d]) + 20 a + 10 b[d]    log points,    q, a, b normal,

q the same for all networks. Corruptions: a network's accuracy under 19 types,

    y = level + [treatment] Δ + 0.8 a + 0.6 b[type]    points,    a, b normal,

so that its types have more in common than not, and their mean σ = 0.81.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tables.inference.estimate import fit, widened
from tables.inference.looks import LOOKS
from tables.inference.rules import (
    AVERAGE,
    FAILS,
    HOLDS,
    STATED,
    Rule,
    all_of,
    decide,
    effects_apart,
)
from tables.inference.scale import Scale
from tables.inference.study import Scenario, ever, simulate

__all__ = [
    "BEYOND",
    "CELLS",
    "POWERS",
    "ROUGH",
    "TOGETHER",
    "Together",
    "along_directions",
    "together",
    "types_apart",
]

_UP = (HOLDS, AVERAGE)
_FALL = Scale("log points", 10.0, "fall")
_ROBUST = Scale("points", 0.5)
_BLEU = Scale("BLEU", 0.2)

#: Log points, points, BLEU: a network's own.
ROUGH, _NETWORK, _TYPE, _SCORE = 20.0, 0.8, 0.6, 0.3
_TYPES, _METHODS = 19, 4
_DIRECTIONS, _ONE_DIRECTION = 5, 10.0
_AT_ONCE = 1000  # histories with directions
_MEAN_OF_TYPES = float(np.hypot(_NETWORK, _TYPE / np.sqrt(_TYPES)))
#: Of the outer and the inner two sparsities for three methods, as `_along` weights them.
_ALONG = (18 * 18 / 349 / 3, 18 * 5 / 349 / 3) * 3


_SURFACE = Scenario("", (), (), rule=Rule(scale=_FALL), sd=(ROUGH, ROUGH))
#: Differences of 5b: three methods at four sparsities.
CELLS = 12
_FLAT = replace(_SURFACE, effects=(0.0,) * CELLS, rule=Rule(everywhere=True, scale=_FALL))
_LEVEL = replace(_SURFACE, effects=(0.0,) * 6, weighted=_ALONG)
_CORRUPTED = Scenario(
    "",
    (0.0,) * _METHODS,
    (),
    rule=Rule(scale=_ROBUST),
    least=30.0,
    most=60.0,
    sd=(_MEAN_OF_TYPES, _MEAN_OF_TYPES),
)
_TRANSLATED = Scenario(
    "", (0.0,) * 3, (), rule=Rule(scale=_BLEU), least=60.0, most=70.0, sd=(_SCORE, _SCORE)
)
_STRUCTURED = Scenario("", (0.0,) * 8, ())


def _all(scenario: Scenario, effect: float) -> Scenario:
    """The same with every cell's effect."""
    return replace(scenario, effects=(effect,) * len(scenario.effects))


BEYOND: tuple[Scenario, ...] = tuple(
    replace(scenario, name=name, wrong=wrong)
    for name, wrong, scenario in (
        ("5b, no fall of Ra, 12 cells: fall claimed", _UP, _FLAT),
        ("5b, no fall: rise claimed", (FAILS,), replace(_FLAT, rule=Rule(scale=_FALL))),
        (
            "5b, every cell falls by 100 but one: each said to fall",
            (HOLDS,),
            replace(_FLAT, effects=(100.0,) * 11 + (0.0,)),
        ),
        ("5b, fall of 10: said to be none", (_FALL.none,), _all(_FLAT, 10.0)),
        ("5b, no fall, pairs r = 0.6", _UP, replace(_FLAT, r=0.6)),
        ("5b, no fall, σ from 10 to 40 over the cells", _UP, replace(_FLAT, sd=(10.0, 40.0))),
        ("5b, no fall, t(5) noise", _UP, replace(_FLAT, tails=5)),
        ("5a, no rise of Ra, 6 differences: rise claimed", _UP, _LEVEL),
        ("5a, no rise: fall claimed", (FAILS,), _LEVEL),
        ("8, no effect under corruptions, 4 cells: gain claimed", _UP, _CORRUPTED),
        ("8, no effect: loss claimed", (FAILS,), _CORRUPTED),
        ("8, gain of 0.5: said to be none", (_ROBUST.none,), _all(_CORRUPTED, 0.5)),
        ("8, no effect, pairs r = 0.6", _UP, replace(_CORRUPTED, r=0.6)),
        ("10a, no effect on translation, 3 cells: gain claimed", _UP, _TRANSLATED),
        ("10a, gain of 0.2 BLEU: said to be none", (_BLEU.none,), _all(_TRANSLATED, 0.2)),
    )
)


@dataclass(frozen=True)
class Together:
    """A claim of several parts: their truths, what would be wrong, and how often it may be said."""

    name: str
    parts: tuple[Scenario, ...]
    wrong: tuple[str, ...]
    stated: float = STATED


_NEITHER = (_TRANSLATED, _STRUCTURED)
TOGETHER = (
    Together(
        "10, translation +1 BLEU, structured no effect: both said to gain",
        (_all(_TRANSLATED, 1.0), _STRUCTURED),
        _UP,
    ),
    Together("10, neither has an effect: both said to gain", _NEITHER, _UP),
    Together("10, neither has an effect: said not to hold", _NEITHER, (FAILS,), 2 * STATED),
)


def together(claim: Together, experiments: int) -> float:
    """How often some look's verdict on the whole is wrong, its parts looked at as often."""
    parts = [simulate(s, experiments, seed=10 + i) for i, s in enumerate(claim.parts)]
    worst = np.vectorize(lambda *verdicts: all_of(verdicts), otypes=[object])
    return ever([worst(*at) for at in zip(*parts, strict=True)], claim.wrong)


def along_directions(
    experiments: int, fall: float = 0.0, tau: float = 0.0, sampled: bool = True
) -> list[np.ndarray]:
    """Each look's verdicts on 5b where every cell falls by ``fall`` and pairs of directions by
    τ more or less; without ``sampled`` as if these were all that there are."""
    found: list[list[np.ndarray]] = [[] for _ in LOOKS]
    for part, start in enumerate(range(0, experiments, _AT_ONCE)):
        rng = np.random.default_rng((30, part))
        shape = (min(_AT_ONCE, experiments - start), CELLS, LOOKS[-1])
        arms = [
            ROUGH * rng.standard_normal(shape)
            + _ONE_DIRECTION * rng.standard_normal((_DIRECTIONS, *shape))
            for _ in range(2)
        ]
        arms[0] += fall + tau * rng.standard_normal((_DIRECTIONS, shape[0], 1, 1))
        for look, n in enumerate(LOOKS):
            ours, theirs = (arm[..., :n] for arm in arms)
            fitted = fit(ours.mean(0), theirs.mean(0), _FLAT.weights)
            if sampled:
                pairs = zip(ours, theirs, strict=True)
                each = [fit(t, b, _FLAT.weights) for t, b in pairs]
                fitted = widened(fitted, each)
            found[look].append(decide(fitted, look, _FLAT.asked))
    return [np.concatenate(parts) for parts in found]


def types_apart(experiments: int, gain: float = 0.0) -> tuple[float, float]:
    """How often some look has a type of corruption above 0, and one below, all Δ being ``gain``."""
    rng = np.random.default_rng(20)
    shape = (experiments, _METHODS, LOOKS[-1])
    levels = np.linspace(40.0, 70.0, _METHODS)[:, None]
    own = [_NETWORK * rng.standard_normal(shape) for _ in range(2)]
    types = [[levels + a + _TYPE * rng.standard_normal(shape) for a in own] for _ in range(_TYPES)]
    weights = np.full(_METHODS, 1 / _METHODS)
    up, down = (np.zeros(experiments, dtype=bool) for _ in range(2))
    for look, n in enumerate(LOOKS):
        each = [fit(t[..., :n] + gain, b[..., :n], weights) for t, b in types]
        above, below = effects_apart(each, look)
        up, down = up | above.any(-1), down | below.any(-1)
    return float(up.mean()), float(down.mean())


#: Whose power is shown: claim, and the scenario.
POWERS: tuple[tuple[str, Scenario], ...] = (
    *(("5b", replace(_all(_FLAT, fall), rule=_SURFACE.rule)) for fall in (10.0, 20.0, 40.0)),
    *(
        ("5a", replace(_LEVEL, effects=(rise, rise * 5 / 18) * 3))  # as steady over 5 as over 18
        for rise in (20.0, 50.0)
    ),
    *(("8", _all(_CORRUPTED, gain)) for gain in (0.5, 1.0, 3.0)),
    *(("10a", _all(_TRANSLATED, gain)) for gain in (0.2, 0.4, 0.8)),
    *(("10b", _all(_STRUCTURED, gain)) for gain in (0.2, 0.5)),
)
