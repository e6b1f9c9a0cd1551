"""No sparsity at all, as a method: so that dense and sparse training are one code path."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer

from paper_repro.registry import Spec
from paper_repro.sparse import METHODS
from paper_repro.sparse.masks import Masks
from paper_repro.sparse.method import SparseMethod
from paper_repro.sparse.plan import Plan, Stage

__all__ = ["Dense"]


@METHODS.register("dense")
class Dense(SparseMethod):
    """Every weight active (Table 6, and round 0 of every pruning chain)."""

    def __init__(self, model: nn.Module, optimizer: Optimizer | None = None) -> None:
        super().__init__(model, optimizer)
        self.masks = Masks(model, optimizer, {})

    @classmethod
    def planned(cls, spec: Spec, model: nn.Module, total_steps: int, steps_per_epoch: int) -> Plan:
        return Plan((Stage(total_steps, {}),))

    @classmethod
    def nominal_sparsity(cls, spec: Spec) -> float:
        return 0.0
