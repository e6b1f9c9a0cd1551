"""ESAM: SAM on some of the parameters and some of the samples (Du et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.generators import go_on
from paper_repro.optim import OPTIMIZERS
from paper_repro.optim.ascent import ascend, displaced
from paper_repro.optim.base import Perturbing, global_norm, moved
from paper_repro.optim.batchnorm import still_batch_norm
from paper_repro.optim.closure import needed
from paper_repro.optim.plain import PlainSGD

__all__ = ["ESAM", "chosen_samples", "reference"]


@OPTIMIZERS.register("esam")
class ESAM(Perturbing):
    r"""Efficient SAM: perturb a random part of the network, and look again at part of the batch.

    .. math::
        \varepsilon_i = \frac{m_i}{\beta}\, \rho\, \frac{g_i}{\lVert g \rVert},
        \quad m_i \sim \mathrm{Bernoulli}(\beta), \qquad
        w \leftarrow \mathrm{base}(w, \nabla L_{B^+}(w + \varepsilon))

    with g the gradient of the batch B at w and :math:`B^+` the fraction γ of its samples whose
    loss rises most from w to w + ε (Du, Yan, Feng, Zhou, Zhen, Goh, Tan, "Efficient
    Sharpness-aware Minimization for Improved Training of Neural Networks", ICLR 2022:
    stochastic weight perturbation and sharpness-sensitive data selection).

    As in the authors' code m_i is drawn for each parameter tensor, not for each weight. Two
    simplifications: ‖g‖ is that of the whole gradient, as in the paper's formula (their code has
    the norm of the drawn part), and the first backward pass is complete, where theirs leaves out
    the gradients of the tensors that are not drawn. Exactly max(1, round(γ |B|)) samples are
    taken. The loss rises are found by one more forward pass; with γ = 1 it is left out.

    The step needs a :class:`paper_repro.optim.Closure`; batch-norm statistics move only in its
    first pass, on the whole batch.

    Do not use it under bfloat16 autocast unawares: an ε below bfloat16's resolution arrives
    distorted (see :class:`paper_repro.optim.S2SAM` for numbers measured with its ε).

    Args:
        base: the optimizer that takes the step.
        rho: radius ρ >= 0. At 0 the wrapper is the base optimizer, bit for bit.
        beta: probability β in (0, 1] that a tensor is perturbed.
        gamma: fraction γ in (0, 1] of the batch that the second gradient is taken on.
        seed: of the draws.
        model: the model, needed only where it is compiled (see :func:`still_batch_norm`).
    """

    blind_to_tensors = False  # whole tensors are perturbed or not

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        beta: float = 0.5,
        gamma: float = 0.5,
        seed: int = 0,
        model: torch.nn.Module | None = None,
    ) -> None:
        super().__init__(base, rho=rho)
        if not (0 < beta <= 1 and 0 < gamma <= 1):
            raise UserError(f"ESAM needs beta and gamma in (0, 1], not {beta} and {gamma}")
        self.beta = beta
        self.gamma = gamma
        self.model = model
        # On the host: which tensors are perturbed decides which operations are launched.
        self.generator = torch.Generator().manual_seed(seed)
        self.gradients_per_step = 1 + gamma
        self.extra_forwards = 1.0 if gamma < 1 else 0.0

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step; returns the loss of the whole batch at w.

        Raises:
            UserError: without a :class:`paper_repro.optim.Closure`.
        """
        batch = needed(closure, "ESAM", "its second gradient is taken on a part of the batch")
        loss = self._run(batch)
        if any(group["rho"] for group in self.param_groups):
            live = self._live()
            norm = global_norm([cast(Tensor, p.grad) for p in live])
            draws = torch.rand(len(live), generator=self.generator).tolist()
            drawn = [p for p, draw in zip(live, draws, strict=True) if draw < self.beta]
            directions = {p: cast(Tensor, p.grad) for p in drawn}
            with displaced(drawn), still_batch_norm(self.model):
                ascend(self.param_groups, directions, self.beta * norm)
                moved()
                subset = None
                if self.gamma < 1:
                    before = batch.sample_losses(batch.outputs)
                    rise = batch.sample_losses() - before
                    subset = chosen_samples(rise, self.gamma)
                directions.clear()  # the second pass makes gradients of its own
                self._run(lambda: batch(subset))
        self.base.step()
        return loss

    def extra_state(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        go_on(self.generator, state["generator"])


def chosen_samples(rise: Tensor, gamma: float) -> Tensor:
    """Positions of the max(1, round(γ n)) samples of largest ``rise``, in the batch's order."""
    count = max(1, round(gamma * len(rise)))
    return torch.argsort(rise, descending=True, stable=True)[:count].sort().values


def reference(
    weights: list[Tensor],
    gradient: Callable[[list[Tensor], Tensor], list[Tensor]],
    losses: Callable[[list[Tensor]], Tensor],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    rho: float = 0.05,
    beta: float = 0.5,
    gamma: float = 0.5,
    seed: int = 0,
) -> Iterator[list[Tensor]]:
    """ESAM around SGD, written for reading: yields w_1, w_2, ... for ever.

    ``losses`` maps weights to the samples' losses, ``gradient`` weights and the positions of some
    samples to the gradient of their mean loss.
    """
    w = [x.clone() for x in weights]
    sgd = PlainSGD(lr, momentum, weight_decay)
    generator = torch.Generator().manual_seed(seed)
    while True:
        before = losses(w)
        g = gradient(w, torch.arange(len(before)))
        norm = sum(float((d * d).sum()) for d in g) ** 0.5
        drawn = torch.rand(len(w), generator=generator) < beta
        u = [x + rho * d / norm / beta if m else x for x, d, m in zip(w, g, drawn, strict=True)]
        rise = losses(u) - before
        worst = sorted(range(len(rise)), key=lambda i: -float(rise[i]))
        count = max(1, round(gamma * len(rise)))
        g = gradient(u, torch.tensor(sorted(worst[:count])))
        w = sgd.step(w, g)
        yield [x.clone() for x in w]


ESAM.reference = staticmethod(reference)  # type: ignore[attr-defined]
