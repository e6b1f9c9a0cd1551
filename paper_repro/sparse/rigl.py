"""RigL: drop the smallest weights, grow where the dense gradient is largest (Evci et al. 2020)."""

from __future__ import annotations

import math
import warnings

from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.registry import Spec
from paper_repro.sparse import METHODS
from paper_repro.sparse.dynamic import DynamicMethod
from paper_repro.sparse.masks import Masks
from paper_repro.sparse.select import keep_largest

__all__ = ["RigL"]


@METHODS.register("rigl")
class RigL(DynamicMethod):
    r"""Every ΔT steps, in each layer, drop a fraction of the weights and grow as many.

    .. math:: f(t) = \tfrac{\alpha}{2}\bigl(1 + \cos(\pi t / T_\mathrm{end})\bigr)

    of a layer's active weights are dropped, those of smallest :math:`|w|`, and as many inactive
    positions become active, those of largest :math:`|\nabla_w L|`. A position may be dropped and
    regrown at once and then keeps its value and momentum; otherwise it starts from 0. The update
    takes the place of the optimizer's step.

    Args:
        model: the network at initialisation.
        optimizer: the optimizer that trains it, wrapped or not.
        sparsity: pruned fraction, in [0, 1).
        total_steps: optimizer steps of the whole training.
        distribution: see :func:`paper_repro.sparse.layer_counts`.
        delta_t: steps between updates (ΔT).
        alpha: initial drop fraction α, in (0, 1].
        stop: fraction of the training after which the topology is fixed (:math:`T_\mathrm{end}`).
        seed: of the initial random masks.
    """

    replaces_step = True
    layerwise = True

    #: What a position dropped and regrown in the same update starts from, ``zero`` or ``keep``.
    regrown = "keep"

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        sparsity: float,
        total_steps: int,
        distribution: str = "erk",
        delta_t: int = 100,
        alpha: float = 0.3,
        stop: float = 0.75,
        seed: int = 0,
    ) -> None:
        if delta_t < 1 or not 0 < alpha <= 1 or not 0 <= stop <= 1:
            raise UserError(
                "RigL needs delta_t >= 1, alpha in (0, 1] and stop in [0, 1], "
                f"not {delta_t}, {alpha}, {stop}"
            )
        super().__init__(model, optimizer, seed)
        self.delta_t = delta_t
        self.alpha = alpha
        self.end = stop * total_steps
        if sparsity > 0 and stop > 0 and delta_t >= self.end:
            warnings.warn(
                f"{type(self).__name__} makes no topology update, so that its random masks stay: "
                f"the first would come after {delta_t} steps, and the last must come before step "
                f"{self.end:g} of {total_steps}; give shorter intervals",
                stacklevel=2,
            )
        counts = self.sparse_layers(sparsity, distribution)
        self.masks = Masks(model, optimizer, self.random_masks(counts))

    @classmethod
    def dense_gradients(cls, spec: Spec, total_steps: int) -> int:
        if not cls.replaces_step:
            return 0
        end = min(total_steps, math.ceil(spec.get("stop", 1.0) * total_steps))
        return len(range(spec["delta_t"], end, spec["delta_t"]))

    def due(self, t: int) -> bool:
        return t > 0 and t % self.delta_t == 0 and t < self.end

    def drop_fraction(self, t: int) -> float:
        """f(t), the fraction of active weights to drop at step t."""
        return self.alpha / 2 * (1 + math.cos(math.pi * t / self.end))

    def choose(self, t: int) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}
        dropped: dict[str, int] = {}
        for name, active in self.masks.counts().items():
            dropped[name] = int(self.drop_fraction(t) * active)
            score = self.weight(name).abs()
            kept[name] = keep_largest(score, active - dropped[name], self.masks[name])
        scores = {name: self.growth_score(name) for name in kept}
        if self.regrown == "zero":
            self.prune(kept)
        return {
            name: mask | keep_largest(scores[name], dropped[name], ~mask)
            for name, mask in kept.items()
        }

    def growth_score(self, name: str) -> Tensor:
        """What ranks the positions to grow in a layer: the largest grow."""
        return self.gradient(name).abs()
