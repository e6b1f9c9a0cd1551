"""Masks that keep pruned weights, their gradients and their optimizer state at exactly zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from paper_repro.errors import UserError
from paper_repro.optim.base import Perturbing, exact, unwrapped
from paper_repro.sparse.layers import check_whole, maskable
from paper_repro.sparse.replicas import agreed, settled

__all__ = ["Masks"]

#: Optimizers that move each entry by its own gradient and state alone: where both are 0 and the
#: weight is, it stays 0. After a step of any other (Muon, Shampoo, one's own) masks are put on
#: again.
_ELEMENTWISE = frozenset(
    getattr(torch.optim, name)
    for name in (
        *("ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam"),
        *("RMSprop", "Rprop", "SGD"),
    )
)

#: The hook of every masked weight, so that a second mask is refused. Not an attribute of the
#: weight, which would travel in its pickles.
_HOOKED: WeakIdKeyDictionary = WeakIdKeyDictionary()


@dataclass
class _Gate:
    """What a weight's hook may look at."""

    open: bool = False
    #: Until the first gradient: the weights as they were found, by name, and the version that each
    #: had once it was masked.
    found: dict[str, Tensor] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)


def _beside(factor: Tensor, weight: Tensor) -> Tensor:
    """A weight's mask, on the device to which the model may have moved since."""
    if factor.device != weight.device:
        factor.data = factor.to(weight.device)
    return factor


def _masking(factor: Tensor, gate: _Gate) -> Callable[[Tensor], None]:
    """A gradient hook of a weight.

    It must not refer to the :class:`Masks`, which hold the weight: the garbage collector does not
    see what a weight's hooks refer to, so neither of them would ever be freed.
    """

    @torch.no_grad()
    def mask_gradient(weight: Tensor) -> None:
        if gate.found:
            gate.found.clear()
        if not gate.open and weight.grad is not None:
            weight.grad.mul_(_beside(factor, weight))

    return mask_gradient


def _check(name: str, weight: Tensor | None, mask: Tensor, trained: set[int] | None) -> None:
    if weight is None or weight.dim() < 2:
        raise UserError(
            f"{name!r} is not a weight of a convolution or linear layer, so it has no mask"
        )
    if mask.shape != weight.shape:
        raise UserError(
            f"the mask of {name!r} has shape {tuple(mask.shape)}, "
            f"the weight has {tuple(weight.shape)}"
        )
    if weight.is_complex():
        raise UserError(f"{name!r} is complex, and masks are of real weights")
    if not weight.requires_grad:
        raise UserError(f"{name!r} is frozen (requires_grad is False), so it cannot be masked")
    handle: RemovableHandle | None = _HOOKED.get(weight)
    if handle is not None and handle.id in (handle.hooks_dict_ref() or {}):
        raise UserError(
            f"{name!r} is masked already: a model takes one sparse method at a time; detach() "
            "the first one"
        )
    if trained is not None and id(weight) not in trained:
        raise UserError(
            f"the optimizer does not train {name!r}: give the optimizer of this model, or leave "
            "the layer out with choose_layers(model, exclude=...)"
        )


