"""Worlds: numbers for every symbol of a proof, from runs whose expectations are exact.

A certificate shows that a step follows from its premises; it can't show that a premise is true. A
world can refute it: the symbols get the values that they have in an actual run (expectations over
all noise paths, not sampled ones), and every premise and every step must hold there.
"""

__all__ = ["WORLDS", "refuted", "unseen", "worlds_of"]

from theory.worlds.check import refuted, unseen
from theory.worlds.every import WORLDS, worlds_of
