"""A control for S2-SAM: perturb in a random direction of the same length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.generators import beside, go_on
from paper_repro.optim import OPTIMIZERS
from paper_repro.optim.base import global_norm, radius_over_norm
from paper_repro.optim.plain import PlainSGD
from paper_repro.optim.s2sam import S2SAM

__all__ = ["RandomSAM", "reference"]


@OPTIMIZERS.register("randomsam")
class RandomSAM(S2SAM):
    r"""S2-SAM with a Gaussian direction in place of the previous gradient.

    .. math::
        u_t = w_{t-1} + \rho\, n_t / \lVert n_t \rVert, \quad n_t \sim N(0, I), \qquad
        w_t = \mathrm{base}(w_{t-1}, \nabla L(u_t))

    drawn anew for every step over the active weights of all parameters together. It costs what
    S2-SAM costs and smooths the loss over the same distance, so what S2-SAM does better is due to
    its direction. As there, the first step has no perturbation, a parameter without a gradient is
    not perturbed, and the loop is that of the base optimizer with :meth:`eval` and :meth:`train`.

    A weight counts as pruned, and stays 0, where it is exactly 0 and so is its gradient.

    Args:
        base: the optimizer that takes the step.
        rho: radius ρ >= 0 of the perturbation, in the units of a weight. At 0 the wrapper is the
            base optimizer, bit for bit, and draws nothing.
        seed: of the directions.
    """

    signed_rho = False

    def __init__(self, base: Optimizer, rho: float = 0.05, seed: int = 0) -> None:
        super().__init__(base, rho=rho)
        device = next((p.device for g in self.param_groups for p in g["params"]), None)
        self.generator = torch.Generator(device=device or "cpu").manual_seed(seed)

    def _epsilon(self) -> list[tuple[list[Tensor], list[Tensor]]]:
        """The parameters to move and ε = ρ n/‖n‖ of each, group by group."""
        self._live()  # refuses what has no dense gradient
        groups = [
            (group["rho"], [p for p in group["params"] if p.grad is not None])
            for group in self.param_groups
            if group["rho"]
        ]
        moving = [p for _, parameters in groups for p in parameters]
        if not moving:
            return []
        self.generator = beside(self.generator, moving[0])
        noise = gaussian(moving, [cast(Tensor, p.grad) for p in moving], self.generator)
        norm = global_norm(noise)
        epsilon, start = [], 0
        for rho, parameters in groups:
            if parameters:
                part = noise[start : start + len(parameters)]
                scale = radius_over_norm(rho, norm, parameters[0].dtype)
                epsilon.append((parameters, list(torch._foreach_mul(part, scale))))
                start += len(parameters)
        return epsilon

    def extra_state(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        go_on(self.generator, state["generator"])


def gaussian(
    weights: list[Tensor], gradients: list[Tensor], generator: torch.Generator
) -> list[Tensor]:
    """Standard normal numbers like ``weights``, 0 where weight and gradient both are."""
    first = weights[0]
    sizes = [w.numel() for w in weights]
    flat = torch.randn(sum(sizes), generator=generator, device=first.device, dtype=first.dtype)
    noise = [x.view(w.shape) for x, w in zip(flat.split(sizes), weights, strict=True)]
    active = list(torch._foreach_abs(weights))
    torch._foreach_add_(active, torch._foreach_abs(gradients))
    torch._foreach_sign_(active)
    torch._foreach_mul_(noise, active)
    return noise


def reference(
    weights: list[Tensor],
    gradient: Callable[[list[Tensor]], list[Tensor]],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    rho: float = 0.05,
    seed: int = 0,
) -> Iterator[list[Tensor]]:
    """The control around SGD, written for reading: yields w_1, w_2, ... for ever."""
    w = [x.clone() for x in weights]
    u = w
    sgd = PlainSGD(lr, momentum, weight_decay)
    generator = torch.Generator().manual_seed(seed)
    while True:
        g = gradient(u)
        n = torch.randn(sum(x.numel() for x in w), generator=generator, dtype=w[0].dtype)
        parts = n.split([x.numel() for x in w])
        active = [(x != 0) | (d != 0) for x, d in zip(u, g, strict=True)]
        n_t = [p.view(x.shape) * a for p, x, a in zip(parts, w, active, strict=True)]
        norm = sum(float((d * d).sum()) for d in n_t) ** 0.5
        w = sgd.step(w, g)
        u = [x + rho * d / norm if norm > 0 else x for x, d in zip(w, n_t, strict=True)]
        yield [x.clone() for x in w]


RandomSAM.reference = staticmethod(reference)  # type: ignore[attr-defined]
