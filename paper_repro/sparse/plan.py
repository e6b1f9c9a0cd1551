"""How dense a training will be, known before it is trained: what its FLOPs are counted from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from paper_repro.sparse.distribution import layer_counts, prunable

__all__ = ["Plan", "Stage", "densities"]


@dataclass(frozen=True)
class Stage:
    """Consecutive steps of one topology's size.

    Attributes:
        steps: how many.
        density: fraction of active weights by name; what is not named is dense.
        dense_gradients: those of the steps that take the gradient by all weights, the pruned
            ones too, for a topology update to grow by.
    """

    steps: int
    density: Mapping[str, float]
    dense_gradients: int = 0


@dataclass(frozen=True)
class Plan:
    """A whole training, stage by stage.

    Attributes:
        stages: in order; their steps sum to those of the training.
        estimated: whether the layers' shares are a guess, because a method ranks the weights of
            all layers together. Their total is then right and the FLOPs are approximate.
    """

    stages: tuple[Stage, ...]
    estimated: bool = False

    @property
    def final(self) -> Mapping[str, float]:
        """Layer densities of the trained network."""
        return self.stages[-1].density


def densities(model: nn.Module, counts: Mapping[str, float]) -> dict[str, float]:
    """Active fraction of each layer that is not dense, from its number of active weights."""
    sizes = {name: weight.numel() for name, weight in prunable(model).items()}
    return {name: k / sizes[name] for name, k in counts.items() if k < sizes[name]}


def constant(
    model: nn.Module, sparsity: float, distribution: str, steps: int, dense_gradients: int = 0
) -> Plan:
    """The plan of a method that keeps each layer at what the distribution gives it."""
    counts = layer_counts(model, sparsity, distribution)
    return Plan((Stage(steps, densities(model, counts), dense_gradients),))
