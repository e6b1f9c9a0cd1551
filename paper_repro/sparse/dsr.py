"""DSR: dynamic sparse reparameterization (Mostafa and Wang 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.sparse import METHODS
from paper_repro.sparse.dynamic import DynamicMethod
from paper_repro.sparse.masks import Masks
from paper_repro.sparse.select import keep_largest, keep_largest_globally, keep_random

__all__ = ["DSR", "SCHEDULES", "apportion"]

TOLERANCE = 0.1
#: By name: P and where the period doubles, as fractions of the training. 100,000 steps are the
#: authors' 200 epochs of CIFAR-10 in batches of 100.
SCHEDULES: Mapping[str, tuple[float, tuple[float, ...]]] = MappingProxyType(
    {
        "cifar10": (100 / 100_000, (25 / 200, 80 / 200, 140 / 200)),
        "imagenet": (1000 / 125_000, (0.25, 0.5, 0.75)),
    }
)


@METHODS.register("dsr")
class DSR(DynamicMethod):
    """Prune below one global, adaptive threshold; regrow as many at random, across layers.

    At an update every active weight with |w| < h is pruned, in all layers. As many positions are
    grown, each layer's share in proportion to the weights it has left, at random among those that
    were inactive before (never where one was just pruned), so the total never changes while
    layers grow and shrink. Then h is doubled if fewer than 0.9 N were pruned and halved if more
    than 1.1 N. Updates follow the optimizer's step, after every P, 2P, 4P and 8P steps in four
    parts of the training, which are the authors' for CIFAR-10 (from epochs 0, 25, 80 and 140 of
    200, with P = 100 steps) or for ImageNet (quarters, with P = 1000 steps).

    Beyond the paper: a layer's largest weight is never pruned, since a layer without weights would
    never get any back; and no more are pruned than there are positions to grow at.

    Args:
        model: the network at initialisation.
        optimizer: the optimizer that trains it, wrapped or not.
        sparsity: pruned fraction, in [0, 1), of the masked layers together.
        total_steps: optimizer steps of the whole training.
        distribution: of the initial masks; see :func:`paper_repro.sparse.layer_counts`.
        schedule: ``cifar10`` or ``imagenet``: where the period doubles.
        period: P, in steps, or as a fraction of the training if below 1; None for the schedule's
            own: 100 of 100,000 steps for CIFAR-10, 1000 of 125,000 for ImageNet.
        fraction: N as a fraction of the active weights, in (0, 1).
        threshold: initial h, in the units of a weight.
        stop: fraction of the training after which the topology is fixed.
        seed: of initial masks and growth.

    Raises:
        UserError: for options out of range.
    """

    OPTION_BEFORE = MappingProxyType({"schedule": "imagenet"})
    moves_between_layers = True

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        sparsity: float,
        total_steps: int,
        distribution: str = "uniform",
        schedule: str = "cifar10",
        period: float | None = None,
        fraction: float = 0.1,
        threshold: float = 1e-3,
        stop: float = 0.95,
        seed: int = 0,
    ) -> None:
        if schedule not in SCHEDULES:
            raise UserError(
                f"unknown schedule {schedule!r} of DSR; known are {', '.join(SCHEDULES)}"
            )
        default, self.doublings = SCHEDULES[schedule]
        period = default if period is None else period
        if period <= 0 or not 0 < fraction < 1 or threshold <= 0 or not 0 <= stop <= 1:
            raise UserError(
                "DSR needs period > 0, fraction in (0, 1), threshold > 0 and stop in [0, 1], "
                f"not {period}, {fraction}, {threshold} and {stop}"
            )
        super().__init__(model, optimizer, seed)
        self.total_steps = total_steps
        self.period = max(1, round(period * total_steps if period < 1 else period))
        self.end = stop * total_steps
        self.threshold = threshold
        counts = self.sparse_layers(sparsity, distribution)
        self.wanted = fraction * sum(counts.values())
        self.masks = Masks(model, optimizer, self.random_masks(counts))

    def period_after(self, done: int) -> int:
        """Steps between updates once ``done`` steps are taken."""
        return self.period * 2 ** sum(done >= x * self.total_steps for x in self.doublings)

    def due(self, t: int) -> bool:
        done = t + 1
        return done < self.end and done % self.period_after(done) == 0

    def choose(self, t: int) -> dict[str, Tensor]:
        active = self.masks.state_dict()
        room = {name: int((~mask).count_nonzero()) for name, mask in active.items()}
        kept = self._survivors(active, sum(room.values()))
        left = {name: int(mask.count_nonzero()) for name, mask in kept.items()}
        pruned = sum(self.masks.counts().values()) - sum(left.values())
        new: dict[str, Tensor] = {}
        for name, k in apportion(pruned, left, room).items():
            grown = keep_random(kept[name].shape, k, self.generator, among=~active[name])
            new[name] = kept[name] | grown
        if pruned < (1 - TOLERANCE) * self.wanted:
            self.threshold *= 2
        elif pruned > (1 + TOLERANCE) * self.wanted:
            self.threshold /= 2
        return new

    def _survivors(self, active: Mapping[str, Tensor], room: int) -> dict[str, Tensor]:
        """The active weights that are not pruned, at most ``room`` of which are."""
        size = {name: self.weight(name).abs() for name in active}
        kept: dict[str, Tensor] = {}
        for name, mask in active.items():
            large = mask & (size[name] >= self.threshold)
            kept[name] = large if bool(large.any()) else keep_largest(size[name], 1, mask)
        small = {name: mask & ~kept[name] for name, mask in active.items()}
        surplus = sum(int(mask.count_nonzero()) for mask in small.values()) - room
        if surplus > 0:
            spared = keep_largest_globally(size, surplus, small)
            kept = {name: mask | spared[name] for name, mask in kept.items()}
        return kept

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "threshold": self.threshold}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.threshold = float(state["threshold"])

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "threshold": self.threshold}


def apportion(total: int, weight: Mapping[str, int], room: Mapping[str, int]) -> dict[str, int]:
    """Split ``total`` in proportion to ``weight`` by largest remainders, none beyond its room.

    What a full member cannot take goes to the others in the same way; the sum is exactly
    ``total``.

    Raises:
        ValueError: there is not room for ``total``.
    """
    if total > sum(room.values()):
        raise ValueError(f"no room for {total} among {sum(room.values())}")
    given = dict.fromkeys(weight, 0)
    while left := total - sum(given.values()):
        open_ = [name for name in weight if given[name] < room[name]]
        whole = sum(weight[name] for name in open_)
        if whole == 0:
            raise ValueError("no member with room has any weight")
        share = {name: divmod(left * weight[name], whole) for name in open_}
        spare = left - sum(quotient for quotient, _ in share.values())
        by_remainder = sorted(open_, key=lambda name: -share[name][1])
        for i, name in enumerate(by_remainder):
            wanted = share[name][0] + (i < spare)
            given[name] = min(room[name], given[name] + wanted)
    return given
