"""MEST(EM&S): MEST under a soft memory bound: train denser, prune back (Yuan et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.registry import Spec
from paper_repro.sparse import METHODS
from paper_repro.sparse.distribution import check_sparsity, layer_counts, prunable
from paper_repro.sparse.layers import given_densities
from paper_repro.sparse.mest import MEST
from paper_repro.sparse.plan import Plan, Stage, densities
from paper_repro.sparse.select import keep_largest

__all__ = ["MESTEMS", "grown_sparsities"]

# Sparsity that the first two stages grow to, by target sparsity, as the published schedules have
# it; elsewhere they grow by 5 and 2.5 points of density, as they do at 90 and 95 %.
_PUBLISHED = {0.9: (0.85, 0.875), 0.95: (0.9, 0.925), 0.98: (0.93, 0.96)}


@METHODS.register("mest-ems")
class MESTEMS(MEST):
    """Elastic mutation with a soft memory bound, MEST(EM&S).

    Where MEST(EM) prunes below the target and grows back to it, EM&S grows beyond the target,
    trains the newcomers with the others, and prunes back to the target every 1/32 of the
    training, whereupon it grows anew. What it grows to steps towards the target at 100/160 and
    130/160 of the training; at the latter it prunes to exactly the target, and the topology is
    fixed. **Until then the network is denser than asked**: a record's best epoch may be one of
    those, its last epoch is not. New positions are drawn at random and start from 0, those just
    pruned included.

    Args:
        model: the network at initialisation.
        optimizer: the optimizer that trains it, wrapped or not.
        sparsity: target, the pruned fraction of each masked layer, in [0, 1).
        total_steps: optimizer steps of the whole training.
        distribution: see :func:`paper_repro.sparse.layer_counts`.
        updates: topology updates in a whole training if none were fixed (160/5 = 32).
        first_stop: fraction of the training at which the second stage begins.
        second_stop: fraction of the training at which the topology is fixed.
        gradient_weight: λ of the score |w| + λ|g|; g under S2-SAM is the gradient at u.
        seed: of the growth.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        sparsity: float,
        total_steps: int,
        distribution: str = "uniform",
        updates: int = 32,
        first_stop: float = 100 / 160,
        second_stop: float = 130 / 160,
        gradient_weight: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            model,
            optimizer,
            sparsity=sparsity,
            total_steps=total_steps,
            distribution=distribution,
            updates=updates,
            first_stop=first_stop,
            second_stop=second_stop,
            gradient_weight=gradient_weight,
            seed=seed,
        )
        self.grown = grown_sparsities(sparsity)
        self.upper = _upper(model, sparsity, distribution, self.target)
        self.last = max(1, math.ceil(self.stops[1]))
        self.masks.replace(self.grow(self.masks.state_dict(), self.upper[self._stage(0)]))

    @classmethod
    def planned(cls, spec: Spec, model: nn.Module, total_steps: int, steps_per_epoch: int) -> Plan:
        """The soft memory bound is counted at what it grows to: those weights are trained too."""
        period = max(1, round(total_steps / spec["updates"]))
        first = spec["first_stop"] * total_steps
        last = max(1, math.ceil(spec["second_stop"] * total_steps))
        target = layer_counts(model, spec["sparsity"], spec["distribution"])
        upper = _upper(model, spec["sparsity"], spec["distribution"], target)
        counts, stages, begun = upper[_stage_at(0, first, last)], [], 0
        for done in sorted({*range(period, last, period), last}):
            grown = upper[_stage_at(done, first, last)]
            if done < total_steps and grown is not counts:
                stages.append(Stage(done - begun, densities(model, counts)))
                counts, begun = grown, done
        return Plan((*stages, Stage(total_steps - begun, densities(model, counts))))

    def _stage(self, done: int) -> int:
        """0, 1, or 2 for the last, once ``done`` steps are taken."""
        return _stage_at(done, self.stops[0], self.last)

    def due(self, t: int) -> bool:
        done = t + 1
        return done == self.last or (done % self.period == 0 and done < self.last)

    def choose(self, t: int) -> dict[str, Tensor]:
        kept = {
            name: keep_largest(self.score(name), k, self.masks[name])
            for name, k in self.target.items()
        }
        self.prune(kept)
        return self.grow(kept, self.upper[self._stage(t + 1)])

    def facts(self) -> dict[str, Any]:
        return {
            **super().facts(),
            "grown_to_sparsity": list(self.grown),
            "at_target_from_step": self.last,
        }


def _stage_at(done: int, first_stop: float, last: int) -> int:
    return 2 if done >= last else int(done >= first_stop)


def _upper(
    model: nn.Module, sparsity: float, distribution: str, target: Mapping[str, int]
) -> list[dict[str, int]]:
    """Active weights of each layer while it is grown, by stage; the last one is the target."""
    weights, own = prunable(model), given_densities(model)
    upper = []
    for stage in grown_sparsities(sparsity):
        counts = layer_counts(model, stage, distribution)
        share = (1 - stage) / (1 - sparsity)  # a layer with a density of its own grows alike
        for name in own:
            counts[name] = min(weights[name].numel(), round(share * target.get(name, 0)))
        upper.append({name: max(k, counts[name]) for name, k in target.items()})
    return [*upper, dict(target)]


def grown_sparsities(sparsity: float) -> tuple[float, float]:
    """The sparsities below ``sparsity`` that the first two stages grow to."""
    check_sparsity(sparsity)
    for target, stages in _PUBLISHED.items():
        if abs(sparsity - target) < 1e-9:
            return stages
    return max(0.0, sparsity - 0.05), max(0.0, sparsity - 0.025)
