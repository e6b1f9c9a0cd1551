"""MEST(EM): prune past the target and grow back at random, ever less far (Yuan et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.sparse import METHODS
from paper_repro.sparse.distribution import layer_counts, prunable
from paper_repro.sparse.dynamic import REGROWN_BEFORE, DynamicMethod, check_regrown
from paper_repro.sparse.layers import given_densities
from paper_repro.sparse.masks import Masks
from paper_repro.sparse.select import keep_largest, keep_random

__all__ = ["MEST"]

# Sparsity to which the first two stages prune, by target sparsity, as the released schedules
# have it; elsewhere the stages prune 20 % and 10 % of the active weights, as they do at 90 %.
_RELEASED = {0.9: (0.92, 0.91), 0.95: (0.97, 0.96), 0.98: (0.982, 0.981)}


@METHODS.register("mest")
class MEST(DynamicMethod):
    """Memory-economic sparse training with elastic mutation, MEST(EM).

    Starts from each layer's largest |w|. Then, every 1/32 of the training (5 of 160 epochs), it
    prunes each layer's smallest scores down to a sparsity above the target and grows back to the
    target at random. That sparsity steps towards the target at 100/160 and 130/160 of the
    training; after the latter the topology is fixed. At no time is the network denser than asked.
    What is grown starts from 0, a position pruned in the same update too, as in the authors' code.

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
        regrown: ``zero`` or ``keep``: what a position pruned and grown in the same update (2 % of
            the pruned ones at 90 % sparsity) starts from, 0 or, as in RigL, its value and momentum.
        seed: of the growth.
    """

    OPTION_BEFORE = REGROWN_BEFORE
    layerwise = True

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
        regrown: str = "zero",
        seed: int = 0,
    ) -> None:
        if updates < 1 or not 0 <= first_stop <= second_stop <= 1 or gradient_weight < 0:
            raise UserError(
                "MEST needs updates >= 1, 0 <= first_stop <= second_stop <= 1 and "
                f"gradient_weight >= 0, not {updates}, {first_stop}, {second_stop}, "
                f"{gradient_weight}"
            )
        super().__init__(model, optimizer, seed)
        self.gradient_weight = gradient_weight
        self.regrown = check_regrown(regrown)
        self.period = max(1, round(total_steps / updates))
        self.stops = (first_stop * total_steps, second_stop * total_steps)
        self.target = self.sparse_layers(sparsity, distribution)
        self.lower = [self._pruned(sparsity, s, distribution) for s in stage_sparsities(sparsity)]
        weights = prunable(model)
        masks = {name: keep_largest(weights[name].abs(), k) for name, k in self.target.items()}
        self.masks = Masks(model, optimizer, masks)

    def _pruned(self, sparsity: float, stage: float, distribution: str) -> dict[str, int]:
        """Weights that are left in each layer where a stage has pruned to sparsity ``stage``."""
        counts = layer_counts(self.model, stage, distribution)
        share = (1 - stage) / (1 - sparsity)
        own = given_densities(self.model)  # of a layer with its own, the same part is pruned
        return {
            name: max(1, round(share * k)) if name in own else counts[name]
            for name, k in self.target.items()
        }

    def due(self, t: int) -> bool:
        return (t + 1) % self.period == 0 and t + 1 < self.stops[1]

    def choose(self, t: int) -> dict[str, Tensor]:
        lower = self.lower[0 if t + 1 < self.stops[0] else 1]
        kept = {
            name: keep_largest(self.score(name), lower[name], self.masks[name])
            for name in self.masks
        }
        if self.regrown == "zero":
            self.prune(kept)
        return self.grow(kept, self.target)

    def grow(self, kept: dict[str, Tensor], counts: Mapping[str, int]) -> dict[str, Tensor]:
        """``kept`` and random positions beside it, ``counts[name]`` active ones in all."""
        grown = {}
        for name, mask in kept.items():
            missing = counts[name] - int(mask.sum())
            grown[name] = mask | keep_random(mask.shape, missing, self.generator, among=~mask)
        return grown

    def score(self, name: str) -> Tensor:
        """|w| + λ|g| of a layer's weights: the smallest are pruned."""
        score = self.weight(name).abs()
        if self.gradient_weight:
            score = score + self.gradient_weight * self.gradient(name).abs()
        return score


def stage_sparsities(sparsity: float) -> tuple[float, float]:
    """The sparsities to which the two stages prune before growing back to ``sparsity``."""
    for target, stages in _RELEASED.items():
        if abs(sparsity - target) < 1e-9:
            return stages
    return 1 - 0.8 * (1 - sparsity), 1 - 0.9 * (1 - sparsity)
