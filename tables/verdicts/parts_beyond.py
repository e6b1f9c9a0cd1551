"""The claims beyond clean accuracy on CIFAR: surfaces, corruptions, translation, structure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from paper_repro.data.corrupted import TYPES
from paper_repro.experiment.measures import Measured
from paper_repro.experiment.profiles import Profile
from tables.base import Cell, Delta, Measurement
from tables.inference.reading import Term
from tables.inference.rules import Rule
from tables.inference.scale import Scale
from tables.surfaces import LABELS, SPARSITIES, size_of, trained
from tables.table5 import of_type
from tables.verdicts.part import Part, Read, column, optimizers, reread, table_of

__all__ = ["CORRUPTION", "SURFACES", "TASKS", "TRANSLATION_CONTROL", "depth", "height"]

# -- Figures 1 and 3 -----------------------------------------------------------------------------
#
# Ra is positive, spans orders of magnitude between sparsities and scatters in proportion to itself,
# so its logarithm is judged: ratios, which do not depend on cross-entropy's scale. A network's
# value is the mean over its pairs of directions of 100 ln Ra (log points: for small changes, per
# cent). The unit of replication is the network of a seed: all networks share the directions, so
# that what these have in common cancels from every difference, and more directions of one network
# say nothing of the next one. Other directions might say something else of all of them; how much
# those at hand differ in that is part of the error.

#: A tenth, for want of a published number: a smaller change could not be seen in a picture.
_FALL = Scale("log points", 10.0, "fall")
_RISE = replace(_FALL, sought="rise")


def height(measured: Measured, pair: int | None = None) -> float | None:
    """100 ln Ra of a network, the mean over its pairs of directions or of one of them.

    None if a surface has heights that are not finite, or is flat.
    """
    each = measured.values["ra_each"]
    if any(ra is None or ra <= 0 for ra in each):
        return None
    chosen = each if pair is None else [each[pair]]
    return 100.0 * math.fsum(map(math.log, chosen)) / len(chosen)


def depth(measured: Measured, pair: int | None = None) -> float | None:
    """The same upside down: how far it is below is how much flatter it is."""
    found = height(measured, pair)
    return None if found is None else -found


def _surface(profile: Profile, cell: Cell, read: Read) -> Cell:
    return replace(cell, measurement=Measurement(size_of(profile).spec("surface"), read))


def _flatter(profile: Profile) -> Mapping[str, Delta]:
    """SGD against S2-SAM with the same directions, for each method and sparsity."""
    found = {}
    for label in LABELS:
        for sparsity in SPARSITIES:
            sgd, s2sam = (_surface(profile, c, depth) for c in trained(profile, label, sparsity))
            found[f"{label}, {sparsity:.0%}"] = Delta(s2sam, sgd)
    return found


def _rougher(profile: Profile) -> Mapping[str, Delta]:
    """With SGD, the higher of two sparsities against the lower: the outer two, the inner two.

    No run is in two differences, so that these are independent.
    """
    found = {}
    for label in LABELS:
        for low, high in zip(SPARSITIES, reversed(SPARSITIES), strict=True):
            if low < high:
                ends = (trained(profile, label, sparsity)[0] for sparsity in (high, low))
                above, below = (_surface(profile, cell, height) for cell in ends)
                found[f"{label}, {low:.0%} to {high:.0%}"] = Delta(above, below)
    return found


def _along(deltas: Mapping[str, Delta]) -> Mapping[str, Term]:
    """The rise along the longest way, by the least-squares slope through the origin."""
    ways = {name: _way(name) for name in deltas}
    scale = max(ways.values()) / sum(way * way for way in ways.values())
    return {name: Term(delta, scale * ways[name]) for name, delta in deltas.items()}


def _way(name: str) -> float:
    """Percentage points between the sparsities in a name."""
    low, high = (float(w.rstrip("%")) for w in name.split(", ")[-1].split(" to "))
    return high - low


def _pairs(
    read: Callable[[Measured, int], float | None],
) -> Callable[[Profile], Mapping[str, Read]]:
    """The same of each pair of directions."""

    def of(pair: int) -> Read:
        return lambda measured: read(measured, pair)

    def each(profile: Profile) -> Mapping[str, Read]:
        pairs = size_of(profile).spec("surface")["directions"]
        assert isinstance(pairs, int)
        return {f"pair {i + 1}": of(i) for i in range(pairs)}

    return each


SURFACES = (
    Part(
        "5a",
        "Ra rises with sparsity, 80 to 98 %, with SGD (Figures 1, 3)",
        "surfaces",
        _rougher,
        build=_along,
        rule=Rule(scale=_RISE),
        what="rise of 100 ln Ra from 80 to 98 %",
        control=None,
        aspects=_pairs(height),
        sampled=True,
    ),
    Part(
        "5b",
        "S2-SAM lowers Ra (Figures 1, 3)",
        "surfaces",
        _flatter,
        rule=Rule(everywhere=True, scale=_FALL),
        what="mean of 100 ln (Ra with SGD / Ra with S2-SAM), along the same directions",
        aspects=_pairs(depth),
        sampled=True,
    ),
)

# -- Table 5 -------------------------------------------------------------------------------------

#: Less than a sixth of the published mean gain of 3.23 points.
_ROBUST = Scale("points", 0.5)


_corrupted = column("table5", "all 19")


def _more_than_clean(profile: Profile) -> Mapping[str, Delta]:
    return {name: reread(d, _beyond_clean) for name, d in _corrupted(profile).items()}


def _beyond_clean(measured: Measured) -> float | None:
    under, clean = measured.number("mean"), measured.number("clean")
    return None if under is None or clean is None else under - clean


CORRUPTION = (
    Part(
        "8",
        "S2-SAM improves robustness to corruptions (Table 5)",
        "table5",
        _corrupted,
        rule=Rule(scale=_ROBUST),
        what="mean Δ of the accuracy over 19 corruptions at 5 severities",
        aspects=lambda profile: {name.replace("_", " "): of_type(name) for name in TYPES},
    ),
    Part(
        "R",
        "S2-SAM gains more under corruptions than on the same images without (Table 5)",
        "table5",
        _more_than_clean,
        rule=Rule(scale=_ROBUST),
        what="mean Δ under corruptions minus Δ on clean images",
    ),
)

# -- translation and structured sparsity ---------------------------------------------------------

#: The smallest of the three published gains is 0.3.
_BLEU = Scale("BLEU", 0.2)

TRANSLATION_CONTROL = Part(
    "Ct",
    "positive control for translation: SAM around Adam improves on Adam (dense)",
    "rebuttal-translation",
    optimizers("rebuttal-translation", "SAM", "Adam"),
    rule=Rule(scale=_BLEU),
    what="SAM minus Adam",
    control=None,
)


def _structured(profile: Profile) -> Mapping[str, Delta]:
    """CHEX and Chase on both networks; the dense networks beside them are no structured ones."""
    return {
        f"{row.labels[0]}, {row.labels[1]}": entry
        for row in table_of("table3", profile).rows
        for entry in row.entries
        if isinstance(entry, Delta) and entry.treatment.runs and row.labels[1] != "dense"
    }


TASKS = (
    Part(
        "10a",
        "S2-SAM around Adam improves translation: dense and MEST(EM) at 80 and 90 % (R5)",
        "rebuttal-translation",
        optimizers("rebuttal-translation", "S2-SAM", "Adam"),
        rule=Rule(scale=_BLEU),
        control=TRANSLATION_CONTROL.label,
    ),
    Part(
        "10b",
        "S2-SAM improves structured sparse training: CHEX and Chase (Table 3)",
        "table3",
        _structured,
    ),
)
