"""What methods share that move their masks during training: counting steps, and updates."""

from __future__ import annotations

import functools
import types
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.optim import Perturbing
from paper_repro.registry import Scalar
from paper_repro.sparse.method import SparseMethod
from paper_repro.sparse.replicas import agreed, settled, shared_generator

__all__ = ["REGROWN_BEFORE", "DynamicMethod", "check_regrown"]

#: For methods with an option ``regrown``, which came after their first runs.
REGROWN_BEFORE: Mapping[str, Scalar] = {"regrown": "keep"}


def check_regrown(value: str) -> str:
    """The value of an option ``regrown``: what is pruned and grown at once starts from.

    Raises:
        UserError: it is neither ``zero`` nor ``keep``.
    """
    if value not in ("zero", "keep"):
        raise UserError(f"regrown is zero or keep, not {value!r}")
    return value


class DynamicMethod(SparseMethod):
    """A method that moves its masks during training, after some of the optimizer's steps.

    Once it has masks it wraps ``optimizer.step`` on the instance, as learning-rate schedulers do,
    and counts calls: t = 0, 1, ... A step that ``GradScaler`` skips is not counted.
    """

    #: Whether a topology update takes the place of the optimizer's step, as RigL's does, or
    #: follows it. If it takes its place, the gradients of that step arrive unmasked, for
    #: ``choose`` to read. Under S2-SAM they are gradients at the perturbed weights u.
    replaces_step: ClassVar[bool] = False

    needs_optimizer = True

    optimizer: Optimizer

    def __init__(self, model: nn.Module, optimizer: Optimizer, seed: int = 0) -> None:
        super().__init__(model, optimizer, seed)
        self.steps = 0
        self.updates = 0
        self.moved = 0
        self._scales_itself = False

    def _attach(self) -> None:
        super()._attach()
        optimizer = self.optimizer
        # A fused optimizer skips a GradScaler's step itself, which would be counted.
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
            self._scales_itself = True
        self._step_was_own = "step" in optimizer.__dict__  # a scheduler's, say
        self._original = self._inner = optimizer.step
        # Bound, because schedulers created later look for the function behind the method.
        optimizer.step = types.MethodType(self._make_step(), optimizer)  # type: ignore[method-assign]

    def __getstate__(self) -> dict[str, Any]:
        left = ("_original", "_inner")
        return {name: value for name, value in super().__getstate__().items() if name not in left}

    @abstractmethod
    def due(self, t: int) -> bool:
        """Whether step t comes with a topology update."""

    @abstractmethod
    def choose(self, t: int) -> dict[str, Tensor]:
        """The new boolean masks by layer at step t (only those that change)."""

    def replace_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Let ``step(closure)`` do the optimizer's work from now on; returns what did it before."""
        before, self._inner = self._inner, step
        return before

    def _make_step(self) -> Callable[..., Any]:
        @functools.wraps(self._original)  # with the mark that a scheduler left on it
        def step(_optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> Any:
            t = self.steps
            due = self.due(t)
            if due and self.replaces_step:
                loss = None
                if closure is not None:
                    with torch.enable_grad():
                        loss = closure()
                elif isinstance(self.optimizer, Perturbing):
                    self.optimizer.abandon()
            else:
                loss = self._inner() if closure is None else self._inner(closure)
            if due:
                self.update(t)
            self.steps = t + 1
            self._open_if_due()
            return loss

        return step

    def _open_if_due(self) -> None:
        self.masks.open = self.replaces_step and self.due(self.steps)

    @torch.no_grad()
    def update(self, t: int) -> None:
        """Choose and adopt new masks, the same on all replicas; a frozen layer keeps its own."""
        if not self._drawn_alike and settled():  # a process group that came after the method
            shared_generator(self.generator)
            self._drawn_alike = True
        chosen = self._unfrozen(self.choose(t))
        self.moved += self.masks.replace(agreed(chosen, "an update's masks"))
        self.updates += 1

    def gradient(self, name: str) -> Tensor:
        """The gradient of a masked layer's weights, taken where they stand; 0 if there is none."""
        return self.masks.gradient(name)

    @torch.no_grad()
    def prune(self, kept: Mapping[str, Tensor]) -> None:
        """Within ``choose``: adopt ``kept`` at once, so that what is grown then starts from 0.

        Without it a position that an update drops and grows again keeps its value and momentum.
        It zeroes the gradients of all that is inactive: scores to grow by are taken before.
        """
        self.moved += self.masks.replace(self._unfrozen(kept))

    def _unfrozen(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weights = self.masks.weights
        return {name: mask for name, mask in masks.items() if weights[name].requires_grad}

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "steps": self.steps,
            "updates": self.updates,
            "moved": self.moved,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.steps = int(state["steps"])
        self.updates = int(state["updates"])
        self.moved = int(state["moved"])
        self._open_if_due()

    def facts(self) -> dict[str, Any]:
        return {"topology_updates": self.updates, "positions_changed": self.moved}

    def detach(self) -> None:
        attached = self._passenger is not None
        super().detach()
        self.masks.open = False
        if attached and self._scales_itself:
            self.optimizer._step_supports_amp_scaling = True  # type: ignore[attr-defined]
            self._scales_itself = False
        if attached and self._step_was_own:
            self.optimizer.step = self._original  # type: ignore[method-assign]
        elif attached:
            self.optimizer.__dict__.pop("step", None)
