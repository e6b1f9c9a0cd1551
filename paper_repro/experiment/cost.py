"""What a run costs, before it is trained: the one place where that is estimated."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from paper_repro import data as datasets
from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.records import Record
from paper_repro.experiment.runs import Workplace
from paper_repro.optim import OPTIMIZERS
from paper_repro.registry import Spec
from paper_repro.train import TASKS

__all__ = ["Cost", "gradients_per_step", "relative_time"]

#: FLOPs a second of one core in a dense step, for what no record says otherwise. Measured: 77 to 90
#: GFLOP/s a core (ResNet-32 of double width in float32, ResNet-20 in bfloat16; benchmarks).
RATE = 8e10
#: Records from which on the machine's own speed is taken instead.
_ENOUGH = 3


def relative_time(density: float) -> float:
    """Time of a step of the sparse engine over that of a dense network: min(1, 0.03 + 2.4 d).

    Less than FLOPs say: a pruned weight costs nothing, but an active one costs 2.4 times what it
    does in a dense convolution (break-even at a density of about 0.4), and batch norm, activations
    and the optimizer stay.

    Args:
        density: fraction of weights that are active.
    """
    return min(1.0, 0.03 + 2.4 * density)


def gradients_per_step(spec: Spec) -> float:
    """Full-batch gradients that an optimizer takes a step, a forward pass alone as a third."""
    model = nn.Linear(1, 1)
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    built = OPTIMIZERS.build(spec, base=base, model=model, seed=0, total_steps=1)
    forwards: float = getattr(built, "extra_forwards", 0.0)
    gradients: float = getattr(built, "gradients_per_step", 1.0)
    return gradients + forwards / 3


class Cost:
    """Core-hours that runs take; for a GPU, only their proportions mean something.

    Epochs x images, or tokens, x 6 MACs x gradients per step x :func:`relative_time` / speed of a
    core. The speed is that of the records at hand if there are some, else RATE.

    Args:
        place: where the runs would be trained; its engine and device decide what zeros save.
        records: what the machine's speed is taken from. Those whose data set is not there say
            nothing; one that is not there and could be fetched would be: name none of such.
    """

    def __init__(self, place: Workplace, records: Iterable[Record] = ()) -> None:
        self.place = place
        self._data: dict[str, Any] = {}
        self._sizes: dict[tuple[Any, ...], tuple[int, float, bool]] = {}
        self._gradients: dict[Spec, float] = {}
        self._slowness = 1.0
        ratios = [
            taken / estimated
            for record in records
            if (taken := _core_seconds(record)) > 0
            and (estimated := self._core_seconds(record.config)) > 0
        ]
        if len(ratios) >= _ENOUGH:
            self._slowness = statistics.median(ratios)

    def __call__(self, config: RunConfig) -> float:
        """Core-hours of a run, without the runs whose weights it starts from.

        Raises:
            UserError: its data set is not there.
        """
        units, macs, images = self._size(config)
        if config.optimizer not in self._gradients:
            self._gradients[config.optimizer] = gradients_per_step(config.optimizer)
        flops = 6.0 * macs * units * config.epochs * self._gradients[config.optimizer]
        sparse = (
            images
            and self.place.device == "cpu"
            and self.place.engine != "dense"
            and config.precision != "bf16"  # the engine does not train under autocast
        )
        share = relative_time(1.0 - config.sparsity) if sparse else 1.0
        return self._slowness * flops * share / RATE / 3600

    def _core_seconds(self, config: RunConfig) -> float:
        """What is estimated for a record's run; 0 where its data set is not there."""
        try:
            return 3600 * self(config)
        except UserError:
            return 0.0

    def _size(self, config: RunConfig) -> tuple[int, float, bool]:
        """Units of an epoch, MACs of one when dense, and whether they are images."""
        key = (config.dataset, config.model, config.train_size, config.batch_size)
        if key not in self._sizes:
            if config.dataset not in self._data:
                self._data[config.dataset] = datasets.load(
                    config.dataset, root=self.place.data, cache=self.place.runs / "cache"
                )
            whole = self._data[config.dataset]
            data = whole if config.train_size is None else whole.prefix(config.train_size)
            task = TASKS[data.task](config, data)
            macs = task.macs(task.build_model())
            total = float(sum(macs.values()))
            self._sizes[key] = task.units_per_epoch, total, task.image is not None
        return self._sizes[key]


def _core_seconds(record: Record) -> float:
    """How long cores trained a record's run, each rank with threads of its own; 0 if unknown."""
    where = record.body["environment"]
    if record.status != "finished" or where.get("device_type") != "cpu":
        return 0.0
    try:
        return float(record.body["speed"]["seconds"] * where["threads"] * where.get("ranks", 1))
    except (KeyError, TypeError, ValueError):  # not said, or not in numbers
        return 0.0
