"""Pictures that stay encoded where they lie and are read one at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from paper_repro.errors import UserError

__all__ = ["Pictures", "check_whole"]


class Pictures(ABC):
    """One split of a data set that is not held in memory.

    Reading is safe in any number of processes that inherit or unpickle the object.

    Attributes:
        labels: int64 [N].
    """

    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def encoded(self, i: int) -> bytes:
        """The bytes of picture i's file."""

    @abstractmethod
    def name(self, i: int) -> str:
        """Where picture i lies, in the words of an error message."""

    def take(self, rows: np.ndarray) -> Pictures:
        """Some of the pictures, in the order of ``rows`` (int64 [M])."""
        return _Taken(self, rows)


class _Taken(Pictures):
    """A choice of another split's pictures."""

    def __init__(self, whole: Pictures, rows: np.ndarray) -> None:
        self.whole = whole
        self.rows = rows
        self.labels = whole.labels[rows]

    def encoded(self, i: int) -> bytes:
        return self.whole.encoded(int(self.rows[i]))

    def name(self, i: int) -> str:
        return self.whole.name(int(self.rows[i]))

    def take(self, rows: np.ndarray) -> Pictures:
        return _Taken(self.whole, self.rows[rows])


def check_whole(pictures: Pictures, place: Path, words: str, classes: int, count: int) -> None:
    """Refuse a copy in which classes or pictures are missing.

    Args:
        pictures: one split, its labels within 0 to ``classes`` - 1.
        place: where it lies.
        words: what its pictures are, e.g. "training images of imagenet".
        classes: each of which must have pictures.
        count: how many pictures there must be.

    Raises:
        UserError: there are others than these.
    """
    empty = np.flatnonzero(np.bincount(pictures.labels, minlength=classes) == 0)
    if len(empty):
        raise UserError(
            f"{place} has no images of {len(empty)} of the {classes} classes (the first is label "
            f"{empty[0]}): the copy is incomplete"
        )
    if len(pictures) != count:
        problem = "the copy is incomplete" if len(pictures) < count else "it is another data set"
        raise UserError(f"{place} has {len(pictures):,} of the {count:,} {words}: {problem}")
