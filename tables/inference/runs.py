"""The runs of differences as numbers by seed, from records and from measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paper_repro.experiment.records import Record, Records
from tables.base import Delta
from tables.stats import read_run

__all__ = ["Pairs", "Value", "arms"]

Value = Callable[[Record], float | None]


@dataclass(frozen=True)
class Pairs:
    """A difference's runs by seed: (treatment, baseline).

    Attributes:
        runs: of the seeds that have both.
        diverged: whether one of them diverged, or was measured and is not finite.
    """

    runs: Mapping[int, tuple[float, float]]
    diverged: bool

    @property
    def gains(self) -> Mapping[int, float]:
        return {seed: ours - theirs for seed, (ours, theirs) in self.runs.items()}

    @classmethod
    def of(cls, delta: Delta, records: Records, value: Value) -> Pairs:
        """Read both arms; ``value`` is what is read of a record where a cell says nothing else."""
        sides: list[dict[int, float]] = []
        diverged = False
        for cell in (delta.treatment, delta.baseline):
            values: dict[int, float] = {}
            for config in cell.runs:
                record = records.get(config)
                if record is None:
                    continue
                if record.status == "diverged":
                    diverged = True
                    continue
                measured, never = read_run(cell, record, records, value)
                diverged |= never
                if measured is not None:
                    values[config.seed] = measured
            sides.append(values)
        ours, theirs = sides
        return cls({s: (ours[s], theirs[s]) for s in ours if s in theirs}, diverged)


def arms(pairs: Iterable[Pairs], seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Treatment and baseline of shape [C, n], for C differences and n seeds that all of them have.

    What an aspect lacks is nan.
    """
    lacks = (float("nan"), float("nan"))
    both = np.array([[p.runs.get(seed, lacks) for seed in seeds] for p in pairs])
    return both[..., 0], both[..., 1]
