"""Figures, one family a file, drawn from records and measures; nothing is trained or measured.

A file registers a function that maps a profile and the records to ``(name, figure)`` pairs of
matplotlib figures:

    @FIGURES.register("surfaces")
    def surfaces(profile, records): yield "surface-mest", figure
"""

from paper_repro.registry import Registry

__all__ = ["FIGURES"]

FIGURES: Registry = Registry("figure", "tables.figures", runtime=frozenset({"profile", "records"}))
