"""The starting weights that every network here shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn

__all__ = ["INITS", "depth_scaled_", "kaiming_", "released_", "xavier_"]


def kaiming_(network: nn.Module) -> None:
    """Draw all weights of convolutions and linear layers from N(0, 2 / fan_in), in module order.

    As in the CIFAR networks of the sparse-training literature. Biases and batch norm keep
    PyTorch's defaults.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)


def released_(network: nn.Module) -> None:
    """Draw starting weights as the networks of the authors' released code do.

    Convolutions from N(0, 2 / fan_out), linear layers (the classifier) from N(0, 0.01²) with bias
    0, in module order; fan_out is a filter's area times the output channels, also where a
    convolution is grouped. Convolutions' biases and batch norm keep PyTorch's defaults.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def xavier_(network: nn.Module) -> None:
    """Draw starting weights as Transformers' usually are, in module order.

    Linear layers from U(-a, a) with a² = 6 / (fan_in + fan_out) and bias 0; embeddings of width d
    from N(0, 1/d), the entry of the filling (number 0) too. A linear layer that shares an
    embedding's weight has the embedding's.
    """
    _xavier(network, {}, {})


def depth_scaled_(network: nn.Module) -> None:
    """As :func:`xavier_`, but shorter the deeper a layer lies (Zhang, Titov and Sennrich, 2019).

    In the l-th layer of a stack (its :class:`nn.ModuleList`), l from 1, a² = 6 / (fan_in + fan_out)
    / l. An attention's projections that its attribute ``drawn_together`` names are drawn as the
    one matrix in which others keep them, as in ``torch.nn.MultiheadAttention`` and in fairseq: k of
    them from d to d with fan_out = k d.

    With layer norm after the residual sum, what a sublayer adds competes with what it passes by.
    From :func:`xavier_` a dense Transformer of 4 layers stays on a plateau on Multi30k.
    """
    _xavier(network, _fan_outs(network), _depths(network))


def _xavier(
    network: nn.Module, fan_outs: Mapping[nn.Module, int], depths: Mapping[nn.Module, int]
) -> None:
    embeddings = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, nn.Linear):
            if id(module.weight) not in embeddings:
                into, out = module.in_features, module.out_features
                fans = into + fan_outs.get(module, out)
                gain = math.sqrt((into + out) / (fans * depths.get(module, 1)))
                nn.init.xavier_uniform_(module.weight, gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _fan_outs(network: nn.Module) -> dict[nn.Module, int]:
    """Of the layers that are drawn as one matrix."""
    found: dict[nn.Module, int] = {}
    for module in network.modules():
        parts = [getattr(module, name) for name in getattr(module, "drawn_together", ())]
        found.update(dict.fromkeys(parts, sum(part.out_features for part in parts)))
    return found


def _depths(network: nn.Module) -> dict[nn.Module, int]:
    """Every module in a stack to its number there, from 1."""
    stacks = [m for m in network.modules() if isinstance(m, nn.ModuleList)]
    layers = [(depth, layer) for stack in stacks for depth, layer in enumerate(stack, 1)]
    return {module: depth for depth, layer in layers for module in layer.modules()}


#: How a network's weights are drawn, by the name that a run's config gives it. A network draws
#: itself when it is made: by ``kaiming_``, or as its attribute ``drawn_as`` says.
INITS: Mapping[str, Callable[[nn.Module], None]] = MappingProxyType(
    {"fan_in": kaiming_, "released": released_, "xavier": xavier_, "depth-scaled": depth_scaled_}
)
