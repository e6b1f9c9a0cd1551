"""Magnitude pruning at initialisation."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer

from paper_repro.sparse import METHODS
from paper_repro.sparse.distribution import check_sparsity, groups_of, prunable
from paper_repro.sparse.masks import Masks
from paper_repro.sparse.method import SparseMethod
from paper_repro.sparse.select import keep_in_groups, keep_largest, keep_largest_globally

__all__ = ["Magnitude"]


@METHODS.register("magnitude")
class Magnitude(SparseMethod):
    """A fixed mask of the largest |w| at initialisation.

    Args:
        model: the network at initialisation.
        optimizer: the optimizer that will train it.
        sparsity: pruned fraction, in [0, 1).
        distribution: ``global`` (one ranking over all prunable weights) or one of
            :func:`paper_repro.sparse.layer_counts` (a ranking in each layer), or ``n:m``
            (:func:`paper_repro.sparse.groups_of`; a ranking in each group of m).
    """

    layerwise = True
    chooses_in_groups = True

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        *,
        sparsity: float,
        distribution: str = "global",
    ) -> None:
        super().__init__(model, optimizer)
        weights = prunable(model)
        size = {name: w.abs() for name, w in weights.items()}
        if distribution == "global":
            total = sum(w.numel() for w in weights.values())
            masks = keep_largest_globally(size, round((1 - check_sparsity(sparsity)) * total))
        else:
            counts = self.sparse_layers(sparsity, distribution)
            groups = groups_of(distribution)
            masks = {
                name: keep_in_groups(size[name], *groups) if groups else keep_largest(size[name], k)
                for name, k in counts.items()
            }
        self.masks = Masks(model, optimizer, masks)
