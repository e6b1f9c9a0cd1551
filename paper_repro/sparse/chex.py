"""CHEX: channel exploration by repeated removal and regrowth (Hou et al., CVPR 2022)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.optim import Perturbing, exact
from paper_repro.sparse import METHODS
from paper_repro.sparse.channels import ChannelGroup, channel_masks, removable_groups
from paper_repro.sparse.distribution import check_sparsity
from paper_repro.sparse.dynamic import DynamicMethod
from paper_repro.sparse.masks import Masks
from paper_repro.sparse.replicas import of_the_first
from paper_repro.sparse.select import keep_largest, keep_largest_globally

__all__ = ["CHEX", "leverage", "novelty"]

_MOST = 1_000_000  # updates


@METHODS.register("chex")
class CHEX(DynamicMethod):
    r"""Periodically remove channels by column subset selection and regrow others.

    Training starts with the filters of largest :math:`\ell_1` norm, the fraction
    :math:`1 - S + \delta_0` of each group of channels. Each of n updates, j = 1, ..., n, evenly
    spread over the first part of the training, then

    1. shares out the channels to keep, the fraction 1 - S of all, among the groups by one global
       ranking of the batch-norm scales :math:`|\gamma|`;
    2. keeps that many of each group's channels, those of largest leverage score (see
       :func:`leverage`), and removes the others;
    3. regrows in each group the fraction
       :math:`\delta_j = \tfrac{\delta_0}{2}(1 + \cos(\pi j / n))` of its channels, drawn without
       replacement with probability :math:`\propto \exp(\nu)` from the removed ones, ν their
       :func:`novelty`; they return with the values they had when last in use.

    :math:`\delta_n = 0`, so the last update leaves exactly the fraction 1 - S (rounded, and at
    least one channel of each group), and the structure is fixed from there on. Until then the
    network is wider than asked.

    What follows the paper and its public code: all of the above; their settings on ImageNet
    (:math:`\delta_0 = 0.3`, an update every 2 of 250 epochs until epoch 180) are the defaults as
    fractions of the training. What is simplified: the channels between blocks are never removed,
    as there, but neither are those of the shortcuts; a group's regrowth does not depend on
    :math:`|\gamma|` (the public code shares it out by the ranking); batch-norm parameters of
    removed channels are not zeroed but left idle, since no mask ever covers them; a group without
    batch norm is ranked by its filters' root mean square; wide weight matrices use the leverage
    scores of their row space where the public code falls back on :math:`\ell_1` norms.

    Args:
        model: the network at initialisation.
        optimizer: the optimizer that trains it, wrapped or not.
        sparsity: S, the fraction of the channels of all groups (see
            :func:`paper_repro.sparse.channel_groups`) to remove, in [0, 1). In a network of basic
            blocks the masked layers lose about the same fraction of their weights, exactly so if
            all groups are narrowed alike; in a plain network they lose more.
        total_steps: optimizer steps of the whole training.
        updates: n, how often channels are removed and regrown.
        stop: fraction of the training at which the last update happens.
        regrow: :math:`\delta_0`, in [0, 1].
        seed: of the regrowth.

    Memory: one more copy of the masked weights, the values that removed channels return with.

    Raises:
        UserError: for options out of range, or a model without removable channels.
    """

    masks_only = False  # regrown channels get their last values back
    structured = True

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        sparsity: float,
        total_steps: int,
        updates: int = 90,
        stop: float = 0.72,
        regrow: float = 0.3,
        seed: int = 0,
    ) -> None:
        if not 1 <= updates <= _MOST or not 0 <= stop <= 1 or not 0 <= regrow <= 1:
            raise UserError(
                f"CHEX needs updates in [1, {_MOST}], stop in [0, 1] and regrow in [0, 1], "
                f"not {updates}, {stop} and {regrow}"
            )
        density = 1 - check_sparsity(sparsity)
        self.groups = removable_groups(model)
        super().__init__(model, optimizer, seed)
        total = sum(group.size for group in self.groups)
        self.keep = max(len(self.groups), round(density * total))
        self.regrow = regrow
        self.rounds = updates
        # Update j by the step that it follows; where two coincide the later one counts.
        end = stop * total_steps
        self.plan = {max(1, round(j / updates * end)): j for j in range(1, updates + 1)}
        modules = dict(model.named_modules())
        weights = {name: modules[_layer(name)].weight for name in self._names()}
        # Per-channel tensors beside the weights, which come back with a channel.
        self.places: dict[str, tuple[nn.Module, str, ChannelGroup]] = {
            f"{name}.{key}": (modules[name], key, group)
            for group in self.groups
            for name in (group.name, *group.norms)
            for key in ("weight", "bias", "running_mean", "running_var")
            if (tensor := getattr(modules[name], key, None)) is not None and tensor.dim() == 1
        }
        kept = {
            g.name: keep_largest(
                weights[g.producer].abs().flatten(1).sum(1),
                min(g.size, math.ceil((density + regrow) * g.size - 1e-9)),
            )
            for g in self.groups
        }
        self.memory = {name: w.detach().clone() for name, w in weights.items()}
        self.memory |= {name: t.detach().clone() for name, (t, _) in self.beside.items()}
        self.masks = Masks(model, optimizer, channel_masks(model, self.groups, kept))

    @property
    def beside(self) -> dict[str, tuple[Tensor, ChannelGroup]]:
        """The per-channel tensors as they are now: a model that moves has new buffers."""
        return {name: (getattr(m, key), group) for name, (m, key, group) in self.places.items()}

    def _names(self) -> list[str]:
        return list(dict.fromkeys(n for g in self.groups for n in (g.producer, *g.consumers)))

    def kept(self) -> dict[str, Tensor]:
        """For each group's name a boolean vector: the channels in use."""
        return {g.name: self.masks[g.producer].flatten(1).any(1) for g in self.groups}

    def due(self, t: int) -> bool:
        return t + 1 in self.plan

    def regrown_fraction(self, j: int) -> float:
        """δ_j, the fraction of a group's channels that update j regrows at most."""
        return self.regrow / 2 * (1 + math.cos(math.pi * j / self.rounds))

    def choose(self, t: int) -> dict[str, Tensor]:
        fraction = self.regrown_fraction(self.plan[t + 1])
        alive = self.kept()
        share = self._share(alive)
        new: dict[str, Tensor] = {}
        for group in self.groups:
            filters = self.weight(group.producer).flatten(1)
            old = alive[group.name]
            score = torch.zeros(group.size, device=filters.device)
            score[old] = leverage(filters[old], share[group.name])
            kept = keep_largest(score, share[group.name], old)
            count = min(math.ceil(fraction * group.size - 1e-9), group.size - share[group.name])
            odds = novelty(self.memory[group.producer].flatten(1), filters[kept])
            # Adding Gumbel noise and taking the largest draws in proportion to exp(odds).
            noise = torch.empty(group.size, device=self.generator.device)
            noise.exponential_(generator=self.generator)
            drawn = odds - noise.log().to(odds.device)
            new[group.name] = kept | keep_largest(drawn, count, ~kept)
        return channel_masks(self.model, self.groups, new)

    def _share(self, alive: Mapping[str, Tensor]) -> dict[str, int]:
        """Channels to keep in each group, by the global ranking of the channels in use."""
        # Of weights that overflowed too some must be kept: the loss ends the run, not this.
        scale = {g.name: self._scale(g).nan_to_num(0.0) for g in self.groups}
        for name, s in scale.items():
            s[torch.where(alive[name], s, -1.0).argmax()] = math.inf  # no group dies out
        chosen = keep_largest_globally(scale, self.keep, alive)
        return {name: int(c.count_nonzero()) for name, c in chosen.items()}

    def _scale(self, group: ChannelGroup) -> Tensor:
        for name in group.norms:
            if f"{name}.weight" in self.beside:
                return exact(self.optimizer, self.beside[f"{name}.weight"][0]).abs()
        return self.weight(group.producer).flatten(1).square().mean(1).sqrt()

    @torch.no_grad()
    def update(self, t: int) -> None:
        """Choose and adopt new masks, and give regrown channels their last values back."""
        before, alive, beside = self.masks.state_dict(), self.kept(), self.beside
        if self.updates == 0:  # DDP sends rank 0's weights after the method took its own
            self.memory = of_the_first(self.memory)
        device = next(iter(before.values())).device
        self.memory = {name: tensor.to(device) for name, tensor in self.memory.items()}
        for name, mask in before.items():
            self.memory[name] = torch.where(mask, self.weight(name), self.memory[name])
        for name, (tensor, group) in beside.items():
            now = exact(self.optimizer, tensor) if isinstance(tensor, nn.Parameter) else tensor
            self.memory[name] = torch.where(alive[group.name], now, self.memory[name])
        super().update(t)
        after = self.kept()
        optimizer = self.optimizer
        with (
            optimizer.unperturbed()
            if isinstance(optimizer, Perturbing)
            else contextlib.nullcontext()
        ):
            for name, mask in before.items():
                weight = self.masks.weights[name]
                grown = self.masks[name] & ~mask
                weight.copy_(torch.where(grown, self.memory[name], weight))
            for name, (tensor, group) in beside.items():
                grown = after[group.name] & ~alive[group.name]
                tensor.copy_(torch.where(grown, self.memory[name], tensor))

    def state_dict(self) -> dict[str, Any]:
        memory = {name: tensor.clone() for name, tensor in self.memory.items()}
        return {**super().state_dict(), "memory": memory}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        for name, tensor in self.memory.items():
            tensor.copy_(state["memory"][name])

    def missed(self, asked: float) -> float:
        """As elsewhere, but of channels, which is what ``sparsity`` counts here."""
        total = sum(group.size for group in self.groups)
        off = 1 - sum(int(k.count_nonzero()) for k in self.kept().values()) / total - asked
        return off if round(abs(off) * total, 3) > 1 else 0.0

    def facts(self) -> dict[str, Any]:
        return {
            **super().facts(),
            "channels": {group.name: group.size for group in self.groups},
            "channels_kept": {name: int(k.count_nonzero()) for name, k in self.kept().items()},
        }


