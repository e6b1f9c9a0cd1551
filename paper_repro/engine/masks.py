"""A method's masks over packed weights: what is pruned is not stored at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.engine.layout import Layout
from paper_repro.engine.net import SparseNet
from paper_repro.errors import UserError
from paper_repro.optim import exact
from paper_repro.sparse import Masks

__all__ = ["PackedMasks"]


class PackedMasks(Masks):
    """The :class:`paper_repro.sparse.Masks` of a :class:`SparseNet`.

    A topology update moves the flat parameter, its gradient and every optimizer buffer of its shape
    to the new positions: what is dropped is gone, what is grown starts from 0.

    Args:
        net: whose.
        optimizer: that trains ``net.flat``.
        before: the masks of the module, which they replace; its hooks are removed.
    """

    def __init__(self, net: SparseNet, optimizer: Optimizer, before: Masks) -> None:
        before.detach()
        self.net = net
        self.optimizer = optimizer
        self.weights = before.weights  # their shapes; the values are in the net
        self._total = before._total
        net.own(self)

    @property
    def open(self) -> bool:
        return self.net.open

    @open.setter
    def open(self, value: bool) -> None:
        self.net.open = value

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.weights:
            raise KeyError(name)
        return self.net.layout.mask(name)

    def __contains__(self, name: str) -> bool:
        return name in self.weights

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    def weight(self, name: str, optimizer: Optimizer | None) -> Tensor:
        return self.net.layout.unpack(exact(optimizer, self.net.flat), name)

    def gradient(self, name: str) -> Tensor:
        return self.net.dense_gradient(name)

    @torch.no_grad()
    def replace(self, masks: Mapping[str, Tensor]) -> int:
        old = self.net.layout
        changed = sum(int((self[name] != mask).sum()) for name, mask in masks.items())
        if changed:
            self._move(old, old.with_masks(masks))
        return changed

    def _move(self, old: Layout, new: Layout) -> None:
        flat = self.net.flat
        size = flat.shape
        if self.optimizer is not None and flat in self.optimizer.state:
            state = self.optimizer.state[flat]
            for key, buffer in state.items():
                if isinstance(buffer, Tensor) and buffer.shape == size:
                    state[key] = old.moved(buffer, new)
        self.net.adopt(new)

    def apply(self) -> None:
        """Nothing to do: what is pruned is not there."""

    def counts(self) -> dict[str, int]:
        return {name: len(self.net.layout.active[name]) for name in self.weights}

    def densities(self) -> dict[str, float]:
        return {name: n / self.weights[name].numel() for name, n in self.counts().items()}

    def sparsity(self, overall: bool = False) -> float:
        masked = sum(w.numel() for w in self.weights.values())
        pruned = masked - sum(self.counts().values())
        return pruned / (self._total if overall else max(1, masked))

    def state_dict(self) -> dict[str, Tensor]:
        return {name: self[name] for name in self.weights}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take a checkpoint's masks; the flat vectors follow, with 0 where nothing was."""
        if set(state) != set(self.weights):
            raise UserError("the checkpoint's masks are of other layers than this method masks")
        for name, mask in state.items():
            if mask.shape != self.weights[name].shape:
                raise UserError(f"the checkpoint's mask of {name!r} has another shape")
        self.replace(state)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @torch.no_grad()
    def settle(self) -> None:
        """Put the exact weights w into the model's parameters, see :meth:`SparseNet.settle`."""
        self.net.settle(self.optimizer)

    def detach(self) -> None:
        """Let go of the model, with the weights in it; no hook holds them sparse, they are."""
        self.net.let_go()
