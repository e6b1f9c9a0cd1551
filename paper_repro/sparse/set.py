"""SET: sparse evolutionary training (Mocanu et al. 2018): RigL with random growth."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.sparse import METHODS
from paper_repro.sparse.dynamic import REGROWN_BEFORE, check_regrown
from paper_repro.sparse.rigl import RigL

__all__ = ["SET"]


@METHODS.register("set")
class SET(RigL):
    """Every epoch, in each layer, drop the fraction ζ of smallest |w| and grow as many at random.

    Dropping ranks by |w|, as later implementations do; the original drops the smallest positive
    and the largest negative weights. The update follows the optimizer's step at an epoch's end, the
    last epoch's excepted.

    Args:
        model: the network at initialisation.
        optimizer: the optimizer that trains it, wrapped or not.
        sparsity: pruned fraction, in [0, 1).
        total_steps: optimizer steps of the whole training.
        steps_per_epoch: optimizer steps of one epoch.
        distribution: see :func:`paper_repro.sparse.layer_counts`.
        zeta: fraction ζ of active weights to move, in (0, 1].
        period: epochs between updates; may be fractional.
        regrown: ``zero`` or ``keep``: what a position dropped and grown in the same update starts
            from, 0 as everything that is grown or, as in RigL, its value and momentum.
        seed: of initial masks and growth.
    """

    replaces_step = False
    OPTION_BEFORE = REGROWN_BEFORE

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        sparsity: float,
        total_steps: int,
        steps_per_epoch: int,
        distribution: str = "erk",
        zeta: float = 0.3,
        period: float = 1.0,
        regrown: str = "zero",
        seed: int = 0,
    ) -> None:
        if not 0 < zeta <= 1 or period <= 0:
            raise UserError(f"SET needs zeta in (0, 1] and period > 0, not {zeta} and {period}")
        self.regrown = check_regrown(regrown)
        super().__init__(
            model,
            optimizer,
            sparsity=sparsity,
            total_steps=total_steps,
            distribution=distribution,
            delta_t=max(1, round(period * steps_per_epoch)),
            alpha=zeta,
            stop=1.0,
            seed=seed,
        )

    def due(self, t: int) -> bool:
        return (t + 1) % self.delta_t == 0 and t + 1 < self.end

    def drop_fraction(self, t: int) -> float:
        return self.alpha

    def growth_score(self, name: str) -> Tensor:
        device = self.generator.device
        shape = self.masks.weights[name].shape
        draw = torch.rand(shape, generator=self.generator, device=device)
        return draw.to(self.masks.weights[name].device)
