"""Learning-rate schedules as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

__all__ = ["SCHEDULES", "cosine", "inverse_sqrt", "warm"]


def cosine(t: int, total: int, start: float, end: float) -> float:
    """Rate of step t of ``total``: ``start`` at t = 0, towards ``end`` at ``total``; no warm-up."""
    return end + (start - end) * (1 + math.cos(math.pi * t / total)) / 2


def warm(t: int, total: int, peak: float, end: float, warmup: int) -> float:
    """A linear rise over ``warmup`` steps to ``peak``, and then :func:`cosine` over the others.

    Without warm-up it is the cosine alone. A training that is shorter than its warm-up only rises.
    """
    if t < warmup:
        return peak * (t + 1) / warmup
    return cosine(t - warmup, max(1, total - warmup), peak, end)


def inverse_sqrt(t: int, total: int, peak: float, end: float, warmup: int) -> float:
    """max(end, peak · min((t + 1) / warmup, √(warmup / (t + 1)))) (Vaswani et al., 2017, Eq. 3).

    The peak is reached in the step before t = ``warmup`` and named outright; Vaswani et al.'s is
    (width · warmup)^(-1/2). How long the training is makes no difference.
    """
    warmup = max(1, warmup)
    return max(end, peak * min((t + 1) / warmup, math.sqrt(warmup / (t + 1))))


#: By the name that a run's config gives it: rate of step t (0, 1, ...) of ``total``, given the peak
#: rate, the lowest, and the steps of warm-up.
SCHEDULES: Mapping[str, Callable[[int, int, float, float, int], float]] = MappingProxyType(
    {"cosine": warm, "inverse-sqrt": inverse_sqrt}
)
