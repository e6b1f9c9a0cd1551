"""Checkpoints of one engine read by the other: the same state, packed or not.

A dense one holds ``model``, ``optimizer`` and ``method`` as modules have them. A packed one holds
``flat``, the active weights where they stand, ``buffers``, the optimizer's state of the flat
parameter, and masks as the positions of what is active.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.engine.layout import Layout
from paper_repro.engine.net import SparseNet
from paper_repro.errors import UserError
from paper_repro.sparse import SparseMethod

__all__ = ["densify", "indices", "load", "masks_of", "save", "sparsify"]

#: Optimizer state that torch loads in any shape, and that a step needs in the weight's.
_LIKE_THE_WEIGHT = ("momentum_buffer", "twin")


def save(network: nn.Module, optimizer: Optimizer, method: SparseMethod) -> dict[str, Any]:
    """What a run goes on from: packed for a :class:`SparseNet`, dense for any other module."""
    with method.apart():  # its state has a place of its own, and may be packed
        steps = optimizer.state_dict()
    if not isinstance(network, SparseNet):
        return {
            "model": network.state_dict(),
            "optimizer": steps,
            "method": method.state_dict(),
        }
    state = method.state_dict()
    return {
        "flat": network.flat.detach(),
        "buffers": dict(network.model.named_buffers()),
        "optimizer": steps,
        "method": {**state, "masks": indices(state["masks"])},
    }


def load(
    state: Mapping[str, Any], network: nn.Module, optimizer: Optimizer, method: SparseMethod
) -> None:
    """Go on from :func:`save`, of either engine.

    Raises:
        UserError: a weight's optimizer state is not of its shape.
    """
    _load(state, network, optimizer, method)
    for p, held in optimizer.state.items():
        for key in _LIKE_THE_WEIGHT:
            if isinstance(held.get(key), Tensor) and held[key].shape != p.shape:
                raise UserError(f"its {key} has the shape {tuple(held[key].shape)}")


def _load(
    state: Mapping[str, Any], network: nn.Module, optimizer: Optimizer, method: SparseMethod
) -> None:
    if not isinstance(network, SparseNet):
        if "flat" in state:
            state = densify(state, dict(network.named_parameters()))
        network.load_state_dict(state["model"])
        with method.apart():
            optimizer.load_state_dict(state["optimizer"])
        method.load_state_dict(state["method"])
        return
    if "flat" not in state:
        state = sparsify(state, network.layout)
    masks = masks_of(state["method"]["masks"], network.layout.shapes)
    method.load_state_dict({**state["method"], "masks": masks})
    with torch.no_grad():
        network.flat.copy_(state["flat"])
        for name, buffer in network.model.named_buffers():
            buffer.copy_(state["buffers"][name])
    with method.apart():
        optimizer.load_state_dict(state["optimizer"])


def indices(masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Boolean masks as ascending flat indices, int32: small where few positions are active."""
    return {name: m.flatten().nonzero().squeeze(1).int() for name, m in masks.items()}


def masks_of(found: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The inverse of :func:`indices`."""
    masks = {}
    for name, active in found.items():
        mask = torch.zeros(shapes[name].numel(), dtype=torch.bool)
        mask[active.long()] = True
        masks[name] = mask.view(shapes[name])
    return masks


def densify(state: Mapping[str, Any], parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    """A packed checkpoint as a dense one of the model with these parameters."""
    shapes = {name: p.shape for name, p in parameters.items()}
    masks = masks_of(state["method"]["masks"], shapes)
    layout = Layout.of(parameters, masks)
    model = {**layout.unpack_all(state["flat"]), **state["buffers"]}
    optimizer = state["optimizer"]
    per: dict[int, dict[str, Any]] = {i: {} for i in range(len(shapes))}
    for key, value in optimizer["state"].get(0, {}).items():
        whole = isinstance(value, Tensor) and value.shape == (len(layout),)
        for i, name in enumerate(shapes):
            per[i][key] = layout.unpack(value, name) if whole else value
    return {
        **state,
        "model": model,
        "optimizer": {
            **optimizer,
            "state": {i: s for i, s in per.items() if s},
            "param_groups": [{**g, "params": list(per)} for g in optimizer["param_groups"]],
        },
        "method": {**state["method"], "masks": masks},
    }


def sparsify(state: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """A dense checkpoint as a packed one; ``layout`` names the parameters and masked layers."""
    masks = state["method"]["masks"]
    layout = layout.with_masks(masks)
    names, optimizer = list(layout.shapes), state["optimizer"]
    packed: dict[str, Any] = {}
    for key in {key for s in optimizer["state"].values() for key in s}:
        values = {names[int(i)]: s[key] for i, s in optimizer["state"].items() if key in s}
        first = next(iter(values.values()))
        if isinstance(first, Tensor) and first.dim():
            zeros = {n: first.new_zeros(s) for n, s in layout.shapes.items() if n not in values}
            packed[key] = layout.pack({**zeros, **values})
        else:
            packed[key] = first
    return {
        **state,
        "flat": layout.pack(state["model"]),
        "buffers": {n: v for n, v in state["model"].items() if n not in layout.shapes},
        "optimizer": {
            **optimizer,
            "state": {0: packed} if packed else {},
            "param_groups": [{**g, "params": [0]} for g in optimizer["param_groups"]],
        },
        "method": {**state["method"], "masks": indices(masks)},
    }
