"""The starting weights that every network here shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn

__all__ = ["INITS", "kaiming_", "released_", "xavier_"]


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
    embeddings = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, nn.Linear):
            if id(module.weight) not in embeddings:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


#: How a network's weights are drawn, by the name that a run's config gives it. A network draws
#: itself when it is made: by ``kaiming_``, or as its attribute ``drawn_as`` says.
INITS: Mapping[str, Callable[[nn.Module], None]] = MappingProxyType(
    {"fan_in": kaiming_, "released": released_, "xavier": xavier_}
)
