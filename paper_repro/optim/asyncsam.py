"""AsyncSAM: perturb along the gradient at the previous step's weights (Jo, Lim, Lee 2025)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.optim import OPTIMIZERS
from paper_repro.optim.ascent import ascend, copies, displaced
from paper_repro.optim.base import Perturbing, global_norm
from paper_repro.optim.batchnorm import still_batch_norm
from paper_repro.optim.closure import given
from paper_repro.optim.plain import PlainSGD

__all__ = ["AsyncSAM", "reference"]


@OPTIMIZERS.register("asyncsam")
class AsyncSAM(Perturbing):
    r"""Asynchronous SAM: the ascent gradient is one step old, so that it can be computed aside.

    .. math::
        a_t = \nabla L_t(w_t), \qquad
        w_{t+1} = \mathrm{base}\bigl(w_t, \nabla L_t(w_t + \rho\, a_{t-1} /
        \lVert a_{t-1} \rVert)\bigr)

    (Jo, Lim, Lee, "Asynchronous Sharpness-Aware Minimization For Fast and Accurate Deep
    Learning", 2025, arXiv 2503.11147, with a delay of one step.) The difference to S2-SAM is
    where the old gradient was taken: here at the weights :math:`w_{t-1}`, there at the perturbed
    point, where it comes for nothing. The first step has no perturbation.

    What the authors gain is that a second device computes :math:`a_t` meanwhile, on a batch that
    it manages in that time. Here both gradients are taken one after the other and on the same
    batch, which is the method's upper limit and costs two gradients a step; its time is not what
    theirs would be.

    The closure zeroes the gradients, runs forward and backward, and returns the loss; it is called
    at w and then at w + ε, and batch-norm statistics move only the first time.

    Args:
        base: the optimizer that takes the step.
        rho: radius ρ >= 0. At 0 the wrapper is the base optimizer, bit for bit.
        model: the model, needed only where it is compiled (see :func:`still_batch_norm`).
    """

    gradients_per_step = 2.0
    extra_buffers = 2.0  # w and the ascent gradient

    def __init__(
        self, base: Optimizer, rho: float = 0.05, model: torch.nn.Module | None = None
    ) -> None:
        super().__init__(base, rho=rho)
        self.model = model

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step; returns the closure's loss at w.

        Raises:
            UserError: without a closure.
        """
        closure = given(closure, "AsyncSAM")
        loss = self._run(closure)
        active = any(group["rho"] for group in self.param_groups)
        live = self._live() if active else []
        old = {p: s["ascent"] for p in live if "ascent" in (s := self.state.get(p, {}))}
        for state in self.state.values():
            state.pop("ascent", None)
        # Copies: the second pass may write into the gradients (zeroed in place, a bucket's view),
        # and so may the base optimizer.
        fresh = dict(zip(live, copies([cast(Tensor, p.grad) for p in live]), strict=True))
        if old:
            moving = list(old)
            with displaced(moving), still_batch_norm(self.model):
                ascend(self.param_groups, old, global_norm(list(old.values())))
                old.clear()
                self._run(closure)
        self.base.step()
        # Only after the base's first step: Adam takes any earlier state for its own.
        for p, g in fresh.items():
            self.state[p]["ascent"] = g
        return loss


def reference(
    weights: list[Tensor],
    gradient: Callable[[list[Tensor]], list[Tensor]],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    rho: float = 0.05,
) -> Iterator[list[Tensor]]:
    """AsyncSAM around SGD, written for reading: yields w_1, w_2, ... for ever."""
    w = [x.clone() for x in weights]
    sgd = PlainSGD(lr, momentum, weight_decay)
    ascent = [torch.zeros_like(x) for x in w]
    while True:
        norm = sum(float((a * a).sum()) for a in ascent) ** 0.5
        u = [x + rho * a / norm if norm > 0 else x for x, a in zip(w, ascent, strict=True)]
        ascent = gradient(w)
        w = sgd.step(w, gradient(u))
        yield [x.clone() for x in w]


AsyncSAM.reference = staticmethod(reference)  # type: ignore[attr-defined]
