"""Where within an epoch a training stands: what its steps have summed up, cost and taken."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from paper_repro.train.ranks import Ranks
from paper_repro.train.task import Task

__all__ = ["Within"]


class Within:
    """An epoch under way, which a checkpoint in its middle can hold.

    Args:
        task: what draws the epoch's order and counts its outputs.
        generator: that order and augmentation are drawn from.
        steps_per_epoch: of the optimizer.

    Attributes:
        t: optimizer steps taken in the whole training.
        cost: of the epoch's steps so far: gradients, and forward passes alone.
        loss_sum: of the epoch's steps so far, on the device: reading a number at every step would
            make the host wait for it.
    """

    def __init__(self, task: Task, generator: torch.Generator, steps_per_epoch: int) -> None:
        self._task, self._generator, self._steps = task, generator, steps_per_epoch
        self.t = 0
        self.cost = (0.0, 0.0)
        self.loss_sum = torch.zeros((), device=task.device)
        self._first = 0  # the step that the epoch begins with
        self._drawn_from = generator.get_state()
        self._spent = 0.0
        self._resumed: Mapping[str, Any] | None = None
        self.start_clock()

    @property
    def unfinished(self) -> bool:
        """Whether steps of the epoch are left."""
        return self.t < self._first + self._steps

    def begin(self, epoch: int) -> Iterable[Tensor]:
        """Draw an epoch's order and augmentation; the indices of each step's samples.

        Of an epoch that was resumed (:meth:`load`) those of the steps that are left.
        """
        self._drawn_from = self._generator.get_state()
        steps = self._task.begin_epoch(self._generator)
        self.t = self._first = epoch * self._steps
        self.cost, self._spent = (0.0, 0.0), 0.0
        self.loss_sum.zero_()
        resumed, self._resumed = self._resumed, None
        if resumed is None:
            return steps
        assert isinstance(steps, Sequence)  # as a task's that has sums
        self.t += resumed["steps"]
        self.cost = tuple(resumed["cost"])
        self._spent = resumed["seconds"]
        self.loss_sum.copy_(resumed["loss_sum"])  # on each rank, over whose number it is averaged
        if self._task.ranks.leads:  # counts are added up over ranks, and were of all of a batch
            self._task.load_sums(resumed["sums"])
        return steps[resumed["steps"] :]

    def pay(self, gradients: float, forwards: float) -> None:
        """Count what the step to come costs."""
        self.cost = (self.cost[0] + gradients, self.cost[1] + forwards)

    def mean_loss(self, ranks: Ranks) -> float:
        """Over the epoch's steps and all ranks, whose shares of a batch are equal."""
        return float(ranks.total(self.loss_sum)) / ranks.world / self._steps

    def start_clock(self) -> None:
        self._started = time.perf_counter()

    def seconds(self) -> float:
        """Of the epoch so far, those before a stop included."""
        return self._spent + time.perf_counter() - self._started

    def state_dict(self, epoch: int) -> dict[str, Any] | None:
        """All that :meth:`load` needs; None between two epochs."""
        steps = self.t - epoch * self._steps
        if not 0 < steps < self._steps:
            return None
        return {
            "steps": steps,
            "generator": self._drawn_from,
            "cost": list(self.cost),
            "seconds": self.seconds(),
            "loss_sum": self.loss_sum,
            "sums": self._task.sums(),
        }

    def load(self, state: Mapping[str, Any] | None) -> None:
        """Go on from :meth:`state_dict` when the epoch begins."""
        self._resumed = state
