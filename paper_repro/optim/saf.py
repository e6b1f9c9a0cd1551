"""SAF: flatness by agreement with one's own earlier outputs, at SGD's cost (Du et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS
from paper_repro.optim.base import Perturbing
from paper_repro.optim.closure import Closure, needed
from paper_repro.optim.plain import PlainSGD

__all__ = ["SAF", "reference"]


@OPTIMIZERS.register("saf")
class SAF(Perturbing):
    r"""Sharpness-aware training for free: a loss on how fast the outputs move.

    .. math::
        L_{\mathrm{SAF}} = L + \frac{\lambda \tau^2}{|B|} \sum_{i \in B} \mathrm{KL}\big(
        \mathrm{softmax}(z_i^{(e-E)} / \tau) \,\big\|\, \mathrm{softmax}(z_i^{(e)} / \tau)\big)

    with :math:`z_i^{(e)}` the outputs for sample i in epoch e, the earlier ones constant (Du,
    Zhou, Feng, Tan, Zhou, "Sharpness-Aware Training for Free", NeurIPS 2022, arXiv 2205.14083).
    Nothing is perturbed: one gradient a step, and no buffer of the parameters' size, but
    E outputs of every training sample.

    Epochs are counted for each sample by its visits, so a sample that an epoch leaves out (an
    incomplete last batch) is compared with its E-th last visit. As in the authors' code the term
    begins after ``start`` epochs, and the outputs compared belong to differently augmented
    images.

    The step needs a :class:`paper_repro.optim.Closure` with ``index`` and ``samples``.

    Args:
        base: the optimizer that takes the step.
        lam: weight λ >= 0 of the term; 0.3 is the authors' default. At 0 the wrapper is the base
            optimizer, bit for bit.
        tau: temperature τ > 0.
        delay: epochs E >= 1 back to the outputs compared with.
        start: epochs of plain training first; less than E counts as E. The authors' default,
            ``kl_start_epoch = 5``, is start = 6: their epochs count from 0, and the term begins in
            the one after.
    """

    extra_buffers = 0.0

    def __init__(
        self,
        base: Optimizer,
        lam: float = 0.3,
        tau: float = 5.0,
        delay: int = 3,
        start: int = 6,
    ) -> None:
        super().__init__(base)
        if not (lam >= 0 and tau > 0 and delay >= 1 and start >= 0):
            raise UserError(
                "SAF needs lam >= 0, tau > 0, delay >= 1 and start >= 0, "
                f"not {lam}, {tau}, {delay} and {start}"
            )
        self.lam = lam
        self.tau = tau
        self.delay = delay
        self.start = start
        #: Of every sample, the outputs of its last E visits, and the number of its visits.
        self.past: Tensor | None = None
        self.visits: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step; returns the loss, the term included.

        Raises:
            UserError: without a :class:`paper_repro.optim.Closure` that numbers its samples.
        """
        batch = needed(closure, "SAF", "its loss compares outputs with those of earlier epochs")
        if self.lam == 0:
            loss = self._run(batch)
        else:
            if batch.index is None or batch.samples < 1:
                raise UserError(
                    "SAF.step needs a closure that knows the batch's index within the training "
                    "set and the number of samples in it"
                )
            term = lambda outputs: self._trajectory(batch, outputs)  # noqa: E731
            batch.terms.append(term)
            try:
                loss = self._run(batch)
            finally:
                batch.terms.remove(term)
        self.base.step()
        return loss

    def _trajectory(self, batch: Closure, outputs: Tensor) -> Tensor:
        """The term for one batch, whose outputs are remembered."""
        index = cast(Tensor, batch.index)
        if self.past is None or self.visits is None:
            shape = (batch.samples, self.delay, *outputs.shape[1:])
            self.past = torch.zeros(shape, device=outputs.device, dtype=outputs.dtype)
            self.visits = torch.zeros(batch.samples, device=outputs.device, dtype=torch.int64)
        visits = self.visits[index]
        slot = visits % self.delay  # of the outputs E visits ago, which these replace
        earlier = F.softmax(self.past[index, slot] / self.tau, 1)
        now = F.log_softmax(outputs / self.tau, 1)
        divergence = F.kl_div(now, earlier, reduction="none").sum(1)
        counted = (visits >= max(self.delay, self.start)).to(outputs.dtype)
        self.past[index, slot] = outputs.detach()
        self.visits[index] = visits + 1
        return self.lam * self.tau**2 * (divergence * counted).mean()

    def extra_state(self) -> dict[str, Any]:
        return {"past": self.past, "visits": self.visits}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        device = self.param_groups[0]["params"][0].device
        past, visits = state["past"], state["visits"]
        self.past = None if past is None else past.to(device, copy=True)
        self.visits = None if visits is None else visits.to(device, copy=True)


def reference(
    weights: list[Tensor],
    gradient: Callable[[list[Tensor], Sequence[int], Callable[[Tensor], Tensor]], list[Tensor]],
    outputs: Callable[[list[Tensor], Sequence[int]], Tensor],
    batches: Callable[[int], Sequence[int]],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    lam: float = 0.3,
    tau: float = 5.0,
    delay: int = 3,
    start: int = 6,
) -> Iterator[list[Tensor]]:
    """SAF around SGD, written for reading: yields w_1, w_2, ... for ever.

    ``batches(t)`` are the samples of step t, ``outputs(w, samples)`` the model's, and
    ``gradient(w, samples, term)`` that of the mean loss plus ``term`` of the outputs.
    """
    w = [x.clone() for x in weights]
    sgd = PlainSGD(lr, momentum, weight_decay)
    history: dict[int, list[Tensor]] = {}
    t = 0
    while True:
        samples = batches(t)

        def term(z: Tensor, samples: Sequence[int] = samples) -> Tensor:
            total = z.sum() * 0
            for i, row in zip(samples, z, strict=True):
                seen = history.get(i, [])
                if len(seen) >= max(delay, start):
                    p, q = (seen[-delay] / tau).softmax(0), (row / tau).softmax(0)
                    total = total + (p * (p.log() - q.log())).sum()
            return lam * tau**2 * total / len(samples)

        g = gradient(w, samples, term)
        for i, row in zip(samples, outputs(w, samples), strict=True):
            history.setdefault(i, []).append(row.detach().clone())
        w = sgd.step(w, g)
        t += 1
        yield [x.clone() for x in w]


SAF.reference = staticmethod(reference)  # type: ignore[attr-defined]
