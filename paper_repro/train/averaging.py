"""The average of a training's last weights (Vaswani et al., 2017, section 6.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.optim import exact
from paper_repro.sparse import Masks

__all__ = ["Average"]


class Average:
    """(1/n) Σ w over the ends of the last n epochs: of the weights w, wherever parameters stand.

    Weights are summed in float64. What the masks at the end have pruned is 0 in the average too.

    Args:
        model: without batch norm, whose statistics would be of other weights.
        optimizer: that trains it.
        masks: that it trains under.
        last: n, how many epochs.
        epochs: of the whole training, at least n.

    Raises:
        UserError: a model with batch norm.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, masks: Masks, last: int, epochs: int
    ) -> None:
        if any(isinstance(module, _BatchNorm) for module in model.modules()):
            raise UserError("average needs a network without batch norm")
        self.model, self.optimizer, self.masks = model, optimizer, masks
        self.last, self.first = last, epochs - last
        self.count = 0
        self.sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, epoch: int) -> None:
        """Take the weights at the end of ``epoch`` (0, 1, ...), if it is one of the last."""
        if epoch < self.first:
            return
        self.count += 1
        for name, p in self.model.named_parameters():
            w = exact(self.optimizer, p).double()
            self.sums[name] = self.sums[name] + w if name in self.sums else w

    @property
    def complete(self) -> bool:
        """Whether the training has ended."""
        return self.count == self.last

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the parameters, which stand at w, are the average; afterwards w again."""
        held = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        try:
            with torch.no_grad():
                for name, p in self.model.named_parameters():
                    mean = (self.sums[name] / self.count).to(p.dtype)
                    p.copy_(mean * self.masks[name] if name in self.masks else mean)
            yield
        finally:
            with torch.no_grad():
                for name, p in self.model.named_parameters():
                    p.copy_(held[name])

    def state_dict(self) -> dict[str, Any]:
        """The sums so far."""
        return {"count": self.count, "sums": self.sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        device = next(self.model.parameters()).device  # a checkpoint's tensors may be on the host
        self.count = int(state["count"])
        self.sums = {name: total.to(device) for name, total in state["sums"].items()}
