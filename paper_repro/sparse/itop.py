"""ITOP: SET and RigL with long update intervals and a decaying death rate (Liu et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.sparse import METHODS
from paper_repro.sparse.dynamic import DynamicMethod
from paper_repro.sparse.rigl import RigL
from paper_repro.sparse.set import SET

__all__ = ["SETITOP", "RigLITOP", "decayed"]

FLOOR = 0.005


def decayed(t: int, total_steps: int, start: float) -> float:
    """Fraction of a layer's weights to move at step t: a cosine from ``start`` down to 0.005."""
    low = min(FLOOR, start)
    return low + (start - low) / 2 * (1 + math.cos(math.pi * t / total_steps))


class _Exploring(DynamicMethod):
    """Counts which positions have ever been active: the over-parameterization in time, R_s."""

    def _seen(self) -> dict[str, Tensor]:
        if not hasattr(self, "_ever"):
            self._ever = self.masks.state_dict()
        return self._ever

    @torch.no_grad()
    def update(self, t: int) -> None:
        seen = self._seen()
        super().update(t)
        for name, mask in self.masks.state_dict().items():
            seen[name] = seen[name].to(mask.device) | mask

    def explored(self) -> float:
        """R_s: the fraction of the masked layers' positions that have been active at some time."""
        seen = self._seen().values()
        return sum(int(s.count_nonzero()) for s in seen) / max(1, sum(s.numel() for s in seen))

    def state_dict(self) -> dict[str, Any]:
        seen = {name: mask.clone() for name, mask in self._seen().items()}
        return {**super().state_dict(), "ever_active": seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._ever = {
            name: mask.to(self.masks.weights[name].device, copy=True)
            for name, mask in state["ever_active"].items()
        }

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "explored": self.explored()}


@METHODS.register("rigl-itop")
class RigLITOP(_Exploring, RigL):
    """RigL-ITOP: every ΔT = 4000 steps move the fraction f(t) of each layer, to the last step.

    Drop and growth are RigL's, but updates are rare enough for grown weights to be trained
    before they are judged, and f falls along a cosine from 0.5 to 0.005 over the whole training.
    The record holds R_s, the fraction of positions ever active.

    Args:
        model: the network at initialisation.
        optimizer: the optimizer that trains it, wrapped or not.
        sparsity: pruned fraction, in [0, 1).
        total_steps: optimizer steps of the whole training.
        distribution: see :func:`paper_repro.sparse.layer_counts`.
        delta_t: steps between updates; the published ones belong to trainings of 100,000 steps.
        death_rate: f(0), in (0, 1].
        seed: of the initial random masks.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        sparsity: float,
        total_steps: int,
        distribution: str = "erk",
        delta_t: int = 4000,
        death_rate: float = 0.5,
        seed: int = 0,
    ) -> None:
        _check(delta_t, death_rate)
        super().__init__(
            model,
            optimizer,
            sparsity=sparsity,
            total_steps=total_steps,
            distribution=distribution,
            delta_t=delta_t,
            alpha=death_rate,
            stop=1.0,
            seed=seed,
        )
        self.total_steps = total_steps

    def drop_fraction(self, t: int) -> float:
        return decayed(t, self.total_steps, self.alpha)


@METHODS.register("set-itop")
class SETITOP(_Exploring, SET):
    """SET-ITOP: every ΔT = 1500 steps move the fraction f(t) of each layer at random.

    As :class:`RigLITOP`, with SET's random growth.

    Args:
        model: the network at initialisation.
        optimizer: the optimizer that trains it, wrapped or not.
        sparsity: pruned fraction, in [0, 1).
        total_steps: optimizer steps of the whole training.
        distribution: see :func:`paper_repro.sparse.layer_counts`.
        delta_t: steps between updates; the published ones belong to trainings of 100,000 steps.
        death_rate: f(0), in (0, 1].
        regrown: as :class:`paper_repro.sparse.SET`'s.
        seed: of initial masks and growth.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        sparsity: float,
        total_steps: int,
        distribution: str = "erk",
        delta_t: int = 1500,
        death_rate: float = 0.5,
        regrown: str = "zero",
        seed: int = 0,
    ) -> None:
        _check(delta_t, death_rate)
        super().__init__(
            model,
            optimizer,
            sparsity=sparsity,
            total_steps=total_steps,
            steps_per_epoch=1,  # the period below is in steps
            distribution=distribution,
            zeta=death_rate,
            period=delta_t,
            regrown=regrown,
            seed=seed,
        )
        self.total_steps = total_steps

    def drop_fraction(self, t: int) -> float:
        return decayed(t + 1, self.total_steps, self.alpha)


def _check(delta_t: int, rate: float) -> None:
    if delta_t < 1 or not 0 < rate <= 1:
        raise UserError(
            f"ITOP needs delta_t >= 1 and death_rate in (0, 1], not {delta_t} and {rate}"
        )
