"""LookSAM: SAM at every k-th step, and its direction reused in between (Liu et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS
from paper_repro.optim.ascent import ascend, copies, displaced, global_dot
from paper_repro.optim.base import Perturbing, global_norm
from paper_repro.optim.batchnorm import still_batch_norm
from paper_repro.optim.closure import given
from paper_repro.optim.plain import PlainSGD

__all__ = ["LookSAM", "reference"]


@OPTIMIZERS.register("looksam")
class LookSAM(Perturbing):
    r"""SAM whose second gradient is taken at every k-th step only.

    .. math::
        t \bmod k = 0:&\quad g_s = \nabla L(w + \rho\, g / \lVert g \rVert), \qquad
        g_v = g_s - \frac{g_s \cdot g}{\lVert g \rVert^2}\, g \\
        \text{otherwise}:&\quad
        g_s = g + \alpha \frac{\lVert g \rVert}{\lVert g_v \rVert}\, g_v

    with :math:`g = \nabla L(w)`; the base optimizer steps with g_s (Liu, Mai, Chen, Hsieh, You,
    "Towards Efficient and Scalable Sharpness-Aware Minimization", CVPR 2022, algorithm 1). g_v,
    the component of SAM's gradient orthogonal to g, changes slowly, hence its reuse. Norms and
    inner product are over all parameters together, as in the paper (some implementations take
    them per tensor); the layer-wise scaling of Look-LayerSAM is not included.

    The closure is called twice at t = 0, k, 2k, ... (and at the first step with ρ > 0, where there
    is no g_v yet) and once in between, batch-norm statistics
    move only in the first call. g_v lies in ``state[p]["g_v"]``, so a sparse method zeroes what it
    drops there too. A parameter that had no gradient at the last look is stepped with g alone.

    Do not use it under bfloat16 autocast unawares: an ε below bfloat16's resolution arrives
    distorted (see :class:`paper_repro.optim.S2SAM` for numbers measured with its ε).

    Args:
        base: the optimizer that takes the step.
        rho: radius ρ >= 0 of SAM's perturbation. At 0 the wrapper is the base optimizer.
        k: steps from one SAM gradient to the next, at least 1.
        alpha: length α >= 0 of the reused component relative to ‖g‖.
        model: the model, needed only where it is compiled (see :func:`still_batch_norm`).
    """

    extra_buffers = 2.0  # w and g at a SAM step, g_v otherwise

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        k: int = 10,
        alpha: float = 0.7,
        model: torch.nn.Module | None = None,
    ) -> None:
        super().__init__(base, rho=rho)
        if k < 1 or not alpha >= 0:
            raise UserError(f"LookSAM needs k >= 1 and alpha >= 0, not {k} and {alpha}")
        self.k = k
        self.alpha = alpha
        self.model = model
        self.steps = 0
        self.gradients_per_step = 1 + 1 / k

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step; returns the closure's loss at w.

        Raises:
            UserError: without a closure.
        """
        closure = given(closure, "LookSAM", "at some steps")
        loss = self._run(closure)
        orthogonal: dict[Tensor, Tensor] = {}
        if any(group["rho"] for group in self.param_groups):
            # Also at its first perturbed step, if ρ was 0 until then.
            looked = any("g_v" in state for state in self.state.values())
            if self.steps % self.k == 0 or not looked:
                orthogonal = self._look(closure)
            else:
                self._reuse()
        self.base.step()
        # Only after the base's first step: Adam takes any earlier state for its own.
        for p, g_v in orthogonal.items():
            self.state[p]["g_v"] = g_v
        self.steps += 1
        return loss

    def _look(self, closure: Callable[[], Any]) -> dict[Tensor, Tensor]:
        """SAM's gradient; its component orthogonal to g is returned, in the buffer that held g."""
        for state in self.state.values():
            state.pop("g_v", None)
        live = self._live()
        first = dict(zip(live, copies([cast(Tensor, p.grad) for p in live]), strict=True))
        norm = global_norm(list(first.values()))
        with displaced(live), still_batch_norm(self.model):
            ascend(self.param_groups, first, norm)
            self._run(closure)
        first = {p: g for p, g in first.items() if p.grad is not None}
        if not first:
            return {}
        second = [cast(Tensor, p.grad) for p in first]
        projection = global_dot(second, list(first.values())) / norm**2
        _scale(list(first.values()), -projection)
        torch._foreach_add_(list(first.values()), second)
        return first

    def _reuse(self) -> None:
        """Add the stored component to the gradients."""
        live = self._live()
        norm = global_norm([cast(Tensor, p.grad) for p in live])
        reused = [p for p in live if "g_v" in self.state.get(p, {})]
        if not reused:
            return
        stored = [self.state[p]["g_v"] for p in reused]
        steps = copies(stored)
        _scale(steps, self.alpha * norm / global_norm(stored))
        torch._foreach_add_([cast(Tensor, p.grad) for p in reused], steps)

    def extra_state(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.steps = int(state["steps"])


def _scale(tensors: list[Tensor], factor: Tensor) -> None:
    """Multiply in place, by 0 where the factor is a quotient by zero."""
    factor = torch.where(torch.isfinite(factor), factor, torch.zeros_like(factor))
    torch._foreach_mul_(tensors, factor.to(tensors[0].dtype))


def reference(
    weights: list[Tensor],
    gradient: Callable[[list[Tensor]], list[Tensor]],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    rho: float = 0.05,
    k: int = 10,
    alpha: float = 0.7,
) -> Iterator[list[Tensor]]:
    """LookSAM around SGD, written for reading: yields w_1, w_2, ... for ever."""
    w = [x.clone() for x in weights]
    sgd = PlainSGD(lr, momentum, weight_decay)
    g_v = [torch.zeros_like(x) for x in w]
    t = 0
    while True:
        g = gradient(w)
        norm = sum(float((x * x).sum()) for x in g) ** 0.5
        if t % k == 0:
            g_s = gradient([x + rho * d / norm for x, d in zip(w, g, strict=True)])
            dot = sum(float((a * b).sum()) for a, b in zip(g_s, g, strict=True))
            g_v = [a - dot / norm**2 * b for a, b in zip(g_s, g, strict=True)]
        else:
            length = sum(float((x * x).sum()) for x in g_v) ** 0.5
            g_s = [a + alpha * norm / length * b for a, b in zip(g, g_v, strict=True)]
        w = sgd.step(w, g_s)
        t += 1
        yield [x.clone() for x in w]


LookSAM.reference = staticmethod(reference)  # type: ignore[attr-defined]
