"""Masks that keep pruned weights, their gradients and their optimizer state at exactly zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.optim.base import exact
from paper_repro.sparse.distribution import prunable

__all__ = ["Masks"]


@dataclass
class _Gate:
    open: bool = False


def _masking(factor: Tensor, gate: _Gate) -> Callable[[Tensor], None]:
    """A gradient hook of a weight.

    It must not refer to the :class:`Masks`, which hold the weight: the garbage collector does not
    see what a weight's hooks refer to, so neither of them would ever be freed.
    """

    @torch.no_grad()
    def mask_gradient(weight: Tensor) -> None:
        if not gate.open and weight.grad is not None:
            weight.grad.mul_(factor)

    return mask_gradient


class Masks:
    """Binary masks over some weights of a model, enforced on every gradient as it arrives.

    A hook multiplies each gradient by its mask the moment autograd has accumulated it: before
    clipping, before any optimizer, in every extra backward pass of a sharpness-aware optimizer,
    and before replicas exchange gradients. So a pruned weight receives no gradient, no momentum,
    no weight decay (its value is 0) and no perturbation, and the forward pass is truly sparse.

    Args:
        model: the network.
        optimizer: whose state of a dropped weight is to be zeroed as well.
        masks: boolean mask by parameter name, for the weights that are to be masked; only
            weights of convolutions and linear layers can be.

    Raises:
        UserError: a name that is no such weight, or a mask of the wrong shape.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer | None, masks: Mapping[str, Tensor]
    ) -> None:
        weights = prunable(model)
        for name, mask in masks.items():
            if name not in weights:
                raise UserError(
                    f"{name!r} is not a weight of a convolution or linear layer, so it has no mask"
                )
            if mask.shape != weights[name].shape:
                raise UserError(
                    f"the mask of {name!r} has shape {tuple(mask.shape)}, "
                    f"the weight has {tuple(weights[name].shape)}"
                )
        self.optimizer = optimizer
        self.weights: dict[str, nn.Parameter] = {name: weights[name] for name in masks}
        self._total = sum(w.numel() for w in weights.values())
        # In the weight's type and memory layout, so that applying one is a single product.
        self._factors = {
            name: torch.empty_like(weights[name], requires_grad=False).copy_(mask)
            for name, mask in masks.items()
        }
        self._gate = _Gate()
        self._hooks = [
            weight.register_post_accumulate_grad_hook(_masking(self._factors[name], self._gate))
            for name, weight in self.weights.items()
        ]
        self.apply()

    @property
    def open(self) -> bool:
        """While true, gradients pass unmasked: a topology update is about to read them."""
        return self._gate.open

    @open.setter
    def open(self, value: bool) -> None:
        self._gate.open = value

    def __getitem__(self, name: str) -> Tensor:
        """The boolean mask of a weight (a fresh tensor)."""
        return self._factors[name].bool()

    def __contains__(self, name: str) -> bool:
        return name in self._factors

    def __iter__(self) -> Iterator[str]:
        return iter(self._factors)

    def __len__(self) -> int:
        return len(self._factors)

    def weight(self, name: str, optimizer: Optimizer | None) -> Tensor:
        """The exact weights w of a masked layer, also while ``optimizer`` holds them perturbed."""
        return exact(optimizer, self.weights[name])

    def gradient(self, name: str) -> Tensor:
        """The gradient of a masked layer's weights, taken where they stand; 0 if there is none."""
        weight = self.weights[name]
        return torch.zeros_like(weight) if weight.grad is None else weight.grad

    @torch.no_grad()
    def replace(self, masks: Mapping[str, Tensor]) -> int:
        """Adopt new masks; returns the number of positions that changed.

        What is dropped becomes exactly 0 in value, gradient and every optimizer buffer of the
        weight's shape (momentum, stored weights or gradients); what is grown was 0 there and
        starts from 0.
        """
        changed = torch.zeros((), dtype=torch.int64)
        for name, mask in masks.items():
            factor = self._factors[name]
            changed += (factor.bool() != mask).sum().cpu()
            factor.copy_(mask)
        self.apply()
        return int(changed)

    @torch.no_grad()
    def apply(self) -> None:
        """Zero everything at pruned positions: weights, gradients, optimizer state."""
        for name, weight in self.weights.items():
            factor = self._factors[name]
            weight.mul_(factor)
            if weight.grad is not None:
                weight.grad.mul_(factor)
            if self.optimizer is not None and weight in self.optimizer.state:
                for buffer in self.optimizer.state[weight].values():
                    if isinstance(buffer, Tensor) and buffer.shape == weight.shape:
                        buffer.mul_(factor)

    def counts(self) -> dict[str, int]:
        """Active weights of each masked layer."""
        return {name: int(f.count_nonzero()) for name, f in self._factors.items()}

    def densities(self) -> dict[str, float]:
        """Active fraction of each masked layer."""
        return {name: n / self._factors[name].numel() for name, n in self.counts().items()}

    def sparsity(self, overall: bool = False) -> float:
        """Pruned fraction of the masked layers, or ``overall`` of all prunable weights."""
        masked = sum(f.numel() for f in self._factors.values())
        pruned = masked - sum(self.counts().values())
        return pruned / (self._total if overall else max(1, masked))

    def state_dict(self) -> dict[str, Tensor]:
        """The boolean masks by name."""
        return {name: self[name] for name in self._factors}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the masks of a checkpoint.

        Raises:
            UserError: they are masks of other layers, or of other shapes.
        """
        if set(state) != set(self._factors):
            raise UserError("the checkpoint's masks are of other layers than this method masks")
        for name, mask in state.items():
            if mask.shape != self._factors[name].shape:
                raise UserError(f"the checkpoint's mask of {name!r} has another shape")
        for name, mask in state.items():
            self._factors[name].copy_(mask)

    def detach(self) -> None:
        """Remove the hooks; the weights stay as sparse as they are."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
