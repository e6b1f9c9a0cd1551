"""Chase: unstructured dynamic sparsity turned into channel sparsity (Yin et al., NeurIPS 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.sparse import METHODS
from paper_repro.sparse.channels import channel_masks, removable_groups
from paper_repro.sparse.distribution import kept_dense, layer_counts
from paper_repro.sparse.dynamic import REGROWN_BEFORE, DynamicMethod, check_regrown
from paper_repro.sparse.masks import Masks
from paper_repro.sparse.select import keep_largest, keep_largest_globally

__all__ = ["Chase"]

_LAST_DROP = 0.005


@METHODS.register("chase")
class Chase(DynamicMethod):
    r"""Global dynamic sparse training under a soft memory bound, and gradual channel removal.

    Starts from random masks. With p the progress from 0 at the start to 1 at ``stop``, each
    update

    1. removes channels until the fraction :math:`S_c (1 - (1 - p)^3)` of all removable ones is
       gone: those of smallest UMM (unmasked mean magnitude), the mean of |w| over the whole
       filter, pruned weights included as zeros, so that sparse and weak channels go first. No
       group of C channels falls below :math:`\beta (1 - S_c) C`. A removed channel never returns;
    2. prunes the smallest |w| over all layers together, down to the asked number of weights N;
    3. grows the positions of largest :math:`|\nabla_w L|` over all layers together, within the
       channels that are left, up to the soft memory bound
       :math:`N (1 + \tfrac{b}{2}(1 + \cos(\pi p)))`.

    From ``stop`` on the network has exactly N weights, and an update moves a fraction of them that
    falls along a cosine from α at the training's start to 0.005 at its end. What is grown starts
    from 0, a position pruned in the same update too, as in the authors' code. The update takes the
    place of the optimizer's step, since it needs the dense gradient. What is left is a narrower
    network that is sparse within its channels; :func:`paper_repro.sparse.compact` narrows it.

    What follows the paper and its public code: all of the above, with the settings of its script
    for ResNet-50 on CIFAR-100 as fractions of the training (an update every 1000 of 80,000 steps,
    ``stop`` at epoch 130 of 160, :math:`S_c = \beta = 0.5`, α = 0.5; its bound, 5 % of all
    weights at 90 % sparsity, is b = 0.5). What is simplified: channel removal and parameter
    exploration happen at the same steps rather than in turn; an update replaces a step rather than
    following it; b is relative to N; pruning leaves each layer the fraction β of its initial
    number of weights, without which small layers die out at 98 %; and channels stop being removed
    where those left could not hold N weights, so that ``sparsity`` is always met (:math:`S_c` is
    met wherever it is well below ``sparsity``, as in the paper).

    Args:
        model: the network at initialisation.
        optimizer: the optimizer that trains it, wrapped or not.
        sparsity: pruned fraction of the weights, in [0, 1); under ``erk`` of all prunable ones.
        total_steps: optimizer steps of the whole training.
        distribution: of the initial masks, see :func:`paper_repro.sparse.layer_counts`.
        channel_sparsity: :math:`S_c` in [0, 1), the fraction of removable channels (see
            :func:`paper_repro.sparse.channel_groups`) to remove.
        minimum_ratio: β, in [0, 1].
        updates: topology updates in a whole training.
        stop: fraction of the training at which channels are fixed and the memory bound is 0.
        memory_bound: b, at least 0, relative to the weights asked for.
        alpha: α, in (0, 1].
        regrown: ``zero`` or ``keep``: what a position pruned and grown in the same update starts
            from, 0 or its value and momentum.
        seed: of the initial masks.

    Raises:
        UserError: for options out of range, or a model without removable channels.
    """

    OPTION_BEFORE = REGROWN_BEFORE

    replaces_step = True
    structured = True
    moves_between_layers = True

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        sparsity: float,
        total_steps: int,
        distribution: str = "erk",
        channel_sparsity: float = 0.5,
        minimum_ratio: float = 0.5,
        updates: int = 80,
        stop: float = 130 / 160,
        memory_bound: float = 0.5,
        alpha: float = 0.5,
        regrown: str = "zero",
        seed: int = 0,
    ) -> None:
        if updates < 1 or not 0 <= stop <= 1 or memory_bound < 0 or not 0 < alpha <= 1:
            raise UserError(
                "Chase needs updates >= 1, stop in [0, 1], memory_bound >= 0 and alpha in (0, 1], "
                f"not {updates}, {stop}, {memory_bound} and {alpha}"
            )
        if not 0 <= channel_sparsity < 1 or not 0 <= minimum_ratio <= 1:
            raise UserError(
                "Chase needs channel_sparsity in [0, 1) and minimum_ratio in [0, 1], "
                f"not {channel_sparsity} and {minimum_ratio}"
            )
        counts = layer_counts(model, sparsity, distribution)
        self.groups = removable_groups(model)
        super().__init__(model, optimizer, seed)
        self.total_steps = total_steps
        self.period = max(1, round(total_steps / updates))
        last = (total_steps - 1) // self.period * self.period
        self.end = min(stop * total_steps, last)
        self.memory_bound = memory_bound
        self.alpha = alpha
        self.regrown = check_regrown(regrown)
        self.remove = round(channel_sparsity * sum(g.size for g in self.groups))
        self.minimum = {
            g.name: max(1, int(minimum_ratio * (1 - channel_sparsity) * g.size))
            for g in self.groups
        }
        device = next(model.parameters()).device
        self.alive = {
            g.name: torch.ones(g.size, dtype=torch.bool, device=device) for g in self.groups
        }
        dense = kept_dense(model, distribution)
        grouped = {n for g in self.groups for n in (g.producer, *g.consumers)}
        counts = {n: k for n, k in counts.items() if n not in dense or n in grouped}
        self.target = sum(counts.values())
        self.floor = {name: max(1, int(minimum_ratio * k)) for name, k in counts.items()}
        self.masks = Masks(model, optimizer, self.random_masks(counts))

    def due(self, t: int) -> bool:
        return 0 < t < self.total_steps and t % self.period == 0

    def progress(self, t: int) -> float:
        """p, from 0 to 1 at ``stop`` (or at the last update, if there is none after ``stop``)."""
        return min(1.0, t / self.end) if self.end else 1.0

    def choose(self, t: int) -> dict[str, Tensor]:
        p = self.progress(t)
        room = self._room()
        active = {name: self.masks[name] & room[name] for name in self.masks}
        keep = min(self.target, sum(int(a.count_nonzero()) for a in active.values()))
        if p == 1.0:
            decay = (1 + math.cos(math.pi * t / self.total_steps)) / 2
            keep -= int((_LAST_DROP + (self.alpha - _LAST_DROP) * decay) * keep)
        kept = self._prune(active, max(keep, len(active)))
        extra = int(self.memory_bound * (1 + math.cos(math.pi * p)) / 2 * self.target)
        space = {name: room[name] & ~kept[name] for name in kept}
        grow = self.target + extra - sum(int(k.count_nonzero()) for k in kept.values())
        grow = min(grow, sum(int(s.count_nonzero()) for s in space.values()))
        scores = {name: self.gradient(name).abs() for name in space}
        if self.regrown == "zero":
            self.prune(kept)
        grown = keep_largest_globally(scores, grow, space)
        return {name: kept[name] | grown[name] for name in kept}

    def _prune(self, active: Mapping[str, Tensor], keep: int) -> dict[str, Tensor]:
        """The ``keep`` active weights of largest |w|, each layer's largest among them."""
        score = {name: self.weight(name).abs() for name in active}
        for name, s in score.items():
            if active[name].any():
                floor = min(self.floor[name], int(active[name].count_nonzero()))
                s[keep_largest(s, floor, active[name])] = math.inf
        available = sum(int(a.count_nonzero()) for a in active.values())
        return keep_largest_globally(score, min(keep, available), active)

    def _room(self) -> dict[str, Tensor]:
        """Where weights may be: everywhere but in removed channels."""
        everywhere = {name: torch.ones_like(self.masks[name]) for name in self.masks}
        return {**everywhere, **channel_masks(self.model, self.groups, self.alive)}

    @torch.no_grad()
    def update(self, t: int) -> None:
        """Remove channels, then choose and adopt new masks."""
        device = next(iter(self.masks.weights.values())).device  # the model may have moved
        self.alive = {name: vector.to(device) for name, vector in self.alive.items()}
        self._remove_channels(round(self.remove * (1 - (1 - self.progress(t)) ** 3)))
        super().update(t)

    def _remove_channels(self, goal: int) -> None:
        """Bring the number of removed channels to ``goal``, as far as minima and N allow."""
        left = {name: int(a.count_nonzero()) for name, a in self.alive.items()}
        todo = goal - sum(g.size - left[g.name] for g in self.groups)
        candidates = []
        for group in self.groups:
            umm = self.weight(group.producer).abs().flatten(1).mean(1).tolist()
            channels = self.alive[group.name].nonzero().flatten().tolist()
            channels.sort(key=umm.__getitem__)
            free = channels[: max(0, left[group.name] - self.minimum[group.name])]
            candidates += [(umm[c], group.name, c) for c in free]
        for _, name, channel in sorted(candidates)[: max(0, todo)]:
            left[name] -= 1
            if self._capacity(left) < self.target:
                return
            self.alive[name][channel] = False

    def _capacity(self, left: Mapping[str, int]) -> int:
        """Weights that fit into the masked layers with so many channels left in each group."""
        size = {name: w.numel() for name, w in self.masks.weights.items()}
        for group in self.groups:
            for name in (group.producer, *group.consumers):
                size[name] = size[name] // group.size * left[group.name]
        return sum(size.values())

    def state_dict(self) -> dict[str, Any]:
        alive = {name: vector.clone() for name, vector in self.alive.items()}
        return {**super().state_dict(), "alive": alive}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        for name, vector in self.alive.items():
            vector.copy_(state["alive"][name])

    def facts(self) -> dict[str, Any]:
        return {
            **super().facts(),
            "channels": {group.name: group.size for group in self.groups},
            "channels_kept": {name: int(a.count_nonzero()) for name, a in self.alive.items()},
        }
