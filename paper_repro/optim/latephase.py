"""Sharpness-aware minimization late in training only, as a schedule of ρ (Zhou et al. 2025)."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from paper_repro.errors import UserError

__all__ = ["LatePhase"]

_HELD = "late_rho"


class LatePhase:
    """Holds every group's ρ at 0 for the first ``start`` steps, then lets it be what it was.

    Until then the optimizer is its base optimizer and takes one gradient a step. (Zhou, Wang,
    Mao, Li, Yan, "Sharpness-Aware Minimization Efficiently Selects Flatter Minima Late In
    Training", ICLR 2025, arXiv 2410.10373: a few last epochs of SAM do nearly what all do.) It
    works for every wrapper of this package that has a ρ, and is used like a learning-rate
    scheduler::

        late = LatePhase(optimizer, start=int(0.9 * total_steps))
        for x, y in loader:
            ...
            optimizer.step(); late.step()

    ρ is that of the steps from number ``start`` on, counted from 0. One that perturbs for the next
    gradient (S2SAM, MSAM, RandomSAM) or along an older one (AsyncSAM) takes its first perturbed
    gradient one step later.

    What ρ will be is kept in the groups, hence in the optimizer's checkpoint. The number of steps
    is :meth:`state_dict`.

    Args:
        optimizer: whose groups have a ρ.
        start: steps without perturbation, at least 0.

    Raises:
        UserError: the optimizer has no ρ, or ``start`` is negative.
    """

    def __init__(self, optimizer: Optimizer, start: int) -> None:
        if not all("rho" in group for group in optimizer.param_groups):
            raise UserError(f"{type(optimizer).__name__} has no rho that could be held back")
        if start < 0:
            raise UserError(f"the late phase starts at a step >= 0, not {start}")
        self.optimizer = optimizer
        self.start = start
        self.steps = 0
        self.at(0)

    def at(self, t: int) -> bool:
        """Set ρ for step t; returns whether it changed."""
        self.steps = t
        changed = False
        for group in self.optimizer.param_groups:
            late = group.setdefault(_HELD, group["rho"])
            rho = late if t >= self.start else 0.0
            changed |= group["rho"] != rho
            group["rho"] = rho
        return changed

    def step(self) -> None:
        """Set ρ for the next step; call it after the optimizer's."""
        self.at(self.steps + 1)

    def state_dict(self) -> dict[str, Any]:
        """The number of steps."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`, after the optimizer has loaded its own."""
        self.at(int(state["steps"]))
