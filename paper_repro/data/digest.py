"""What data were trained on, in a few digits."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["digest"]


def digest(*arrays: np.ndarray) -> str:
    """16 hex digits (BLAKE2b) of arrays' bytes: equal for equal rows in equal order."""
    made = hashlib.blake2b(digest_size=8)
    for array in arrays:
        made.update(np.ascontiguousarray(array).data.cast("B"))
    return made.hexdigest()
