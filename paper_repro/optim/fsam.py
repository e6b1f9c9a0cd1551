"""F-SAM: SAM's perturbation without its full-gradient component (Li et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS
from paper_repro.optim.ascent import ascend, copies, displaced
from paper_repro.optim.base import Perturbing, global_norm
from paper_repro.optim.batchnorm import still_batch_norm
from paper_repro.optim.closure import given
from paper_repro.optim.plain import PlainSGD

__all__ = ["FSAM", "reference"]


@OPTIMIZERS.register("fsam")
class FSAM(Perturbing):
    r"""Friendly SAM: perturb along the batch's gradient noise alone.

    .. math::
        d_t = g_t - \sigma m_{t-1}, \qquad m_t = \lambda m_{t-1} + (1 - \lambda) g_t, \qquad
        w \leftarrow \mathrm{base}(w, \nabla L(w + \rho\, d_t / \lVert d_t \rVert))

    with :math:`g_t = \nabla L(w)` on the batch, its moving average m standing for the full
    gradient (Li, Zhou, He, Cheng, Huang, "Friendly Sharpness-Aware Minimization", CVPR 2024, arXiv
    2403.12350: the full gradient in SAM's perturbation does harm, the noise helps). As in the
    authors' code the first step perturbs along g itself and m starts as g.

    The closure zeroes the gradients, runs forward and backward, and returns the loss; it is called
    twice, and batch-norm statistics move only the first time.

    Args:
        base: the optimizer that takes the step.
        rho: radius ρ >= 0. At 0 the wrapper is the base optimizer, bit for bit. The authors use
            their SAM's: 0.2 in their script for CIFAR-100, 0.05 in their code.
        sigma: σ, how much of the average is taken out.
        lam: λ in [0, 1), the average's decay; the authors' script for CIFAR has 0.6, their code
            0.9.
        model: the model, needed only where it is compiled (see :func:`still_batch_norm`).

    Raises:
        UserError: for options out of range.
    """

    gradients_per_step = 2.0
    extra_buffers = 2.0  # w and the average

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        sigma: float = 1.0,
        lam: float = 0.6,
        model: torch.nn.Module | None = None,
    ) -> None:
        super().__init__(base, rho=rho)
        if not (0 <= lam < 1 and sigma >= 0):
            raise UserError(f"F-SAM needs sigma >= 0 and lam in [0, 1), not {sigma} and {lam}")
        self.sigma = sigma
        self.lam = lam
        self.model = model

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step; returns the closure's loss at w.

        Raises:
            UserError: without a closure.
        """
        closure = given(closure, "F-SAM")
        loss = self._run(closure)
        fresh: dict[Tensor, Tensor] = {}
        if any(group["rho"] for group in self.param_groups):
            live = self._live()
            directions, fresh = self._directions(live)
            with displaced(live), still_batch_norm(self.model):
                ascend(self.param_groups, directions, global_norm(list(directions.values())))
                directions.clear()  # the second pass needs the memory
                self._run(closure)
        self.base.step()
        # Only after the base's first step: Adam takes any earlier state for its own.
        for p, average in fresh.items():
            self.state[p]["average"] = average
        return loss

    def _directions(self, live: list[Tensor]) -> tuple[dict[Tensor, Tensor], dict[Tensor, Tensor]]:
        """d of every parameter, and the averages of those that had none; the others' move on."""
        known = [p for p in live if "average" in self.state.get(p, {})]
        new = [p for p in live if "average" not in self.state.get(p, {})]
        directions = dict(zip(new, (cast(Tensor, p.grad) for p in new), strict=True))
        if known:
            gradients = [cast(Tensor, p.grad) for p in known]
            averages = [self.state[p]["average"] for p in known]
            noise = copies(gradients)
            torch._foreach_add_(noise, averages, alpha=-self.sigma)
            directions.update(zip(known, noise, strict=True))
            torch._foreach_mul_(averages, self.lam)
            torch._foreach_add_(averages, gradients, alpha=1 - self.lam)
        # Copies: the second pass may write into the gradients (zeroed in place, a bucket's view).
        return directions, dict(zip(new, copies([directions[p] for p in new]), strict=True))


def reference(
    weights: list[Tensor],
    gradient: Callable[[list[Tensor]], list[Tensor]],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    rho: float = 0.05,
    sigma: float = 1.0,
    lam: float = 0.6,
) -> Iterator[list[Tensor]]:
    """F-SAM around SGD, written for reading: yields w_1, w_2, ... for ever."""
    w = [x.clone() for x in weights]
    sgd = PlainSGD(lr, momentum, weight_decay)
    m: list[Tensor] | None = None
    while True:
        g = gradient(w)
        d = g if m is None else [x - sigma * a for x, a in zip(g, m, strict=True)]
        m = g if m is None else [lam * a + (1 - lam) * x for x, a in zip(g, m, strict=True)]
        norm = sum(float((x * x).sum()) for x in d) ** 0.5
        u = [x + rho * e / norm if norm > 0 else x for x, e in zip(w, d, strict=True)]
        w = sgd.step(w, gradient(u))
        yield [x.clone() for x in w]


FSAM.reference = staticmethod(reference)  # type: ignore[attr-defined]
