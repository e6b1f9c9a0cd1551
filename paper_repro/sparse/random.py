"""Random pruning at initialisation: the baseline that every criterion has to beat."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.sparse import METHODS
from paper_repro.sparse.distribution import groups_of
from paper_repro.sparse.masks import Masks
from paper_repro.sparse.method import SparseMethod
from paper_repro.sparse.select import keep_in_groups

__all__ = ["Random"]


@METHODS.register("random")
class Random(SparseMethod):
    """A fixed random mask with exact counts per layer.

    Args:
        model: the network at initialisation.
        optimizer: the optimizer that will train it.
        sparsity: pruned fraction, in [0, 1).
        distribution: see :func:`paper_repro.sparse.layer_counts`; also ``n:m``
            (:func:`paper_repro.sparse.groups_of`).
        seed: of the masks.
    """

    layerwise = True
    chooses_in_groups = True

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        *,
        sparsity: float,
        distribution: str = "uniform",
        seed: int = 0,
    ) -> None:
        super().__init__(model, optimizer, seed)
        counts = self.sparse_layers(sparsity, distribution)
        masks = self.random_masks(counts)
        if groups := groups_of(distribution):
            masks = {name: self._in_groups(mask.shape, *groups) for name, mask in masks.items()}
        self.masks = Masks(model, optimizer, masks)

    def _in_groups(self, shape: torch.Size, n: int, m: int) -> Tensor:
        device = self.generator.device
        return keep_in_groups(torch.rand(shape, generator=self.generator, device=device), n, m)
