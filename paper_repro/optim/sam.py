"""SAM (Foret et al. 2021) and, with ``adaptive``, ASAM (Kwon et al. 2021): two gradients a step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS
from paper_repro.optim.ascent import copies
from paper_repro.optim.base import Perturbing, global_norm, moved, radius_over_norm
from paper_repro.optim.batchnorm import still_batch_norm
from paper_repro.optim.plain import PlainSGD

__all__ = ["SAM", "reference"]


@OPTIMIZERS.register("sam")
class SAM(Perturbing):
    r"""Sharpness-aware minimization (the paper's Eq. 2).

    .. math::
        \varepsilon = \rho\, T_w^2 g / \lVert T_w g \rVert,\quad g = \nabla L(w), \qquad
        w \leftarrow \mathrm{base}(w, \nabla L(w + \varepsilon))

    with :math:`T_w = 1` for SAM and :math:`T_w = |w|` for ASAM (``adaptive=True``, for which ρ is
    customarily 0.5 to 2). The closure zeroes the gradients, runs forward and backward, and
    returns the loss; it is called twice, and batch-norm statistics move only the first time::

        def closure():
            optimizer.zero_grad(); loss = loss_fn(model(x), y); loss.backward(); return loss
        loss = optimizer.step(closure)

    Where the two passes must be driven by hand (accumulation, ``GradScaler``), call
    :meth:`first_step` after the first backward pass and ``step()`` without a closure after the
    second, and run the second forward pass ``with still_batch_norm():`` (of this package), or
    batch-norm statistics move twice. With a ``GradScaler`` leave the gradients scaled for
    :meth:`first_step`, which their scale does not change: ``unscale_`` counts once a step and
    belongs after the second pass. Where the scaler may skip the step, call :meth:`eval` after it:
    it returns to w if the step was skipped and does nothing otherwise.

    Do not use it under bfloat16 autocast unawares: an ε below bfloat16's resolution arrives
    distorted (see :class:`paper_repro.optim.S2SAM` for numbers measured with its ε).

    Args:
        base: the optimizer that takes the step.
        rho: radius ρ >= 0 of the perturbation. At 0 the second pass is left out.
        adaptive: ASAM's scaling by the weights.
        model: the model, needed only where it is compiled (see :func:`still_batch_norm`).
    """

    gradients_per_step = 2.0

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        adaptive: bool = False,
        model: torch.nn.Module | None = None,
    ) -> None:
        super().__init__(base, rho=rho, adaptive=adaptive)
        self.model = model
        self._due = False  # a second step
        self._moved: list[Tensor] = []
        self._weights: list[Tensor] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_moved" not in state:  # loaded: a step half taken before is none of this state's
            self._due, self._moved, self._weights = False, [], []

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step; returns the closure's loss at w.

        Raises:
            UserError: without a closure, unless :meth:`first_step` was called before.
        """
        if closure is None and self._due:
            self._second()
            return None
        if closure is None:
            raise UserError(
                "SAM.step needs a closure that zeroes the gradients, runs forward and backward, "
                "and returns the loss, because it takes two gradients a step"
            )
        self._return()
        loss = self._run(closure)
        if any(group["rho"] for group in self.param_groups):
            self._ascend(self._norm())
            try:
                with still_batch_norm(self.model):
                    self._run(closure)
            except BaseException:
                self._return()
                raise
        self._second()
        return loss

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        """Move the parameters to w + ε along their gradients at w.

        Where the gradients are not finite (a ``GradScaler``'s scale was too large) there is no
        such direction, and the parameters stay at w: at any other place the second forward pass
        would leave NaN in batch-norm statistics.
        """
        self._return()
        norm = self._norm()
        if bool(torch.isfinite(norm)):
            self._ascend(norm)
        else:
            self._hold()
        if zero_grad:
            self.zero_grad()

    def _norm(self) -> Tensor:
        """‖T_w g‖ over all parameters together."""
        self._live()  # refuses what has no norm here
        lengths: list[Tensor] = []
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            gradients = [cast(Tensor, p.grad) for p in moving]
            if group["adaptive"] and moving:
                gradients = list(torch._foreach_mul(torch._foreach_abs(moving), gradients))
            lengths += gradients
        return global_norm(lengths)

    def _hold(self) -> None:
        """Remember w: a second step is due."""
        self._due = True
        self._moved = self._live()
        self._weights = copies(self._moved)

    def _ascend(self, norm: Tensor) -> None:
        self._hold()
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if not moving or not group["rho"]:
                continue
            scale = radius_over_norm(group["rho"], norm, moving[0].dtype)
            step = torch._foreach_mul([p.grad for p in moving], scale)
            if group["adaptive"]:
                torch._foreach_mul_(step, torch._foreach_mul(moving, moving))
            torch._foreach_add_(moving, step)
        moved()

    def second_step(self, zero_grad: bool = False) -> None:
        """Return to w, exactly, and let the base optimizer step with the gradients at w + ε.

        The same as ``step()``, with whatever is attached to that.

        Raises:
            UserError: :meth:`first_step` was not called before.
        """
        if not self._due:
            raise UserError("SAM.second_step() needs a first_step() before it")
        self.step()
        if zero_grad:
            self.zero_grad()

    def _second(self) -> None:
        self._return()
        self.base.step()

    @torch.no_grad()
    def _return(self) -> None:
        """Go back to w, exactly, if a second step is due or was skipped."""
        if self._moved:
            torch._foreach_copy_(self._moved, self._weights)
            moved()
        self._due, self._moved, self._weights = False, [], []

    def eval(self) -> None:
        """Return to w, exactly, and give up a second step that is due.

        Under a schedule-free base the parameters are then put where that one evaluates.
        """
        self._return()
        super().eval()

    def abandon(self) -> None:
        """Return to w without a second step."""
        self._return()

    def exact(self, parameter: Tensor) -> Tensor:
        """The weights w of ``parameter``, also between the two passes."""
        pairs = zip(self._moved, self._weights, strict=True)
        return next((w for p, w in pairs if p is parameter), parameter)

    @contextlib.contextmanager
    def unperturbed(self) -> Iterator[None]:
        """Parameters at w, to be edited; between the two passes u = w + ε again on leaving."""
        due, perturbed, old = self._due, self._moved, self._weights
        points = [p.detach().clone() for p in perturbed]
        self._return()
        try:
            yield
        finally:
            with torch.no_grad():
                self._due, self._moved = due, perturbed
                self._weights = [p.detach().clone() for p in perturbed]
                for p, u, w in zip(perturbed, points, old, strict=True):
                    p.copy_(torch.where(p == w, u, p + (u - w)))
                moved()


def reference(
    weights: list[Tensor],
    gradient: Callable[[list[Tensor]], list[Tensor]],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    rho: float = 0.05,
    adaptive: bool = False,
) -> Iterator[list[Tensor]]:
    """SAM around SGD, written for reading: yields w_1, w_2, ... for ever."""
    w = [x.clone() for x in weights]
    sgd = PlainSGD(lr, momentum, weight_decay)
    while True:
        g = gradient(w)
        size = [x.abs() if adaptive else torch.ones_like(x) for x in w]
        norm = sum(float(((t * d) ** 2).sum()) for t, d in zip(size, g, strict=True)) ** 0.5
        u = [
            x + rho * t * t * d / norm if norm > 0 else x
            for x, t, d in zip(w, size, g, strict=True)
        ]
        w = sgd.step(w, gradient(u))
        yield [x.clone() for x in w]


SAM.reference = staticmethod(reference)  # type: ignore[attr-defined]
