"""Mean and spread of a measurement's repeats, of which some may not be finite."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["deviation", "mean"]


def mean(values: Sequence[float | None]) -> float | None:
    """Their mean, in their unit; None if one is None, as what is not finite is among parts.

    Args:
        values: at least one.
    """
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def deviation(values: Sequence[float | None]) -> float | None:
    """Their standard deviation with n - 1, in their unit; None if one of them is None.

    Args:
        values: at least two.
    """
    middle = mean(values)
    if middle is None:
        return None
    squares = ((value - middle) ** 2 for value in values if value is not None)
    return math.sqrt(math.fsum(squares) / (len(values) - 1))
