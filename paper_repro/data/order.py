"""One order of CIFAR's images, whatever copy they come from.

A profile that trains on a part of the images takes the first of them, and label noise goes by row:
under one fingerprint these have to be the same images everywhere. The records' copy is shuffled by
Python's generator from seed 0, CIFAR-10 from the order of (label, file name), CIFAR-100 from the
published one; both can be made again from the published pickles, which name their pictures.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from paper_repro.data.digest import digest

__all__ = ["arranged", "fingerprint", "shuffled"]


def shuffled(size: int) -> np.ndarray:
    """The permutation of the records' copies, int64 [size]: row j is row ``p[j]`` of before."""
    rows = list(range(size))
    random.Random(0).shuffle(rows)
    return np.array(rows, np.int64)


def arranged(labels: np.ndarray, names: Sequence[str] | None) -> np.ndarray:
    """The rows of published images in the records' order, int64 [N].

    Args:
        labels: int64 [N].
        names: of the pictures, where they are shuffled from the order of (label, name); None
            where they are from the order in which they were published.
    """
    if names is None:
        return shuffled(len(labels))
    begin = sorted(range(len(labels)), key=lambda i: (int(labels[i]), names[i]))
    return np.array(begin, np.int64)[shuffled(len(labels))]


def fingerprint(labels: np.ndarray) -> str:
    """16 hex digits of a sequence of at most 256 labels: by it a copy's order is known."""
    return digest(labels.astype(np.uint8))
