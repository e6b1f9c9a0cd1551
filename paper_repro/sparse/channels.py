"""Which channels of a network can be removed, and what else goes with each of them."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from paper_repro.errors import UserError
from paper_repro.sparse.layers import maskable, prunable

__all__ = [
    "ChannelGroup",
    "channel_groups",
    "channel_masks",
    "live_channels",
    "removable_groups",
]

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# What treats each number alone, and what treats each channel's plane alone.
_ELEMENTWISE: tuple[Any, ...] = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid),
    *(nn.Hardswish, nn.Identity, nn.Dropout, "relu", "relu_", "tanh", "sigmoid"),
    *(torch.relu, torch.tanh, torch.sigmoid, F.relu, F.relu6, F.leaky_relu, F.elu, F.gelu),
    *(F.silu, F.hardswish, F.dropout),
)
_PLANEWISE: tuple[Any, ...] = (
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout2d),
    *(F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d),
)


@dataclass(frozen=True)
class ChannelGroup:
    """The channels between one layer and those that read them: they stay or go together.

    Attributes:
        producer: name of the weight whose dimension 0 is the channels.
        norms: names of the batch-norm modules that they pass.
        consumers: names of the weights whose dimension 1 is the channels.
        size: how many channels.
    """

    producer: str
    norms: tuple[str, ...]
    consumers: tuple[str, ...]
    size: int

    @property
    def name(self) -> str:
        """The producing layer's name."""
        return self.producer.removesuffix(".weight")


class _Tracer(fx.Tracer):
    """Looks into no batch norm, whoever wrote it: ranks that train together have their own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = isinstance(m, nn.modules.batchnorm._BatchNorm)
        return own or super().is_leaf_module(m, module_qualified_name)


def channel_groups(model: nn.Module) -> tuple[ChannelGroup, ...]:
    """Every set of channels that can be removed without touching the rest of the network.

    The channels of a convolution or linear layer form a group if all that happens to them before
    the next convolutions or linear layers happens to each channel alone: batch norm, activation,
    dropout, pooling. A channel whose slices of all ``consumers`` are zero then cannot influence
    the output at all, whatever its filter, its batch norm's shift or its activation are.

    Channels that are added to others, which is what a shortcut does, are in no group: in a
    residual network each block's inner channels are, and the stream between blocks is not. The
    same goes for channels that meet a grouped convolution, a layer used twice or a tied weight,
    and for the network's output.

    Returns:
        The groups in the order in which a forward pass meets them.

    Raises:
        UserError: the model's forward pass cannot be traced by ``torch.fx``, or has no group.
    """
    modules = dict(model.named_modules())
    try:
        graph = _Tracer().trace(model)
    except Exception as error:
        raise UserError(f"the model's channels cannot be traced: {error}") from error
    called = [modules[str(node.target)] for node in graph.nodes if node.op == "call_module"]
    uses = Counter(id(m.weight) for m in called if isinstance(m, (*_CONV, nn.Linear)))
    groups = []
    for node in graph.nodes:
        layer = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, (*_CONV, nn.Linear)) and getattr(layer, "groups", 1) == 1:
            met = _follow(node, modules, layer.weight.shape[0], isinstance(layer, nn.Linear))
            if met is None:
                continue
            norms, consumers = met
            if all(uses[id(modules[n].weight)] == 1 for n in (str(node.target), *consumers)):
                groups.append(
                    ChannelGroup(
                        f"{node.target}.weight",
                        norms,
                        tuple(f"{name}.weight" for name in consumers),
                        layer.weight.shape[0],
                    )
                )
    if not groups:
        raise UserError("the model has no channels that can be removed")
    return tuple(groups)


def removable_groups(model: nn.Module) -> tuple[ChannelGroup, ...]:
    """The groups of :func:`channel_groups` all of whose weights may be masked here.

    Raises:
        UserError: there is none.
    """
    allowed = set(prunable(model))
    groups = tuple(g for g in channel_groups(model) if {g.producer, *g.consumers} <= allowed)
    if not groups:
        raise UserError("the layers that may be masked have no channels that can be removed")
    return groups


def _follow(
    start: fx.Node, modules: Mapping[str, nn.Module], size: int, flat: bool
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Batch norms and consumers that the channels of a node reach; None if they mix otherwise.

    ``flat``: the channels are the last dimension, not planes of an image.
    """
    norms: list[str] = []
    consumers: list[str] = []
    pending = [(start, flat)]
    while pending:
        node, flat = pending.pop()
        for user in node.users:
            module = modules.get(str(user.target)) if user.op == "call_module" else None
            kind = user.target if module is None else type(module)
            if isinstance(module, _NORM) and module.num_features == size:
                norms.append(str(user.target))
                pending.append((user, flat))
            elif kind in _ELEMENTWISE or (kind in _PLANEWISE and not flat):
                pending.append((user, flat))
            elif not flat and _flattens(user, module):
                pending.append((user, True))
            elif (isinstance(module, nn.Linear) and flat and module.in_features == size) or (
                isinstance(module, _CONV) and not flat and module.groups == 1
            ):
                consumers.append(str(user.target))
            else:
                return None
    return (tuple(norms), tuple(consumers)) if consumers else None


def _flattens(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node turns [B, C, H, W] into [B, C] (for a flattened image: if H = W = 1)."""
    if module is not None:
        return type(module) is nn.Flatten and [module.start_dim, module.end_dim] == [1, -1]
    first = node.args[1] if len(node.args) > 1 else None
    if node.target in ("flatten", torch.flatten):
        return bool(node.kwargs.get("start_dim", first) == 1) and len(node.args) < 3
    if node.target in ("mean", torch.mean):
        dims = node.kwargs.get("dim", first)
        return (
            isinstance(dims, Sequence)
            and sorted(d % 4 for d in dims if isinstance(d, int)) == [2, 3]
            and not node.kwargs.get("keepdim", False)
            and len(node.args) < 3
        )
    return False


def channel_masks(
    model: nn.Module, groups: Sequence[ChannelGroup], kept: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weight masks that remove whole channels.

    Args:
        model: the network.
        groups: from :func:`channel_groups`.
        kept: for each group's name a boolean vector over its channels.

    Returns:
        A boolean mask for every producer and consumer: a removed channel's filter is zero, and so
        is every consumer's slice of it.
    """
    weights = maskable(model)
    parts: dict[str, list[Tensor]] = {}
    for group in groups:
        for dim, names in ((0, (group.producer,)), (1, group.consumers)):
            for name in names:
                shape = [1] * weights[name].dim()
                shape[dim] = -1
                parts.setdefault(name, []).append(kept[group.name].view(shape))
    return {
        name: reduce(operator.and_, vectors).expand_as(weights[name]).clone()
        for name, vectors in parts.items()
    }


def live_channels(model: nn.Module, groups: Sequence[ChannelGroup]) -> dict[str, Tensor]:
    """For each group's name a boolean vector: which channels can influence the output.

    A channel can if some consumer's slice of it is not all zero, the consumer's own dead filters
    left out of account. A zero filter alone does not make its channel dead: batch norm and
    activation turn it into a constant.
    """
    weights = maskable(model)
    live: dict[str, Tensor] = {}
    for group in reversed(groups):  # so that a consumer's dead filters are known before
        live[group.producer] = reduce(
            operator.or_,
            (_read(weights[name].detach(), live.get(name)) for name in group.consumers),
        )
    return {group.name: live[group.producer] for group in groups}


def _read(weight: Tensor, rows: Tensor | None) -> Tensor:
    weight = weight if rows is None else weight[rows]
    return (weight != 0).transpose(0, 1).flatten(1).any(1)
