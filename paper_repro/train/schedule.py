"""Learning-rate schedules as functions of the step."""

import math

__all__ = ["cosine"]


def cosine(t: int, total: int, start: float, end: float) -> float:
    """Rate of step t of ``total``: ``start`` at t = 0, towards ``end`` at ``total``; no warm-up."""
    return end + (start - end) * (1 + math.cos(math.pi * t / total)) / 2
