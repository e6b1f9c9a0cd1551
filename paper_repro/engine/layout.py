"""Where each parameter lies in one flat vector that holds active weights only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """The order of a flat vector: the model's parameters one after the other, masked ones packed.

    Attributes:
        shapes: of every parameter, by name, in the model's order.
        active: ascending flat indices of the active positions of each masked parameter, int64.
    """

    shapes: Mapping[str, torch.Size]
    active: Mapping[str, Tensor]

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Layout:
        """The layout of parameters under boolean masks by name."""
        return cls(
            {name: p.shape for name, p in parameters.items()},
            {name: mask.flatten().nonzero().squeeze(1) for name, mask in masks.items()},
        )

    def with_masks(self, masks: Mapping[str, Tensor]) -> Layout:
        """The same under other masks; a layer that is not named keeps its own."""
        fresh = {name: mask.flatten().nonzero().squeeze(1) for name, mask in masks.items()}
        return Layout(self.shapes, {**self.active, **fresh})

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Entries of each parameter in the flat vector."""
        return {
            name: len(self.active[name]) if name in self.active else shape.numel()
            for name, shape in self.shapes.items()
        }

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each parameter lies."""
        found, start = {}, 0
        for name, size in self.sizes.items():
            found[name] = slice(start, start + size)
            start += size
        return found

    def __len__(self) -> int:
        return sum(self.sizes.values())

    def mask(self, name: str) -> Tensor:
        """A masked parameter's boolean mask."""
        mask = torch.zeros(self.shapes[name].numel(), dtype=torch.bool)
        mask[self.active[name]] = True
        return mask.view(self.shapes[name])

    def pack(self, dense: Mapping[str, Tensor]) -> Tensor:
        """The flat vector of dense tensors by name; inactive entries are left out."""
        parts = []
        for name in self.shapes:
            flat = dense[name].detach().contiguous().flatten()
            parts.append(flat[self.active[name]] if name in self.active else flat)
        return torch.cat(parts)

    def unpack(self, flat: Tensor, name: str) -> Tensor:
        """One parameter of a flat vector, dense, 0 where it is inactive."""
        part = flat.detach()[self.slices[name]]
        if name in self.active:
            dense = torch.zeros(self.shapes[name].numel(), dtype=flat.dtype)
            dense[self.active[name]] = part
            part = dense
        return part.clone().view(self.shapes[name])

    def unpack_all(self, flat: Tensor) -> dict[str, Tensor]:
        """Every parameter of a flat vector, dense."""
        return {name: self.unpack(flat, name) for name in self.shapes}

    def moved(self, flat: Tensor, new: Layout) -> Tensor:
        """A flat vector in another layout: what stays keeps its value, what is new gets 0."""
        parts = []
        for name, part in zip(
            self.shapes, flat.detach().split(list(self.sizes.values())), strict=True
        ):
            if name in self.active and self.active[name] is not new.active[name]:
                dense = torch.zeros(self.shapes[name].numel(), dtype=flat.dtype)
                dense[self.active[name]] = part
                part = dense[new.active[name]]
            parts.append(part)
        return torch.cat(parts)