class Masks:
    """Binary masks over some weights of a model, enforced on every gradient as it arrives.

    A hook multiplies each gradient by its mask the moment autograd has accumulated it: before
    clipping, before any optimizer, in every extra backward pass of a sharpness-aware optimizer,
    and before replicas exchange gradients. One that is changed or set afterwards (noise,
    centralization, ``autograd.grad``) is masked again when the optimizer's step begins. So a pruned
    weight receives no gradient, no momentum, no weight decay (its value is 0) and no perturbation,
    and the forward pass is truly sparse. An optimizer that mixes a matrix's entries, as Muon does,
    would move it all the same: after each of its steps the masks are put on weights and state
    again, and after the first step of any.

    Until the first gradient arrives, the weights as they were found are kept: masks that come in
    that time, with a checkpoint, are put on those, and not on what the first masks left.

    Args:
        model: the network.
        optimizer: whose state of a dropped weight is to be zeroed as well.
        masks: boolean mask by parameter name, for the weights that are to be masked.

    Raises:
        UserError: a name that is no such weight, a mask of the wrong shape, a weight that is
            masked already, frozen, sharded, complex or another model's than the optimizer trains.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer | None, masks: Mapping[str, Tensor]
    ) -> None:
        check_whole(model)
        weights = maskable(model)
        parameters = dict(model.named_parameters())
        self.optimizer: Optimizer | None = unwrapped(optimizer)
        #: Whether masks are put on again after steps that may move pruned weights.
        self.held = True
        trained = None
        if self.optimizer is not None:
            trained = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        for name, mask in masks.items():
            _check(name, parameters.get(name), mask, trained)
        self.weights: dict[str, nn.Parameter] = {name: parameters[name] for name in masks}
        self._total = sum(w.numel() for w in {**weights, **self.weights}.values())
        masks = agreed(dict(masks))
        self._agreed = settled()
        # In the weight's type and memory layout, so that applying one is a single product.
        self._factors = {
            name: torch.empty_like(weight, requires_grad=False).copy_(masks[name])
            for name, weight in self.weights.items()
        }
        self._gate = _Gate()
        self._hook()
        self._gate.found = {n: w.detach().clone() for n, w in self.weights.items()}
        self._gate.versions = {n: w._version for n, w in self.weights.items()}
        self.apply()

    def _hook(self) -> None:
        """Hooks on the weights, and before and after the optimizer's step."""
        self._hooks = [
            weight.register_post_accumulate_grad_hook(_masking(self._factors[name], self._gate))
            for name, weight in self.weights.items()
        ]
        for weight, hook in zip(self.weights.values(), self._hooks, strict=True):
            _HOOKED[weight] = hook
        if self.optimizer is None:
            return
        inner = self.optimizer.base if isinstance(self.optimizer, Perturbing) else self.optimizer
        always, first = type(inner) not in _ELEMENTWISE, True
        plain = inner is self.optimizer
        by_closure = False

        def enforce(*_: Any) -> None:
            nonlocal first
            # A closure's gradients reach a plain optimizer as the closure leaves them.
            if (always or first or (plain and by_closure)) and self.held:
                self.apply()
            first = False

        self._hooks.append(self.optimizer.register_step_post_hook(enforce))

        def outer(_optimizer: Optimizer, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            nonlocal by_closure
            by_closure = any(a is not None for a in (*arguments[1:], *named.values()))
            if not self._agreed and settled():  # a process group that came after the masks
                self._agreed = True
                self.replace(agreed(self.state_dict()))
            self._mask_gradients()

        def within(*_: Any) -> None:  # a wrapper's step, which may have taken gradients itself
            if by_closure:
                self._mask_gradients()

        self._hooks.append(self.optimizer.register_step_pre_hook(outer))
        if not plain:
            self._hooks.append(inner.register_step_pre_hook(within))

    @torch.no_grad()
    def _mask_gradients(self) -> None:
        """Once more, as they may have been changed since they arrived."""
        if self.open or not self.held:
            return
        gradients = {name: weight.grad for name, weight in self.weights.items()}
        live = {name: g for name, g in gradients.items() if g is not None}
        if live:
            torch._foreach_mul_(list(live.values()), [self._factor(name) for name in live])

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles have hooks of their own, on the weights that are copied with them.
        left = ("_hooks", "_gate")
        attached = bool(self._hooks)
        kept = {name: value for name, value in self.__dict__.items() if name not in left}
        return {**kept, "attached": attached, "open": self.open}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        attached, is_open = state.pop("attached"), state.pop("open")
        self.__dict__.update(state)
        self._gate = _Gate(is_open)
        self._hooks = []
        if attached:
            self._hook()

    @property
    def open(self) -> bool:
        """While true, gradients pass unmasked: a topology update is about to read them."""
        return self._gate.open

    @open.setter
    def open(self, value: bool) -> None:
        self._gate.open = value

    def _factor(self, name: str) -> Tensor:
        return _beside(self._factors[name], self.weights[name])

    def __getitem__(self, name: str) -> Tensor:
        """The boolean mask of a weight (a fresh tensor)."""
        return self._factor(name).bool()

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

        What is dropped becomes exactly 0 in value, gradient and every floating-point optimizer
        buffer of the weight's shape (momentum, stored weights or gradients); what is grown was 0
        there and starts from 0.
        """
        changed = torch.zeros((), dtype=torch.int64)
        for name, mask in masks.items():
            factor = self._factor(name)
            changed += (factor.bool() != mask).sum().cpu()
            factor.copy_(mask)
        self.apply()
        return int(changed)

    @torch.no_grad()
    def apply(self) -> None:
        """Zero everything at pruned positions: weights, gradients, optimizer state."""
        gate = self._gate
        for name, weight in self.weights.items():
            factor = self._factor(name)
            untouched = name in gate.found and gate.versions[name] == weight._version
            weight.mul_(factor)
            if untouched:
                gate.versions[name] = weight._version
            if weight.grad is not None:
                weight.grad.mul_(factor)
            if self.optimizer is not None and weight in self.optimizer.state:
                for buffer in self.optimizer.state[weight].values():
                    # A code of an 8-bit state stands for 0 where its map says, not at 0.
                    like = isinstance(buffer, Tensor) and buffer.shape == weight.shape
                    if like and buffer.is_floating_point():
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

        Weights that nobody wrote to since these masks were made, which is before any training, are
        those found then under the new masks: what the first masks zeroed is back.

        Raises:
            UserError: they are masks of other layers, or of other shapes.
        """
        if set(state) != set(self._factors):
            raise UserError("the checkpoint's masks are of other layers than this method masks")
        for name, mask in state.items():
            if mask.shape != self._factors[name].shape:
                raise UserError(f"the checkpoint's mask of {name!r} has another shape")
        gate = self._gate
        for name, mask in state.items():
            factor, weight = self._factor(name), self.weights[name]
            factor.copy_(mask)
            if name in gate.found and gate.versions[name] == weight._version:
                weight.copy_(gate.found[name]).mul_(factor)
                gate.versions[name] = weight._version
            elif self.held and not gate.found:  # trained under others; a checkpoint's may follow
                weight.mul_(factor)

    @torch.no_grad()
    def withdraw(self) -> None:
        """Before any training: give the weights back as they were found, and let go."""
        for name, found in self._gate.found.items():
            self.weights[name].copy_(found)
        self.detach()

    def settle(self) -> None:
        """Put the weights into the model's parameters: they are there, unless overridden."""

    def detach(self) -> None:
        """Remove the hooks: no weight is held at 0 any more.

        The weights stay as sparse as they are until training goes on, which is dense then: pruned
        weights receive gradients and move. :meth:`SparseMethod.finalize` is for when it is over.
        """
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._gate.found.clear()
