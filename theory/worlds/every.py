"""Which worlds a proof is held against."""

__all__ = ["WORLDS", "worlds_of"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

from sympy import Integer

from theory.proofs.steps import Proof
from theory.statements import UNREAD, Statement
from theory.worlds.check import World, join
from theory.worlds.clipped import clipped_worlds
from theory.worlds.extremal import extremal_worlds
from theory.worlds.facts import constant_worlds, geometry_worlds
from theory.worlds.family import family_worlds
from theory.worlds.heavy import heavy_worlds
from theory.worlds.masks import mask_worlds
from theory.worlds.pairs import excess_worlds, lemma1_worlds, stability_worlds
from theory.worlds.smoothing import smoothing_worlds
from theory.worlds.tree import descent_worlds

Settings = Iterator[dict[str, float]]
WORLDS: Mapping[str, Callable[[Sequence[Statement]], Settings]] = {
    "smooth": descent_worlds,
    "pl": descent_worlds,
    "momentum": lambda statements: descent_worlds(statements, (0.0, 0.5, 0.9)),
    "schedules": descent_worlds,
    "practical": lambda statements: descent_worlds(statements, (0.5, 0.9)),
    "lemma1": lemma1_worlds,
    "stability": stability_worlds,
    "excess": excess_worlds,
    "clipped": clipped_worlds,
    "geometry": geometry_worlds,
    "constants": constant_worlds,
    "heavy": heavy_worlds,
    "extremal": extremal_worlds,
    "masks": mask_worlds,
    "smoothing": smoothing_worlds,
    "family": family_worlds,
}


@cache
def _cached(name: str, bare: tuple[Statement, ...]) -> World:
    return join(WORLDS[name](bare))


def worlds_of(proof: Proof) -> World:
    """Worlds at the edge of what the proof's statements assume; computed once for each premise."""
    bare = (replace(s, left=UNREAD, right=Integer(0), title="", where="") for s in proof.proves)
    return _cached(proof.name, tuple(bare))
