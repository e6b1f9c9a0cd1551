"""Runs for the family of smooth bounds: beyond eta = 1/L too, and for several theta."""

__all__ = ["family_worlds"]

from collections.abc import Iterator, Sequence

import numpy as np

from theory.beyond import SMOOTH_BEST
from theory.statements import Statement
from theory.worlds.tree import descent_worlds


def family_worlds(statements: Sequence[Statement]) -> Iterator[dict[str, float]]:
    """``descent_worlds`` at each theta, with the root X and what the step and theta admit.

    ``short``: eta (L + lambda) <= 1; ``member``: theta |1 - eta (L + lambda)| below
    2 - eta (L + lambda), so that the family has a bound for this theta.
    """
    family, best = statements
    for theta, bounds in ((0.3, [family.at(theta=0.3), best]), (1.0, [family.at(theta=1.0)])):
        for world in descent_worlds(bounds, long=10):
            step = world["eta"] * (world["L"] + world["lambda"])
            known = {name: world[name] for name in SMOOTH_BEST.constants}
            with np.errstate(invalid="ignore"):  # there is no root beyond 2 / (L + lambda)
                root = float(np.sqrt(SMOOTH_BEST.value(**known)))
            yield {
                **world,
                "theta": theta,
                "X": root,
                "short": float(step <= 1),
                "member": float(theta * abs(1 - step) < 2 - step),
            }
