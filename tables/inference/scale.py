"""In which unit an effect is, how small it is to count as none."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["POINTS", "Scale", "says_none"]

_NO = "no"


@dataclass(frozen=True)
class Scale:
    """Of the values y whose differences are judged.

    Attributes:
        unit: of an effect, as it stands behind the number.
        margin: an effect that is smaller is called none, and experiments are planned to find it.
        sought: what the effect is called.
    """

    unit: str = "points"
    margin: float = 0.2
    sought: str = "gain"

    @property
    def none(self) -> str:
        """The verdict that there is less than the margin."""
        return f"{_NO} {self.sought} of {self.margin:g} {self.unit}"


def says_none(verdict: str) -> bool:
    """Whether a verdict is :attr:`Scale.none` of some scale."""
    return verdict.startswith(f"{_NO} ")


#: Of accuracy. Of the 16 gains that the paper's authors publish as text for CIFAR-10, one is
#: smaller (0.19, LRR at 80 %).
POINTS = Scale()
