"""How a sparse method attaches to an optimizer, and travels inside its ``state_dict``."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from paper_repro.errors import UserError
from paper_repro.optim.base import Perturbing, unwrapped
from paper_repro.sparse.layers import given_densities, prunable, skipped
from paper_repro.sparse.masks import Masks

if TYPE_CHECKING:
    from paper_repro.sparse.method import SparseMethod

__all__ = ["KEY", "Passenger", "check_given", "usable_optimizer"]

#: Under which key of the optimizer's state dict it lies.
KEY = "sparse_method"


class Passenger:
    """Lets a method's state travel with the optimizer's: out by ``state_dict``, in by its load.

    So whatever saves and restores the optimizer (Lightning, transformers' Trainer, accelerate, a
    loop of one's own) saves and restores masks, step counter and random state without knowing of
    them, and a resumed run cannot silently go on with other masks: a state without them is
    refused.

    Args:
        method: whose state.
        optimizer: the one that trains.

    Raises:
        UserError: another method is attached to it already, or it is wrapped by another optimizer.
    """

    def __init__(self, method: SparseMethod, optimizer: Optimizer) -> None:
        check_free(optimizer)
        self.method = method
        self.optimizer = optimizer
        self.away = False
        self._hooks: list[RemovableHandle] = [
            optimizer.register_state_dict_post_hook(self._save),
            optimizer.register_load_state_dict_pre_hook(self._load),
        ]
        # With this prefix it stays behind when a wrapper is copied, as hooks do.
        optimizer._optimizer_sparse_method = type(method).__name__  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Inside, the optimizer's state is saved and loaded without the method's."""
        before, self.away = self.away, True
        try:
            yield
        finally:
            self.away = before

    def remove(self) -> None:
        """Let go of the optimizer."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self.optimizer.__dict__.pop("_optimizer_sparse_method", None)

    def _save(self, _optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        if self.away:
            return state
        return {**state, KEY: {"name": type(self.method).__name__, **self.method.state_dict()}}

    def _fits(self, state: Mapping[str, Any]) -> bool:
        """Whether torch, which comes next, will not refuse the state: then no mask moves either."""
        own, saved = self.optimizer.param_groups, state["param_groups"]
        return [len(g["params"]) for g in own] == [len(g["params"]) for g in saved]

    def _load(self, _optimizer: Optimizer, state: dict[str, Any]) -> None:
        if self.away or not self._fits(state):
            return
        name = type(self.method).__name__
        found = state.get(KEY)
        if not isinstance(found, Mapping):
            raise UserError(
                f"the optimizer's state holds no masks of {name}, so the training would go on with "
                "others than it had: it was saved without the method, or by a tool that keeps only "
                "parameters; load it inside `with method.apart():` and give the method its own "
                "state by method.load_state_dict"
            )
        if found.get("name") != name:
            raise UserError(
                f"the optimizer's state holds masks of {found.get('name')}, and {name} is attached"
            )
        self.method.load_state_dict({k: v for k, v in found.items() if k != "name"})


def check_free(optimizer: Optimizer) -> None:
    """Raise a UserError where no method can attach to this optimizer."""
    inside = optimizer.__dict__.get("_optimizer_wrapped_by")
    if inside is not None and not isinstance(optimizer, Perturbing):
        raise UserError(
            f"this {type(optimizer).__name__} is inside a {inside}: attach the method to that"
        )
    attached = optimizer.__dict__.get("_optimizer_sparse_method")
    if attached is not None:
        raise UserError(
            f"{attached} is attached to this optimizer already; detach() it before another method"
        )


def usable_optimizer(name: str, optimizer: Any, needed: bool) -> Optimizer | None:
    """The optimizer that the method ``name`` attaches to, without what is around it.

    Raises:
        UserError: there is none and it is needed, or no method can attach to it.
    """
    if optimizer is None and needed:
        raise UserError(
            f"{name} moves its masks as the optimizer steps and needs one: "
            f"{name}(model, optimizer, ...)"
        )
    if getattr(optimizer, "scaler", None) is not None:  # accelerate's, with steps held apart
        raise UserError(
            f"under a GradScaler of accelerate attach {name} before accelerator.prepare()"
        )
    inner = unwrapped(optimizer)
    if inner is None:
        return None
    if not isinstance(inner, Optimizer):
        raise UserError(
            f"{name} attaches to a torch.optim.Optimizer, not to {type(inner).__name__}"
        )
    check_free(inner)
    return inner


def check_given(kind: type[SparseMethod], model: nn.Module, masks: Masks) -> None:
    """See that layers have the densities that they were given, and note which are left out.

    Raises:
        UserError: a method of this kind gave a layer another density, or would in training.
    """
    name = kind.__name__
    for layer, density in given_densities(model).items():
        size = prunable(model)[layer].numel()
        active = masks.counts().get(layer, size)
        leaves = kind.moves_between_layers and layer in masks
        if leaves or abs(active - density * size) > 1:
            raise UserError(
                f"{name} shares weights out among the layers by itself, so {layer!r} cannot have "
                "a density of its own; exclude the layer or leave that"
            )
    left = skipped(model)
    if left:
        shown = "; ".join(f"{layer}: {why}" for layer, why in list(left.items())[:3])
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        warnings.warn(f"{name} leaves layers dense: {shown}{more}", stacklevel=5)
