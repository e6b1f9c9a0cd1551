"""ZO-SAM: SAM whose perturbation is estimated from losses alone (Ji et al. 2026)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.generators import go_on
from paper_repro.optim import OPTIMIZERS
from paper_repro.optim.ascent import displaced
from paper_repro.optim.base import Perturbing, global_norm, moved, radius_over_norm
from paper_repro.optim.batchnorm import still_batch_norm
from paper_repro.optim.closure import Closure, needed
from paper_repro.optim.plain import PlainSGD

__all__ = ["ZOSAM", "gaussian", "reference"]


@OPTIMIZERS.register("zosam")
class ZOSAM(Perturbing):
    r"""Zeroth-order SAM: the perturbation costs forward passes, only the step a gradient.

    .. math::
        \hat g = \frac1m \sum_{i=1}^m \frac{L(w + \delta n_i) - L(w - \delta n_i)}{2 \delta}\, n_i,
        \quad n_i \sim N(0, I), \qquad
        w \leftarrow \mathrm{base}(w, \nabla L(w + \rho\, \hat g / \lVert \hat g \rVert))

    (Ji, Li, Deng, Afghah, Ma, "ZO-SAM: Zero-Order Sharpness-Aware Minimization for Efficient
    Sparse Training", 2026, arXiv 2603.13115: random gradient estimation in SAM's perturbation.)
    With m = 1 the perturbation is a random direction of length ρ, turned uphill. The paper's
    values of δ and m are not public; the defaults here are the method's cheapest.

    n_i is multiplied by the sign of w, which leaves its distribution as it is and makes it 0 where
    the weight is: a pruned weight is never perturbed. (So is a weight that is exactly 0 for other
    reasons, such as a bias before its first step.) Directions are drawn again from their seed
    instead of being kept, so the only buffer is w.

    The step needs a :class:`paper_repro.optim.Closure`. Batch-norm statistics move in the pass
    that takes the gradient, at the perturbed weights.

    Do not use it under bfloat16 autocast unawares: an ε below bfloat16's resolution arrives
    distorted (see :class:`paper_repro.optim.S2SAM` for numbers measured with its ε).

    Args:
        base: the optimizer that takes the step.
        rho: radius ρ >= 0. At 0 the wrapper is the base optimizer, bit for bit.
        delta: distance δ > 0, in units of the direction's standard deviation, between w and the
            points whose losses are compared.
        directions: m >= 1; each costs two forward passes.
        seed: of the directions.
        model: the model, needed only where it is compiled (see :func:`still_batch_norm`).
    """

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        delta: float = 1e-3,
        directions: int = 1,
        seed: int = 0,
        model: torch.nn.Module | None = None,
    ) -> None:
        super().__init__(base, rho=rho)
        if not delta > 0 or directions < 1:
            raise UserError(
                f"ZO-SAM needs delta > 0 and directions >= 1, not {delta} and {directions}"
            )
        self.delta = delta
        self.directions = directions
        self.model = model
        # Of the seeds, on the host; each direction is drawn on its parameters' device.
        self.generator = torch.Generator().manual_seed(seed)
        self.extra_forwards = 2.0 * directions

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step; returns the closure's loss at the perturbed weights.

        Raises:
            UserError: without a :class:`paper_repro.optim.Closure`.
        """
        batch = needed(closure, "ZO-SAM", "it compares losses without taking gradients")
        groups = [
            (group["rho"], [p for p in group["params"] if p.requires_grad])
            for group in self.param_groups
            if group["rho"]
        ]
        groups = [(rho, parameters) for rho, parameters in groups if parameters]
        moving = [p for _, parameters in groups for p in parameters]
        with displaced(moving) as weights:
            if moving:
                self._perturb(groups, moving, weights, batch)
            loss = self._run(batch)
        self.base.step()
        return loss

    def _perturb(
        self,
        groups: list[tuple[float, list[Tensor]]],
        moving: list[Tensor],
        weights: list[Tensor],
        batch: Closure,
    ) -> None:
        """Put the parameters at w + ρ ĝ/‖ĝ‖."""
        seeds = torch.randint(2**62, (self.directions,), generator=self.generator).tolist()
        slopes = []
        with still_batch_norm(self.model):
            for seed in seeds:
                losses = []
                for sign in (1, -1):
                    torch._foreach_copy_(moving, weights)
                    torch._foreach_add_(moving, gaussian(weights, seed), alpha=sign * self.delta)
                    moved()
                    losses.append(batch.sample_losses().mean())
                slopes.append((losses[0] - losses[1]) / (2 * self.delta * self.directions))
        torch._foreach_zero_(moving)
        for seed, slope in zip(seeds, slopes, strict=True):
            noise = gaussian(weights, seed)
            torch._foreach_mul_(noise, slope.to(noise[0].dtype))
            torch._foreach_add_(moving, noise)
        norm = global_norm(moving)
        start = 0
        for rho, parameters in groups:
            scale = radius_over_norm(rho, norm, parameters[0].dtype)
            torch._foreach_mul_(parameters, scale)
            torch._foreach_add_(parameters, weights[start : start + len(parameters)])
            start += len(parameters)

    def extra_state(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        go_on(self.generator, state["generator"])


def gaussian(weights: list[Tensor], seed: int) -> list[Tensor]:
    """Standard normal numbers like ``weights``, the same for the same seed, 0 where those are 0."""
    first = weights[0]
    generator = torch.Generator(device=first.device).manual_seed(seed)
    sizes = [w.numel() for w in weights]
    flat = torch.randn(sum(sizes), generator=generator, device=first.device, dtype=first.dtype)
    noise = [x.view(w.shape) for x, w in zip(flat.split(sizes), weights, strict=True)]
    torch._foreach_mul_(noise, torch._foreach_sign(weights))
    return noise


def reference(
    weights: list[Tensor],
    gradient: Callable[[list[Tensor]], list[Tensor]],
    loss: Callable[[list[Tensor]], float],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    rho: float = 0.05,
    delta: float = 1e-3,
    directions: int = 1,
    seed: int = 0,
) -> Iterator[list[Tensor]]:
    """ZO-SAM around SGD, written for reading: yields w_1, w_2, ... for ever."""
    w = [x.clone() for x in weights]
    sgd = PlainSGD(lr, momentum, weight_decay)
    generator = torch.Generator().manual_seed(seed)
    while True:
        estimate = [torch.zeros_like(x) for x in w]
        for key in torch.randint(2**62, (directions,), generator=generator).tolist():
            n = gaussian(w, key)
            above = loss([x + delta * d for x, d in zip(w, n, strict=True)])
            below = loss([x - delta * d for x, d in zip(w, n, strict=True)])
            slope = (above - below) / (2 * delta)
            estimate = [e + slope * d / directions for e, d in zip(estimate, n, strict=True)]
        norm = sum(float((e * e).sum()) for e in estimate) ** 0.5
        u = [x + rho * e / norm if norm > 0 else x for x, e in zip(w, estimate, strict=True)]
        w = sgd.step(w, gradient(u))
        yield [x.clone() for x in w]


ZOSAM.reference = staticmethod(reference)  # type: ignore[attr-defined]
