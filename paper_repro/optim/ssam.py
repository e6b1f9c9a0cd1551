"""SSAM: SAM that perturbs only some of the weights (Mi et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.generators import beside, go_on
from paper_repro.optim import OPTIMIZERS
from paper_repro.optim.ascent import ascend, displaced
from paper_repro.optim.base import Perturbing, global_norm
from paper_repro.optim.batchnorm import still_batch_norm
from paper_repro.optim.closure import given
from paper_repro.optim.plain import PlainSGD

__all__ = ["SSAM", "reference"]

_VARIANTS = ("dynamic", "fisher")


@OPTIMIZERS.register("ssam")
class SSAM(Perturbing):
    r"""Sparse SAM: the perturbation passes through a binary mask m.

    .. math::
        \varepsilon = \rho\, m \odot g / \lVert g \rVert, \quad g = \nabla L(w), \qquad
        w \leftarrow \mathrm{base}(w, \nabla L(w + \varepsilon))

    (Mi, Shen, Ren, Zhou, Sun, Ji, Tao, "Make Sharpness-Aware Minimization Stronger: A Sparsified
    Perturbation Approach", NeurIPS 2022.) m lets through exactly the fraction
    1 - ``mask_sparsity`` of the weights whose gradient is not 0 (so pruned weights do not count),
    chosen over all parameters together. It changes every ``total_steps / mask_updates`` steps:

    - ``variant="dynamic"`` (SSAM-D): random at first; then the fraction
      :math:`\tfrac12 d\,(1 + \cos(\pi t / T))` of smallest |g| leaves, d being ``mask_drop``,
      and as many enter at random.
    - ``variant="fisher"`` (SSAM-F): the largest g². The authors average the squared gradients of
      1,024 single samples, an extra cost; here it is the square of the batch's own gradient.

    Both gradients of a step are complete: the sparse perturbation saves no time on today's
    hardware. The closure is called twice; batch-norm statistics move only the first time.

    Do not use it under bfloat16 autocast unawares: an ε below bfloat16's resolution arrives
    distorted (see :class:`paper_repro.optim.S2SAM` for numbers measured with its ε).

    Args:
        base: the optimizer that takes the step.
        rho: radius ρ >= 0 of the perturbation before the mask. At 0 the wrapper is the base
            optimizer, bit for bit.
        mask_sparsity: fraction of the weights left unperturbed, in [0, 1).
        variant: ``dynamic`` or ``fisher``.
        mask_updates: of the mask, over ``total_steps``; the authors have 200 epochs / 5 = 40.
        mask_drop: d in [0, 1] of the dynamic variant.
        seed: of the dynamic variant's choices.
        total_steps: optimizer steps T of the whole training. Without it the mask changes every
            1,000 steps and its drop fraction stays d.
        model: the model, needed only where it is compiled (see :func:`still_batch_norm`).
    """

    gradients_per_step = 2.0
    extra_buffers = 2.0  # w and the mask

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        mask_sparsity: float = 0.5,
        variant: str = "dynamic",
        mask_updates: int = 40,
        mask_drop: float = 0.5,
        seed: int = 0,
        total_steps: int | None = None,
        model: torch.nn.Module | None = None,
    ) -> None:
        super().__init__(base, rho=rho)
        if not (0 <= mask_sparsity < 1 and 0 <= mask_drop <= 1 and mask_updates >= 1):
            raise UserError(
                "SSAM needs mask_sparsity in [0, 1), mask_drop in [0, 1] and mask_updates >= 1, "
                f"not {mask_sparsity}, {mask_drop} and {mask_updates}"
            )
        if variant not in _VARIANTS:
            raise UserError(f"SSAM's variant is {' or '.join(_VARIANTS)}, not {variant!r}")
        self.mask_sparsity = mask_sparsity
        self.variant = variant
        self.mask_drop = mask_drop
        self.total_steps = total_steps
        self.period = 1000 if total_steps is None else max(1, total_steps // mask_updates)
        self.model = model
        device = self.param_groups[0]["params"][0].device
        self.generator = torch.Generator(device=device).manual_seed(seed)
        self.steps = 0

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step; returns the closure's loss at w.

        Raises:
            UserError: without a closure.
        """
        closure = given(closure, "SSAM")
        loss = self._run(closure)
        fresh: dict[Tensor, Tensor] = {}
        if any(group["rho"] for group in self.param_groups):
            live = self._live()
            gradients = [cast(Tensor, p.grad) for p in live]
            norm = global_norm(gradients)
            # Also at its first perturbed step, if ρ was 0 until then.
            begun = any("perturbed" in self.state.get(p, {}) for p in live)
            if live and (self.steps % self.period == 0 or not begun):
                fresh = dict(zip(live, self._choose(live, gradients), strict=True))
            masks = [fresh[p] if p in fresh else self._mask(p) for p in live]
            directions = dict(zip(live, torch._foreach_mul(gradients, masks), strict=True))
            with displaced(live), still_batch_norm(self.model):
                ascend(self.param_groups, directions, norm)
                del gradients, directions, masks  # the second pass needs the memory
                self._run(closure)
        self.base.step()
        # Only after the base's first step: Adam takes any earlier state for its own.
        for p, mask in fresh.items():
            self.state[p]["perturbed"] = mask
        self.steps += 1
        return loss

    def _mask(self, p: Tensor) -> Tensor:
        """A parameter's mask: 0 for one that came after the last update, until the next."""
        mask: Tensor | None = self.state.get(p, {}).get("perturbed")
        return torch.zeros_like(p) if mask is None else mask

    def _choose(self, live: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        """New masks, without waiting for the device: counts stay on it as well."""
        flat = torch.cat([g.flatten() for g in gradients]).abs()
        self.generator = beside(self.generator, flat)
        now = torch.cat([self._mask(p).flatten() for p in live]).bool()
        chosen = choose(
            flat,
            now,
            self.mask_sparsity,
            self._drop() if self.variant == "dynamic" else None,
            self.generator,
        )
        for p in live:
            self.state.get(p, {}).pop("perturbed", None)
        sizes = [p.numel() for p in live]
        return [
            torch.empty_like(p, requires_grad=False).copy_(part.view(p.shape))
            for p, part in zip(live, chosen.split(sizes), strict=True)
        ]

    def _drop(self) -> float:
        progress = 0.0 if self.total_steps is None else min(1.0, self.steps / self.total_steps)
        return 0.5 * self.mask_drop * (1 + math.cos(math.pi * progress))

    def extra_state(self) -> dict[str, Any]:
        return {"steps": self.steps, "generator": self.generator.get_state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.steps = int(state["steps"])
        go_on(self.generator, state["generator"])


def choose(
    size: Tensor, now: Tensor, sparsity: float, drop: float | None, generator: torch.Generator
) -> Tensor:
    """The boolean mask that follows ``now``, flat.

    Args:
        size: |g| of every weight; one where it is 0 cannot be chosen.
        now: the mask before, all False at first.
        sparsity: fraction of the other weights to leave out.
        drop: fraction of the present ones to exchange, or None for the largest |g| of all.
        generator: of those that enter.
    """
    able = size > 0
    count = ((1 - sparsity) * able.sum()).round()
    if drop is None:
        return _largest(size, count) & able
    kept = now & able
    kept = _largest(torch.where(kept, size, -1.0), ((1 - drop) * count).round()) & kept
    luck = torch.rand(size.shape, generator=generator, device=size.device)
    free = able & ~kept
    return kept | (_largest(torch.where(free, luck, -1.0), count - kept.sum()) & free)


def _largest(score: Tensor, count: Tensor) -> Tensor:
    """Where the ``count`` largest scores are, ``count`` being a tensor on the device."""
    order = torch.argsort(score, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    return rank < count


def reference(
    weights: list[Tensor],
    gradient: Callable[[list[Tensor]], list[Tensor]],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    rho: float = 0.05,
    mask_sparsity: float = 0.5,
    variant: str = "dynamic",
    mask_updates: int = 40,
    mask_drop: float = 0.5,
    seed: int = 0,
    total_steps: int = 40,
) -> Iterator[list[Tensor]]:
    """SSAM around SGD, written for reading: yields w_1, w_2, ... for ever."""
    w = [x.clone() for x in weights]
    sgd = PlainSGD(lr, momentum, weight_decay)
    generator = torch.Generator().manual_seed(seed)
    on: set[int] = set()
    t = 0
    while True:
        g = gradient(w)
        norm = sum(float((d * d).sum()) for d in g) ** 0.5
        size = torch.cat([d.flatten() for d in g]).abs().tolist()
        if t % max(1, total_steps // mask_updates) == 0:
            able = [i for i, s in enumerate(size) if s > 0]
            count = round((1 - mask_sparsity) * len(able))
            if variant == "fisher":
                on = set(sorted(able, key=lambda i: -size[i])[:count])
            else:
                drop = mask_drop * (1 + math.cos(math.pi * min(1.0, t / total_steps))) / 2
                stay = sorted(on.intersection(able), key=lambda i: -size[i])
                on = set(stay[: round((1 - drop) * count)])
                luck = torch.rand(len(size), generator=generator).tolist()
                free = sorted(set(able) - on, key=lambda i: -luck[i])
                on |= set(free[: count - len(on)])
        mask = torch.tensor([float(i in on) for i in range(len(size))]).to(w[0])
        parts = mask.split([x.numel() for x in w])
        u = [x + rho * m.view(x.shape) * d / norm for x, d, m in zip(w, g, parts, strict=True)]
        w = sgd.step(w, gradient(u))
        t += 1
        yield [x.clone() for x in w]


SSAM.reference = staticmethod(reference)  # type: ignore[attr-defined]
