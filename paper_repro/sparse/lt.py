"""LT: lottery tickets by iterative magnitude pruning (Frankle and Carbin 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.registry import Spec
from paper_repro.sparse import METHODS
from paper_repro.sparse.distribution import check_sparsity, prunable
from paper_repro.sparse.masks import Masks
from paper_repro.sparse.method import SparseMethod
from paper_repro.sparse.select import keep_largest_globally

__all__ = ["LT", "remaining", "rounds_to", "spec_reaching"]


#: Rounds of a chain; 50 at 10 % a round leave half a percent.
MOST_ROUNDS = 100


@METHODS.register("lt")
class LT(SparseMethod):
    """One round of iterative magnitude pruning: prune what the round before trained, rewind, train.

    Round k removes ceil(r · remaining) weights of smallest trained |w|, globally over the
    surviving prunable weights, and sets the survivors back to their initial values, exactly.
    Round 0 is dense training. A round is a training run of its own whose parent is the round
    before, so one chain serves every sparsity on its way, masks are nested along it, and an
    interrupted chain goes on where it stopped. Build a round with :func:`spec_reaching`.

    Args:
        model: the network at initialisation (the values to rewind to).
        optimizer: the optimizer that will train it.
        parent: the finished round before: ``{"weights": ..., "masks": ...}`` by name, with the
            trained values of the prunable weights and boolean masks ({} if it was dense).
        prune_ratio: r, the fraction of the remaining weights removed in one round, in (0, 1).
        round: k >= 1.
        sparsity: target of a trimmed last round, which prunes to exactly this sparsity instead
            of by the ratio; None for an ordinary round.

    Raises:
        UserError: for options out of range, or a trimmed target not beyond the parent's sparsity.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        *,
        parent: Mapping[str, Mapping[str, Tensor]],
        prune_ratio: float = 0.2,
        round: int,
        sparsity: float | None = None,
    ) -> None:
        _check_round(prune_ratio, round)
        super().__init__(model, optimizer)
        weights = prunable(model)
        alive = {
            name: parent["masks"].get(name, torch.ones_like(w, dtype=torch.bool)).to(w.device)
            for name, w in weights.items()
        }
        count = sum(int(mask.count_nonzero()) for mask in alive.values())
        if sparsity is None:
            keep = remaining(count, prune_ratio)
        else:
            total = sum(w.numel() for w in weights.values())
            keep = math.floor((1 - check_sparsity(sparsity)) * total + 0.5)
            if keep > count:
                raise UserError(
                    f"round {round} cannot be trimmed to sparsity {sparsity}: "
                    f"the round before kept only {count} weights"
                )
        size = {name: parent["weights"][name].to(w.device).abs() for name, w in weights.items()}
        self.masks = Masks(model, optimizer, keep_largest_globally(size, keep, alive))

    @classmethod
    def parent_spec(cls, spec: Spec) -> Spec:
        name = next(n for n, member in METHODS.items() if member is cls)
        options: dict[str, Any] = dict(spec.options)
        if options["round"] <= 1:
            return METHODS.spec("dense")
        return METHODS.spec(name, **{**options, "round": options["round"] - 1, "sparsity": None})

    @classmethod
    def nominal_sparsity(cls, spec: Spec) -> float:
        # Here too: what is found when the round is built is found after its parents' trainings.
        _check_round(spec["prune_ratio"], spec["round"])
        if spec["round"] > MOST_ROUNDS:
            raise UserError(
                f"round {spec['round']} is the end of as many trainings; at most {MOST_ROUNDS}"
            )
        if spec["sparsity"] is not None:
            return float(spec["sparsity"])
        return float(1 - (1 - spec["prune_ratio"]) ** spec["round"])

    def facts(self) -> dict[str, Any]:
        return {"remaining_weights": sum(self.masks.counts().values())}


def _check_round(prune_ratio: float, round: int) -> None:
    check_ratio(prune_ratio)
    if round < 1:
        raise UserError(f"a pruning round is numbered from 1, not {round}")


def check_ratio(prune_ratio: float) -> float:
    """``prune_ratio`` itself; UserError if it is not in (0, 1)."""
    if not 0 < prune_ratio < 1:
        raise UserError(f"prune_ratio must lie between 0 and 1, not {prune_ratio}")
    return prune_ratio


def remaining(count: int, prune_ratio: float) -> int:
    """Weights left of ``count`` after one round, which removes ceil(r · count)."""
    # The tolerance keeps 0.55 · 100 from becoming 55.00000000000001 and then 56.
    return count - math.ceil(prune_ratio * count - 1e-9)


def rounds_to(sparsity: float, prune_ratio: float) -> int:
    """The first round k whose density (1 - r)^k is at or below 1 - sparsity."""
    density = 1 - check_sparsity(sparsity)
    return math.ceil(math.log(density) / math.log(1 - check_ratio(prune_ratio)) - 1e-9)


def spec_reaching(
    sparsity: float,
    prune_ratio: float = 0.2,
    *,
    trim: bool = True,
    rounds: int | None = None,
    method: str = "lt",
) -> Spec:
    """The round of a chain that reaches ``sparsity``.

    Args:
        sparsity: in (0, 1); at 0 the chain is dense training.
        prune_ratio: r.
        trim: prune the last round to exactly ``sparsity``; else it prunes by the ratio like the
            others and may overshoot.
        rounds: how many rounds, where a publication says so; as few as reach it otherwise.
        method: ``lt`` or another method made of such rounds.
    """
    k = rounds_to(sparsity, prune_ratio) if rounds is None else rounds
    if k == 0:
        return METHODS.spec("dense")
    if k > MOST_ROUNDS:
        raise UserError(
            f"pruning {prune_ratio:g} a round takes {k} rounds, each a training, to sparsity "
            f"{sparsity:g}; at most {MOST_ROUNDS}: choose a larger prune_ratio"
        )
    return METHODS.spec(
        method, prune_ratio=prune_ratio, round=k, sparsity=sparsity if trim else None
    )
