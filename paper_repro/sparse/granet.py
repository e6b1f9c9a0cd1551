"""GraNet: gradual pruning with zero-cost neuroregeneration (Liu et al. 2021)."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.registry import Spec
from paper_repro.sparse import METHODS
from paper_repro.sparse.distribution import check_sparsity, kept_dense, layer_counts, prunable
from paper_repro.sparse.dynamic import DynamicMethod
from paper_repro.sparse.itop import decayed
from paper_repro.sparse.masks import Masks
from paper_repro.sparse.plan import Plan, Stage, densities
from paper_repro.sparse.select import keep_largest, keep_largest_globally

__all__ = ["GraNet"]


@METHODS.register("granet")
class GraNet(DynamicMethod):
    r"""Prune gradually by global magnitude, and at every update renew a part of what is left.

    Every ΔT steps the masked layers together are pruned, smallest :math:`|w|` first, to density

    .. math:: d(t) = d + (d_0 - d)\,(1 - t / T_\mathrm{end})^3

    with d the target and d_0 the initial density, and then each layer drops the fraction f(t) of
    its smallest weights and grows as many where the dense gradient is largest, f falling along a
    cosine from 0.5 to 0.005 over the whole training. Until T_end the network is denser than
    asked. Nothing keeps a layer from losing all of its weights to the global ranking.

    As in RigL, a position dropped and regrown at once keeps its value, and the update takes the
    place of the optimizer's step (the authors' code lets it follow the step).

    Args:
        model: the network at initialisation.
        optimizer: the optimizer that trains it, wrapped or not.
        sparsity: final pruned fraction, in [0, 1), of the masked layers together.
        total_steps: optimizer steps of the whole training.
        distribution: of the initial random masks; see :func:`paper_repro.sparse.layer_counts`.
        initial_sparsity: 1 - d_0; 0 starts from the dense network.
        delta_t: steps between updates (ΔT); the published one belongs to 60,000 to 80,000 steps.
        death_rate: f(0), in [0, 1].
        stop: fraction of the training after which the target is reached (:math:`T_\mathrm{end}`).
        seed: of the initial random masks.

    Raises:
        UserError: for options out of range, an initial sparsity beyond the target, or no update
            before T_end.
    """

    replaces_step = True
    moves_between_layers = True

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        sparsity: float,
        total_steps: int,
        distribution: str = "erk",
        initial_sparsity: float = 0.5,
        delta_t: int = 1000,
        death_rate: float = 0.5,
        stop: float = 0.5,
        seed: int = 0,
    ) -> None:
        if delta_t < 1 or not 0 <= death_rate <= 1 or not 0 <= stop <= 1:
            raise UserError(
                "GraNet needs delta_t >= 1, death_rate in [0, 1] and stop in [0, 1], "
                f"not {delta_t}, {death_rate} and {stop}"
            )
        if check_sparsity(initial_sparsity) > check_sparsity(sparsity):
            raise UserError(
                f"GraNet cannot prune from sparsity {initial_sparsity} down to {sparsity}; "
                "give a smaller initial_sparsity"
            )
        #: Updates until the target density is reached.
        self.prunings = _prunings(stop, total_steps, delta_t)
        super().__init__(model, optimizer, seed)
        self.delta_t = delta_t
        self.death_rate = death_rate
        self.total_steps = total_steps
        # All but those dense by rule: a layer that happens to start dense is pruned later.
        dense = kept_dense(model, distribution)
        names = [name for name in prunable(model) if name not in dense]
        start, end = (
            {name: layer_counts(model, s, distribution)[name] for name in names}
            for s in (initial_sparsity, sparsity)
        )
        self.initial, self.target = sum(start.values()), sum(end.values())
        self.masks = Masks(model, optimizer, self.random_masks(start))

    @classmethod
    def dense_gradients(cls, spec: Spec, total_steps: int) -> int:
        return (total_steps - 1) // int(spec["delta_t"])

    @classmethod
    def planned(cls, spec: Spec, model: nn.Module, total_steps: int, steps_per_epoch: int) -> Plan:
        """An estimate: as if each layer went its own way from its initial number to its target."""
        period, distribution = spec["delta_t"], spec["distribution"]
        prunings = _prunings(spec["stop"], total_steps, period)
        updates = cls.dense_gradients(spec, total_steps)
        start, end = (
            layer_counts(model, spec[name], distribution)
            for name in ("initial_sparsity", "sparsity")
        )
        dense = kept_dense(model, distribution)
        stages = []
        for k in range(prunings + 1):
            counts = {n: end[n] + (start[n] - end[n]) * _left(k, prunings) for n in end}
            held = densities(model, {n: c for n, c in counts.items() if n not in dense})
            # The step of update k+1 still has the masks of update k, and takes a dense gradient.
            if k < prunings:
                stages.append(Stage(period + (k == 0), held, 1))
            else:
                done = sum(stage.steps for stage in stages)
                stages.append(Stage(total_steps - done, held, updates - prunings))
        return Plan(tuple(stages), estimated=True)

    def due(self, t: int) -> bool:
        return 0 < t < self.total_steps and t % self.delta_t == 0

    def total(self, t: int) -> int:
        """Active weights of the masked layers after the update at step t."""
        left = _left(t // self.delta_t, self.prunings)
        return self.target + round((self.initial - self.target) * left)

    def choose(self, t: int) -> dict[str, Tensor]:
        size = {name: self.weight(name).abs() for name in self.masks}
        pruned = keep_largest_globally(size, self.total(t), self.masks.state_dict())
        rate = decayed(t, self.total_steps, self.death_rate)
        new: dict[str, Tensor] = {}
        for name, mask in pruned.items():
            active = int(mask.count_nonzero())
            dropped = math.ceil(rate * active)
            kept = keep_largest(size[name], active - dropped, mask)
            new[name] = kept | keep_largest(self.gradient(name).abs(), dropped, ~kept)
        return new


def _prunings(stop: float, total_steps: int, delta_t: int) -> int:
    """Updates until the target density is reached; UserError if there is no time for one."""
    count = int(min(stop * total_steps, total_steps - 1) // delta_t)
    if count < 1:
        raise UserError(
            f"GraNet makes no update in {stop:g} of {total_steps} steps with delta_t {delta_t}"
        )
    return count


def _left(update: int, prunings: int) -> float:
    """Share of what is to be pruned that is still there after so many updates."""
    return float((1 - min(1.0, update / prunings)) ** 3)
