"""A network as the engine sees it: convolutions with batch norm, poolings, one classifier."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from paper_repro.errors import UserError
from paper_repro.models.resnet import ResNet
from paper_repro.models.vgg19 import VGG

__all__ = ["Branch", "MaxPool", "Network", "Uncovered", "Unit", "check_image", "lower"]


class Uncovered(UserError):
    """The engine does not cover a network; says why."""


@dataclass(frozen=True)
class Branch:
    """A convolution and its batch norm, by the names of the modules.

    Attributes:
        conv: e.g. ``stages.0.1.conv2``.
        norm: e.g. ``stages.0.1.bn2``.
        source: the activation it reads, an index; 0 is the image.
        inputs: channels.
        outputs: channels.
        kernel: 1 or 3.
        stride: 1 or 2.
    """

    conv: str
    norm: str
    source: int
    inputs: int
    outputs: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class Unit:
    """relu(norm(conv(x)) [+ shortcut]): one activation.

    Attributes:
        main: the convolution.
        residual: the activation added as it is, if any.
        shortcut: the convolution added, if any.
    """

    main: Branch
    residual: int | None = None
    shortcut: Branch | None = None


@dataclass(frozen=True)
class MaxPool:
    """The largest of each 2 x 2 pixels of the activation ``source``."""

    source: int


@dataclass(frozen=True)
class Network:
    """Nodes in order; node i makes activation i + 1. The last one is averaged and classified."""

    nodes: tuple[Unit | MaxPool, ...]
    classifier: str


def lower(model: nn.Module) -> Network:
    """The network of a model.

    Raises:
        Uncovered: it is of another family, or a layer is of another kind.
    """
    # A class derived from one of these may compute something else.
    if type(model) is ResNet:
        network = _resnet(model)
    elif type(model) is VGG:
        network = _vgg(model)
    else:
        raise Uncovered(f"{type(model).__name__} is not among the networks that it covers")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    if len({(n.eps, n.momentum) for n in norms}) > 1:
        raise Uncovered("its batch norms differ in eps or momentum")
    if any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()):
        raise Uncovered("a layer has forward hooks, which would not be called")
    return network


def check_image(network: Network, height: int, width: int) -> None:
    """Whether a network takes images of a size: each halving needs an even one.

    Raises:
        Uncovered: it does not.
    """
    sizes = [(height, width)]
    for node in network.nodes:
        source = node.source if isinstance(node, MaxPool) else node.main.source
        halves = isinstance(node, MaxPool) or node.main.stride == 2
        h, w = sizes[source]
        if halves and (h % 2 or w % 2):
            raise Uncovered(
                f"images of {height} x {width} become {h} x {w}, which cannot be halved"
            )
        sizes.append((h // 2, w // 2) if halves else (h, w))
    if min(height, width) < 1:
        raise Uncovered(f"an image has at least one pixel, not {height} x {width}")


def _branch(model: nn.Module, conv: str, norm: str, source: int) -> Branch:
    c, n = model.get_submodule(conv), model.get_submodule(norm)
    if not isinstance(c, nn.Conv2d) or not isinstance(n, nn.BatchNorm2d):
        raise Uncovered(f"{conv} is no convolution with batch norm")
    kernel, stride = c.kernel_size[0], c.stride[0]
    plain = (
        c.kernel_size == (kernel, kernel)
        and c.stride == (stride, stride)
        and c.padding == (kernel // 2, kernel // 2)
        and c.padding_mode == "zeros"
        and c.groups == 1
        and c.bias is None
        and c.dilation == (1, 1)
        and kernel in (1, 3)
        and stride in (1, 2)
    )
    if not (plain and n.affine and n.track_running_stats and n.momentum is not None):
        raise Uncovered(f"{conv} is no 1x1 or 3x3 convolution of stride 1 or 2 with batch norm")
    return Branch(conv, norm, source, c.in_channels, c.out_channels, kernel, stride)


def _resnet(model: ResNet) -> Network:
    nodes: list[Unit | MaxPool] = [Unit(_branch(model, "conv1", "bn1", 0))]
    for s, stage in enumerate(model.stages):
        assert isinstance(stage, nn.Sequential)
        for b, block in enumerate(stage):
            name, x = f"stages.{s}.{b}", len(nodes)
            nodes.append(Unit(_branch(model, f"{name}.conv1", f"{name}.bn1", x)))
            second = _branch(model, f"{name}.conv2", f"{name}.bn2", x + 1)
            if isinstance(block.shortcut, nn.Identity):
                nodes.append(Unit(second, residual=x))
            else:
                short = _branch(model, f"{name}.shortcut.0", f"{name}.shortcut.1", x)
                nodes.append(Unit(second, shortcut=short))
    return Network(tuple(nodes), "fc")


def _vgg(model: VGG) -> Network:
    nodes: list[Unit | MaxPool] = [Unit(_branch(model, "conv1", "bn1", 0))]
    for i, layer in enumerate(model.features):
        if isinstance(layer, nn.Conv2d):
            nodes.append(Unit(_branch(model, f"features.{i}", f"features.{i + 1}", len(nodes))))
        elif isinstance(layer, nn.MaxPool2d):
            if layer.kernel_size != 2 or layer.stride != 2 or layer.padding != 0:
                raise Uncovered("only 2x2 pooling is covered")
            nodes.append(MaxPool(len(nodes)))
    return Network(tuple(nodes), "fc")