def _layer(weight: str) -> str:
    return weight.removesuffix(".weight")


def leverage(filters: Tensor, k: int) -> Tensor:
    r"""Leverage scores of filters, for choosing the k that best span all of them.

    With the filters as the columns of X and :math:`V_k` its first k right singular vectors,
    filter j scores :math:`\lVert (V_k)_{j,:} \rVert^2`: how much of the best rank-k approximation
    of X rests on it.

    Args:
        filters: [C, F], one filter a row.
        k: how many are to be chosen.

    Returns:
        [C].
    """
    # Weights that overflowed must end the run by its loss, not here.
    columns = filters.detach().float().nan_to_num(0.0, 0.0, 0.0).T
    _, _, rows = torch.linalg.svd(columns, full_matrices=False)
    return rows[:k].square().sum(0)


def novelty(candidates: Tensor, kept: Tensor) -> Tensor:
    r"""Distance of each candidate filter from the span of the kept ones.

    :math:`\nu_j = \lVert w_j - P w_j \rVert`, P the orthogonal projection on the kept filters.

    Args:
        candidates: [C, F], one filter a row.
        kept: [K, F].

    Returns:
        [C].
    """
    x = candidates.detach().float().nan_to_num(0.0, 0.0, 0.0)
    columns = kept.detach().float().nan_to_num(0.0, 0.0, 0.0).T
    basis, values, _ = torch.linalg.svd(columns, full_matrices=False)
    tiny = values.max() * max(columns.shape) * torch.finfo(values.dtype).eps
    basis = basis * (values > tiny)  # directions that the kept filters do not have
    return torch.linalg.vector_norm(x - x @ basis @ basis.T, dim=1)
