"""Random pruning at initialisation: the baseline that every criterion has to beat."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer

from paper_repro.sparse import METHODS
from paper_repro.sparse.masks import Masks
from paper_repro.sparse.method import SparseMethod

__all__ = ["Random"]


@METHODS.register("random")
class Random(SparseMethod):
    """A fixed random mask with exact counts per layer.

    Args:
        model: the network at initialisation.
        optimizer: the optimizer that will train it.
        sparsity: pruned fraction, in [0, 1).
        distribution: see :func:`paper_repro.sparse.layer_counts`.
        seed: of the masks.
    """

    layerwise = True

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
        self.masks = Masks(model, optimizer, self.random_masks(counts))
