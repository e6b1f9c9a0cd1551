"""What others may do to a model beside the net that trains its weights: seen, and refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from paper_repro.engine.lower import FROZEN
from paper_repro.errors import UserError

__all__ = ["TOUCHED", "Watch", "check_masks", "check_read", "check_tensors"]

TOUCHED = (
    "something else wrote to the model's parameters while the engine trains its own copy of the "
    "weights: net.take_in() takes them over, net.write_back() overwrites them"
)
_FROZEN = "is frozen (requires_grad is False), and the engine trains all parameters or none"


class Watch:
    """Knows a model's parameters as they were when they and the net's weights agreed.

    Args:
        model: whose parameters they are.
        norms: its batch norms.
    """

    def __init__(self, model: nn.Module, norms: Sequence[nn.Module]) -> None:
        self.model, self._norms = model, norms

    def note(self, flat: Tensor) -> None:
        """The parameters and the net's weights ``flat`` agree now."""
        self._noted = [
            (module._parameters, name, p, p._version)
            for module in self.model.modules()
            for name, p in module._parameters.items()
            if p is not None
        ]
        self._flat = flat._version

    def touched(self) -> bool:
        """Whether something else wrote to the model's parameters since, or replaced them."""
        for holder, name, p, version in self._noted:
            now = holder.get(name)
            if now is not p and (now is None or now.data_ptr() != p.data_ptr()):
                return True
            if now._version != version:
                return True
        return False

    def trained(self, flat: Tensor) -> bool:
        """Whether the net's weights were written to since."""
        return flat._version != self._flat

    def check_trainable(self) -> None:
        """Raise a UserError where something of the model is frozen."""
        for _, name, p, _ in self._noted:
            if not p.requires_grad:
                raise UserError(f"a {name} of the model {_FROZEN}")
        for norm in self._norms:
            if norm.training is not self.model.training:
                raise UserError(f"the engine cannot train on: {FROZEN}")


def check_tensors(named: Mapping[str, Tensor]) -> None:
    """Raise a UserError where a tensor is not float32 on the CPU."""
    for name, t in named.items():
        if t.dtype != torch.float32 or t.device.type != "cpu":
            raise UserError(f"the engine needs float32 on the CPU: {name} is {t.dtype}, {t.device}")


def check_read(model: nn.Module, flat: Tensor, size: int) -> None:
    """Raise a UserError where a tensor that the kernels read as float32 is of another kind.

    Args:
        model: whose batch norms' running statistics they read.
        flat: the net's weights.
        size: how many of these there are.
    """
    named = {"flat": flat, **dict(model.named_buffers())}
    sizes = {"flat": size}
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            sizes[f"{name}.running_mean"] = module.num_features
            sizes[f"{name}.running_var"] = module.num_features
    for name in sizes:
        if name not in named:
            raise UserError(f"the engine needs {name}, which is gone")
    check_tensors({name: named[name] for name in sizes})
    for name, count in sizes.items():
        if named[name].shape != (count,) or not named[name].is_contiguous():
            raise UserError(f"{name} is to hold {count} numbers, one after the other")


def check_masks(
    named: Mapping[str, Tensor], maskable: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> None:
    """Raise a UserError for parameters or masks that the kernels must not read.

    They read memory where masks say.
    """
    check_tensors(named)
    for name, p in named.items():
        if not p.requires_grad:
            raise UserError(f"{name} {_FROZEN}")
    for name, mask in masks.items():
        if name not in maskable:
            raise UserError(
                f"{name!r} is not a weight of a convolution or linear layer, so it has no mask"
            )
        if mask.shape != named[name].shape:
            raise UserError(
                f"the mask of {name!r} has shape {tuple(mask.shape)}, "
                f"the weight has {tuple(named[name].shape)}"
            )
