"""Exhaustive search for the smallest setting that refutes a statement, in rational arithmetic."""

__all__ = ["Counterexample", "by_size", "smallest"]

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction as Q
from itertools import product

from theory.statements import Statement

_MARGIN = Q(21, 20)  # beyond doubt at a glance: larger by at least 5%


@dataclass(frozen=True)
class Counterexample:
    """Numbers for which a statement's left side exceeds its right side.

    ``tried`` counts the candidates, in order of size, up to and including this one.
    """

    name: str
    statement: Statement
    setting: dict[str, Q]
    left: Q
    right: Q
    tried: int
    note: str

    @property
    def refutes(self) -> bool:
        """Whether the left side is larger."""
        return self.left > self.right

    def described(self) -> str:
        """The setting in one line, as exact fractions."""
        return ", ".join(f"{name} = {value}" for name, value in self.setting.items())


def smallest(
    candidates: Iterable[dict[str, Q]], left_right: Callable[..., tuple[Q, Q]]
) -> tuple[dict[str, Q], Q, Q, int]:
    """The first candidate whose left side is the larger by 5%: setting, sides, how many tried.

    Raises:
        ValueError: none is.
    """
    for tried, setting in enumerate(candidates, start=1):
        left, right = left_right(**setting)
        if left > _MARGIN * right:
            return setting, left, right, tried
    raise ValueError("no counterexample in the whole search space")


def by_size(**values: Iterable[Q]) -> list[dict[str, Q]]:
    """All combinations, small numerators and denominators first."""

    def size(point: tuple[Q, ...]) -> tuple[int, tuple[Q, ...]]:
        return sum(abs(x.numerator) + x.denominator - 1 for x in point), point

    names = list(values)
    return [
        dict(zip(names, point, strict=True))
        for point in sorted(product(*values.values()), key=size)
    ]
