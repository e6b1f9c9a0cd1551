"""Physical compaction: a network whose removed channels are really gone."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from paper_repro.errors import UserError
from paper_repro.sparse.channels import channel_groups, live_channels
from paper_repro.sparse.layers import maskable
from paper_repro.sparse.masks import Masks

__all__ = ["compact"]


@torch.no_grad()
def compact(model: nn.Module, masks: Masks | Mapping[str, Tensor] | None = None) -> nn.Module:
    """A smaller copy of a network without the channels that cannot influence its output.

    Filters, batch-norm entries and input slices of dead channels (see
    :func:`paper_repro.sparse.live_channels`) are cut out of the tensors. In exact arithmetic the
    copy computes the same function, with batch norm in evaluation and in training mode; a group
    that is dead altogether keeps one idle channel. Weights that are zero one by one stay as they
    are. The copy is an ordinary dense module of the same class and the same parameter names, with
    no masks attached. ::

        model.load_state_dict(outcome["weights"])
        small = compact(model, outcome["masks"])

    Args:
        model: the network; it is left alone. Under a perturbing optimizer call its ``eval()``
            first, so that the copy holds the weights w.
        masks: to be applied to the copy's weights first; without them, zeros are what they are.

    Raises:
        UserError: a mask fits no weight of the model, or the model's channels cannot be traced.
    """
    groups = channel_groups(model)
    small = copy.deepcopy(model)
    weights = maskable(small)
    named = masks.state_dict() if isinstance(masks, Masks) else masks or {}
    for name, mask in named.items():
        if name not in weights or mask.shape != weights[name].shape:
            raise UserError(f"the mask of {name!r} fits no weight of the model")
        weights[name].mul_(mask.to(weights[name].device))
    live = live_channels(small, groups)
    modules = dict(small.named_modules())
    for group in groups:
        index = live[group.name].nonzero().squeeze(1)
        if len(index) == group.size:
            continue
        if len(index) == 0:
            index = torch.zeros(1, dtype=torch.long, device=index.device)
        for name in (group.name, *group.norms):
            for key in ("weight", "bias", "running_mean", "running_var"):
                _cut(modules[name], key, 0, index)
            for size in ("out_channels", "out_features", "num_features"):
                if hasattr(modules[name], size):
                    setattr(modules[name], size, len(index))
        for name in group.consumers:
            layer = modules[name.removesuffix(".weight")]
            _cut(layer, "weight", 1, index)
            setattr(
                layer, "in_features" if isinstance(layer, nn.Linear) else "in_channels", len(index)
            )
    return small


def _cut(module: nn.Module, key: str, dim: int, index: Tensor) -> None:
    """Keep only ``index`` of a tensor's dimension; parameter stays parameter, buffer buffer."""
    old = getattr(module, key, None)
    if old is None:
        return
    new = old.index_select(dim, index)
    if old.dim() == 4 and old.is_contiguous(memory_format=torch.channels_last):
        new = new.contiguous(memory_format=torch.channels_last)
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(module, key, new)
