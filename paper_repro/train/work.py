"""What a training has cost so far, in FLOPs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paper_repro.measure.flops import dense_gradient_flops, training_flops
from paper_repro.sparse import DynamicMethod, SparseMethod

__all__ = ["Work"]


class Work:
    """FLOPs of a training, added up epoch by epoch at the epoch's final masks.

    Args:
        macs: multiply-accumulates of a unit's dense forward pass, by the weight's name.
        method: whose masks say what of them is computed.

    Attributes:
        training: of all steps.
        dense_gradients: of topology updates, beyond those of a sparse step.
    """

    def __init__(self, macs: Mapping[str, int], method: SparseMethod) -> None:
        self.macs = macs
        self.method = method
        self.training = 0.0
        self.dense_gradients = 0.0
        self._counted = 0  # updates that these are of

    def add(self, units: int, batch_size: int, gradients: float, forwards: float) -> None:
        """Count an epoch.

        Args:
            units: that it trained on.
            batch_size: units of a step.
            gradients: a step.
            forwards: passes a step without one; each is a third of a gradient.
        """
        densities = self.method.masks.densities()
        self.training += units * training_flops(self.macs, densities, gradients + forwards / 3)
        dense, self._counted = self._updates() - self._counted, self._updates()
        if dense:
            extra = dense_gradient_flops(self.macs, densities)
            self.dense_gradients += dense * batch_size * extra

    def _updates(self) -> int:
        """Topology updates so far that took the gradient by all weights."""
        method = self.method
        dense = isinstance(method, DynamicMethod) and method.replaces_step
        return method.updates if dense else 0  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {
            "training_flops": self.training,
            "dense_gradient_flops": self.dense_gradients,
            "dense_gradients": self._counted,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting, once the method has its state; from older checkpoints too."""
        self.training = state["training_flops"]
        self.dense_gradients = state.get("dense_gradient_flops", 0.0)
        self._counted = state.get("dense_gradients", self._updates())
