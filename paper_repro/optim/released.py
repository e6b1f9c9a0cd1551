"""S2-SAM as its authors' released code computes it, each deviation from the paper a switch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS
from paper_repro.optim.ascent import copies
from paper_repro.optim.base import (
    GradientMasks,
    Perturbing,
    global_norm,
    moved,
    radius_over_norm,
)

__all__ = ["Released", "reference"]

_AFTERWARDS = ("zero", "set_to_none", "keep")
_OWN = ("previous", "previous_point", "epsilon", "kept")


@OPTIMIZERS.register("released")
class Released(Perturbing):
    r"""The paper's Eq. 3 with the deviations that running the authors' code shows.

    With every switch off (and ``after_step="keep"``) it is Eq. 3, as S2SAM is. By default it is
    the released code with the shipped script's settings, run with gradients that are zeroed in
    place. Where the two compute differently:

    - ``adaptive``: along :math:`g^3`, not :math:`g`, with radius
      :math:`\rho\, \lVert g^3 \rVert / \lVert u \odot g \rVert`: ASAM's formula in which the
      previous gradient stands where the weights should. Its length depends on the gradient's
      scale.
    - ``dense_perturbation``: pruned weights are perturbed along their dense gradients, so the
      forward pass of training is dense.
    - ``mask_after_step``: the base optimizer steps with dense gradients and the masks are put on
      the weights afterwards; the momentum of pruned weights is not zero, and a topology update
      does not clear it.
    - ``frozen_bias``: one-dimensional tensors of which at least a tenth is zero when training
      starts, that is the biases of batch norm, are masked where they are zero. The classifier's
      bias, which the authors' network starts at 0 and so freezes too, is drawn by the networks
      here and trained: of the 34 frozen tensors of their ResNet-32 this one freezes 33.
    - ``stale_perturbation``: where a perturbation is left out because a parameter's gradient is
      None, the last one is subtracted again.
    - ``after_step``: what becomes of the gradients. ``zero`` is the released code under torch < 2;
      a sparse method that reads gradients between steps finds zeros. ``set_to_none`` is the same
      code under torch >= 2: every perturbation is then left out and it is plain SGD, and with
      masks it stops with an error, as here. ``keep`` is what S2SAM does.
    - ``lossy_checkpoint``: a checkpoint holds no state of the base optimizer, and after loading
      one, learning rates set on this optimizer do not reach its steps. Off by default, because a
      run that resumed with it would not be the run that was stopped.

    Not here, but among a run's other settings: the released baselines' weight decay of 1e-4 against
    5e-4 (``weight_decay``), and reporting the best test epoch (every record has both).

    Between steps the parameters hold w; the step perturbs, calls the closure once and steps.
    ``dense_perturbation`` and ``mask_after_step`` need to know the masks: see :meth:`adopt`. They
    differ from the released code in one point: without ``mask_after_step`` a topology update
    clears the previous gradient at pruned positions, too.

    Args:
        base: the optimizer that takes the step.
        rho: radius ρ >= 0. At 0 and without masks or biases to freeze it is the base optimizer.
    """

    blind_to_tensors = False  # it masks and freezes tensors by name

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        adaptive: bool = True,
        dense_perturbation: bool = True,
        mask_after_step: bool = True,
        frozen_bias: bool = True,
        stale_perturbation: bool = True,
        after_step: str = "zero",
        lossy_checkpoint: bool = False,
    ) -> None:
        super().__init__(base, rho=rho)
        if after_step not in _AFTERWARDS:
            raise UserError(f"after_step is one of {', '.join(_AFTERWARDS)}, not {after_step!r}")
        self.adaptive = adaptive
        self.dense_perturbation = dense_perturbation
        self.mask_after_step = mask_after_step
        self.frozen_bias = frozen_bias
        self.stale_perturbation = stale_perturbation
        self.after_step = after_step
        self.lossy_checkpoint = lossy_checkpoint
        # g and ε, and with `adaptive` the point u where g was taken.
        self.extra_buffers = 3.0 if adaptive else 2.0
        self.masks: GradientMasks | None = None
        self.started = False

    def adopt(self, masks: GradientMasks) -> None:
        """Take over from ``masks``, which else zero gradients before any optimizer sees them."""
        self.masks = masks
        # Between its steps pruned weights lie at u, away from 0.
        masks.held = not (self.dense_perturbation or self.mask_after_step)
        if self.mask_after_step:
            masks.optimizer = None  # a topology update leaves the momentum of dropped weights

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Perturb along the gradient of the step before, take the gradient, return to w and step.

        Raises:
            UserError: without a closure, or with masks where the released code stops.
        """
        if closure is None:
            raise UserError("Released.step needs a closure: it perturbs before the gradient")
        if self.masks is not None and self.after_step == "set_to_none":
            raise UserError(
                "the released code stops here under torch >= 2: it multiplies a gradient that is "
                "None by a mask; use after_step=zero for its behaviour under torch < 2"
            )
        fresh = self._freeze() if self.frozen_bias and not self.started else {}
        self.started = True
        climbed = self._climb()
        try:
            loss = self._gradient(closure)
        except BaseException:
            if climbed:
                torch._foreach_sub_(climbed, [self.state[p].pop("epsilon") for p in climbed])
                moved()
            raise
        live = self._live()
        kept = self._kept(fresh)
        points = copies(live) if self.adaptive else [None] * len(live)
        dense = copies([cast(Tensor, p.grad) for p in live])
        previous = dict(zip(live, zip(dense, points, strict=True), strict=True))
        if not self.dense_perturbation:
            _apply(kept, {p: g for p, (g, _) in previous.items()})
        away = [p for p in live if "epsilon" in self.state.get(p, {})]
        if away:
            torch._foreach_sub_(away, [self.state[p]["epsilon"] for p in away])
        if not self.mask_after_step:
            _apply(kept, {p: cast(Tensor, p.grad) for p in live})
        self.base.step()
        # Only after the base's first step: Adam takes any earlier state for its own.
        for p, factor in fresh.items():
            self.state[p]["kept"] = factor
        if any(group["rho"] for group in self.param_groups):
            for p, (g, u) in previous.items():
                self.state[p]["previous"] = g
                if u is not None:
                    self.state[p]["previous_point"] = u
        _apply(kept, {p: p for p in kept})
        self._finish(kept)
        return loss

    def _climb(self) -> list[Tensor]:
        """u = w + ε for the parameters that have a gradient tensor, whatever is in it.

        Returns those that were moved.
        """
        moving = [
            p
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None and group["rho"] and "previous" in self.state.get(p, {})
        ]
        if not self.stale_perturbation:
            for state in self.state.values():
                state.pop("epsilon", None)
        gradients = {p: self.state[p]["previous"] for p in moving}
        lengths = list(gradients.values())
        if self.adaptive and moving:
            lengths = list(
                torch._foreach_mul([self.state[p]["previous_point"] for p in moving], lengths)
            )
        norm = global_norm(lengths)
        for group in self.param_groups:
            here = [p for p in group["params"] if p in gradients]
            if not here:
                continue
            scale = radius_over_norm(group["rho"], norm, here[0].dtype)
            g = [gradients[p] for p in here]
            epsilon = torch._foreach_mul(g, scale)
            if self.adaptive:
                torch._foreach_mul_(epsilon, torch._foreach_mul(g, g))
            torch._foreach_add_(here, epsilon)
            for p, e in zip(here, epsilon, strict=True):
                self.state[p]["epsilon"] = e
        return moving

    def _gradient(self, closure: Callable[[], Any]) -> Any:
        """Run the closure, the masks letting dense gradients pass if a switch asks for them."""
        if self.masks is None or not (self.dense_perturbation or self.mask_after_step):
            return self._run(closure)
        before, self.masks.open = self.masks.open, True
        try:
            return self._run(closure)
        finally:
            self.masks.open = before

    def _freeze(self) -> dict[Tensor, Tensor]:
        """Factors of the one-dimensional parameters of which at least a tenth is zero."""
        vectors = [p for group in self.param_groups for p in group["params"] if p.ndim == 1]
        return {
            p: (p != 0).to(p.dtype)
            for p in vectors
            if 10 * int((p == 0).sum()) >= p.numel()  # once a training, so it may wait
        }

    def _kept(self, fresh: dict[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """Factors 0 and 1 of everything that is masked."""
        factors = {p: state["kept"] for p, state in self.state.items() if "kept" in state}
        if self.masks is not None:
            factors |= {self.masks.weights[name]: self.masks[name] for name in self.masks}
        return {**factors, **fresh}

    def _finish(self, kept: dict[Tensor, Tensor]) -> None:
        live = self._live()
        gradients = {p: cast(Tensor, p.grad) for p in live}
        if self.after_step == "keep":
            _apply(kept, gradients)
        elif self.after_step == "zero" and live:
            torch._foreach_zero_(list(gradients.values()))
        elif self.after_step == "set_to_none":
            self.zero_grad(set_to_none=True)

    def extra_state(self) -> dict[str, Any]:
        return {"started": self.started}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.started = bool(state["started"])

    def state_dict(self) -> dict[str, Any]:
        """The shared groups and state; with ``lossy_checkpoint`` without the base optimizer's."""
        full = super().state_dict()
        if self.lossy_checkpoint:
            full["state"] = {
                i: {name: value for name, value in state.items() if name in _OWN}
                for i, state in full["state"].items()
            }
        return full

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        groups = [dict(group) for group in self.param_groups]
        super().load_state_dict(state_dict)
        if self.lossy_checkpoint:
            self.base.param_groups = groups

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.after_step != "set_to_none" and not self.lossy_checkpoint:
            # Whether a parameter has a gradient tensor, which no checkpoint or copy holds, decides
            # whether it is perturbed.
            for p, own in self.state.items():
                if "previous" in own and p.grad is None:
                    p.grad = torch.zeros_like(p)

    def __getstate__(self) -> dict[str, Any]:
        # Masks belong to the model that they hook into; a copied optimizer adopts its own.
        return {**super().__getstate__(), "masks": None}


def _apply(factors: dict[Tensor, Tensor], tensors: dict[Tensor, Tensor]) -> None:
    """Multiply the tensors of masked parameters by their factors, in place."""
    pairs = [(tensor, factors[p]) for p, tensor in tensors.items() if p in factors]
    if pairs:
        torch._foreach_mul_([t for t, _ in pairs], [f for _, f in pairs])


def reference(
    weights: list[Tensor],
    gradient: Callable[[list[Tensor]], list[Tensor]],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    rho: float = 0.05,
    adaptive: bool = True,
    dense_perturbation: bool = True,
    mask_after_step: bool = True,
    masks: Sequence[Tensor] | None = None,
) -> Iterator[list[Tensor]]:
    """The released step around SGD, written for reading: yields w_1, w_2, ... for ever.

    ``gradient`` is the dense one; ``masks`` holds one tensor of 0 and 1 for each weight.
    """
    m = [torch.ones_like(x) for x in weights] if masks is None else list(masks)
    w = [x.clone() for x in weights]
    velocity = [torch.zeros_like(x) for x in w]
    previous = [torch.zeros_like(x) for x in w]
    point = [torch.zeros_like(x) for x in w]
    while True:
        sizes = [p * g if adaptive else g for p, g in zip(point, previous, strict=True)]
        norm = sum(float((s * s).sum()) for s in sizes) ** 0.5
        u = [
            x + (rho / norm) * (g**3 if adaptive else g) if norm > 0 else x
            for x, g in zip(w, previous, strict=True)
        ]
        dense = gradient(u)
        sparse = [g * f for g, f in zip(dense, m, strict=True)]
        point, previous = u, dense if dense_perturbation else sparse
        used = dense if mask_after_step else sparse
        velocity = [
            momentum * v + g + weight_decay * x for v, g, x in zip(velocity, used, w, strict=True)
        ]
        w = [(x - lr * v) * f for x, v, f in zip(w, velocity, m, strict=True)]
        yield [x.clone() for x in w]


Released.reference = staticmethod(reference)  # type: ignore[attr-defined]
