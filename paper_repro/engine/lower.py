"""A network as the engine sees it: convolutions with batch norm, poolings, one classifier."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from paper_repro.errors import UserError
from paper_repro.models.resnet import Block, ResNet
from paper_repro.models.vgg19 import VGG

__all__ = ["Branch", "MaxPool", "Network", "Uncovered", "Unit", "check_image", "lower"]


#: What is said of batch norm that normalises by its running statistics while the network trains.
FROZEN = "a batch norm is frozen: it is in another mode, eval() or train(), than the network"


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
    """The network of a model: that and nothing else is what its forward pass computes.

    Raises:
        Uncovered: it is of another family, a layer is of another kind or has hooks, or batch norm
            is frozen.
    """
    skipped = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(m, hooks) for m in model.modules() for hooks in skipped):
        raise Uncovered("a layer has hooks, which would not be called")
    if any(p._backward_hooks for p in model.parameters()):
        raise Uncovered("a parameter has gradient hooks, which would not be called")
    if _is(model, ResNet):
        network = _resnet(model)  # type: ignore[arg-type]
    elif _is(model, VGG):
        network = _vgg(model)  # type: ignore[arg-type]
    else:
        raise Uncovered(f"{type(model).__name__} is not among the networks that it covers")
    if set(dict(model.named_parameters())) != _parameters(network):
        raise Uncovered("it has parameters of no layer that it computes with, or one in two layers")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    if len({(n.eps, n.momentum) for n in norms}) > 1:
        raise Uncovered("its batch norms differ in eps or momentum")
    if any(n.training is not model.training for n in norms):
        raise Uncovered(FROZEN)
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


def _is(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is of just this class: a derived one may compute something else.

    So may one whose ``forward`` was replaced.
    """
    return type(module) is kind and "forward" not in vars(module)


def _expect(module: nn.Module, kind: type[nn.Module], name: str) -> None:
    if not _is(module, kind):
        raise Uncovered(f"{name} is a {type(module).__name__}, not a plain {kind.__name__}")


def _parameters(network: Network) -> set[str]:
    """The names of all parameters that a network computes with."""
    units = [node for node in network.nodes if isinstance(node, Unit)]
    found = {f"{network.classifier}.weight", f"{network.classifier}.bias"}
    for branch in (b for u in units for b in (u.main, u.shortcut) if b is not None):
        found |= {f"{branch.conv}.weight", f"{branch.norm}.weight", f"{branch.norm}.bias"}
    return found


def _branch(
    model: nn.Module, conv: str, norm: str, source: int, inputs: int | None = None
) -> Branch:
    """A convolution with its batch norm, that reads ``inputs`` channels if that is known."""
    c, n = model.get_submodule(conv), model.get_submodule(norm)
    _expect(c, nn.Conv2d, conv)
    _expect(n, nn.BatchNorm2d, norm)
    assert isinstance(c, nn.Conv2d) and isinstance(n, nn.BatchNorm2d)
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
    # The kernels trust these sizes.
    if (
        c.weight.shape != (c.out_channels, c.in_channels, kernel, kernel)
        or n.num_features != c.out_channels
        or inputs not in (None, c.in_channels)
    ):
        raise Uncovered(f"{conv} does not fit the layers around it")
    return Branch(conv, norm, source, c.in_channels, c.out_channels, kernel, stride)


def _classifier(model: nn.Module, inputs: int) -> str:
    """The name of the classifier, which reads ``inputs`` channels."""
    fc = model.get_submodule("fc")
    _expect(fc, nn.Linear, "fc")
    assert isinstance(fc, nn.Linear)
    if fc.bias is None:
        raise Uncovered("fc has no bias")
    if fc.weight.shape != (fc.out_features, inputs):
        raise Uncovered("fc does not fit the layers around it")
    return "fc"


def _resnet(model: ResNet) -> Network:
    stem = _branch(model, "conv1", "bn1", 0)
    nodes: list[Unit | MaxPool] = [Unit(stem)]
    channels = stem.outputs
    _expect(model.stages, nn.Sequential, "stages")
    for s, stage in enumerate(model.stages):
        _expect(stage, nn.Sequential, f"stages.{s}")
        assert isinstance(stage, nn.Sequential)
        for b, block in enumerate(stage):
            name, x = f"stages.{s}.{b}", len(nodes)
            _expect(block, Block, name)
            first = _branch(model, f"{name}.conv1", f"{name}.bn1", x, channels)
            second = _branch(model, f"{name}.conv2", f"{name}.bn2", x + 1, first.outputs)
            short = _shortcut(model, f"{name}.shortcut", x, channels)
            reached = (short.outputs, short.stride) if short else (channels, 1)
            if reached != (second.outputs, first.stride * second.stride):
                raise Uncovered(f"{name}.shortcut does not fit the layers around it")
            channels = second.outputs
            nodes.append(Unit(first))
            nodes.append(Unit(second, shortcut=short) if short else Unit(second, residual=x))
    return Network(tuple(nodes), _classifier(model, channels))


def _shortcut(model: ResNet, name: str, source: int, inputs: int) -> Branch | None:
    """A block's shortcut; None for one that passes its input on."""
    module = model.get_submodule(name)
    if _is(module, nn.Identity):
        return None
    _expect(module, nn.Sequential, name)
    assert isinstance(module, nn.Sequential)
    if len(module) != 2:
        raise Uncovered(f"{name} is more than a convolution and its batch norm")
    return _branch(model, f"{name}.0", f"{name}.1", source, inputs)


def _vgg(model: VGG) -> Network:
    stem = _branch(model, "conv1", "bn1", 0)
    nodes: list[Unit | MaxPool] = [Unit(stem)]
    channels = stem.outputs
    _expect(model.features, nn.Sequential, "features")
    layers = list(model.features)
    i = 0
    while i < len(layers):
        layer = layers[i]
        if _is(layer, nn.MaxPool2d):
            assert isinstance(layer, nn.MaxPool2d)
            if not _halves(layer):
                raise Uncovered("only 2x2 pooling is covered")
            if i + 1 == len(layers) or isinstance(layers[i + 1], nn.MaxPool2d):
                raise Uncovered(f"features.{i} is a pooling without a convolution behind it")
            nodes.append(MaxPool(len(nodes)))
            i += 1
            continue
        _expect(layer, nn.Conv2d, f"features.{i}")
        if i + 2 >= len(layers):
            raise Uncovered(f"features.{i} is no convolution with batch norm and ReLU")
        _expect(layers[i + 2], nn.ReLU, f"features.{i + 2}")
        unit = _branch(model, f"features.{i}", f"features.{i + 1}", len(nodes), channels)
        channels = unit.outputs
        nodes.append(Unit(unit))
        i += 3
    return Network(tuple(nodes), _classifier(model, channels))


def _halves(layer: nn.MaxPool2d) -> bool:
    """Whether it takes the largest of each 2 x 2 pixels."""
    numbers = ((layer.kernel_size, 2), (layer.stride, 2), (layer.padding, 0), (layer.dilation, 1))
    plain = all(found in (wanted, (wanted, wanted)) for found, wanted in numbers)
    return plain and not layer.ceil_mode and not layer.return_indices
