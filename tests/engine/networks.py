"""Small networks with masks, and what PyTorch makes of them."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from paper_repro.engine import SparseNet
from paper_repro.models.resnet import ResNet
from paper_repro.models.vgg19 import VGG
from paper_repro.sparse import prunable

SIZE, CLASSES = 16, 5


def resnet(seed=0, widths=(4, 8), depth=2):
    torch.manual_seed(seed)
    return ResNet(3, CLASSES, widths, depth)


def vgg(monkeypatch, seed=0, stages=((4, 2), (8, 2), (8, 1))):
    """VGG with fewer and narrower stages."""
    torch.manual_seed(seed)
    return VGG(3, CLASSES, stages)


def masks_for(model, density=0.4, seed=0, dense=("conv1.weight", "fc.weight")):
    """Random masks, which the model's weights are brought under."""
    g = torch.Generator().manual_seed(seed)
    masks = {
        name: torch.rand(w.shape, generator=g) < density
        for name, w in prunable(model).items()
        if name not in dense
    }
    with torch.no_grad():
        for name, mask in masks.items():
            prunable(model)[name].mul_(mask)
    return masks


def batch(n=20, seed=0, size=SIZE):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, size, size, generator=g), torch.randint(CLASSES, (n,), generator=g)


def engine(model, masks, storage="float32", **options):
    options = {"batch": 20, "image": (3, SIZE, SIZE), "threads": 1, **options}
    return SparseNet(model, masks, storage, **options)


def unflippable(model):
    """Push every batch norm's output far from 0, so that rounding flips no ReLU.

    Channels are positive or negative throughout a stage, since a residual adds to the next one.
    """
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.fill_(0.5)
                norm.bias.fill_(5.0)
                norm.bias[::3] = -5.0
    return model


def margin(model, images):
    """The smallest absolute input of any ReLU, in float64."""
    smallest = []
    original = F.relu

    def relu(x, inplace=False):
        smallest.append(x.detach().abs().min().item())
        return original(x)

    F.relu = relu  # which nn.ReLU calls as well
    try:
        copy.deepcopy(model).double()(images.double())
    finally:
        F.relu = original
    return min(smallest)


def gradients(model, masks, images, labels, dtype):
    """By PyTorch in a precision: of active positions, by parameter, in float64; and the model."""
    model = copy.deepcopy(model).to(dtype)
    loss = F.cross_entropy(model(images.to(dtype)), labels)
    loss.backward()
    found = {n: p.grad.double() for n, p in model.named_parameters()}
    return {n: g * masks[n] if n in masks else g for n, g in found.items()}, model


def engine_gradients(net, images, labels):
    net.flat.grad = None
    F.cross_entropy(net(images), labels).backward()
    return {n: g.double() for n, g in net.layout.unpack_all(net.flat.grad).items()}


def errors(found, truth):
    """Relative to the largest of all parameters, by parameter."""
    scale = max(float(g.norm()) for g in truth.values())
    return {
        n: float((found[n] - g).norm()) / max(float(g.norm()), 1e-3 * scale)
        for n, g in truth.items()
    }


def made(seed=0, **options):
    """A small ResNet in the engine, with random masks."""
    model = resnet(seed)
    return engine(model, masks_for(model), **options)


def loss_of(net, images, labels):
    return F.cross_entropy(net(images), labels)


def told(model, name, **settings):
    """The model with a layer's settings changed."""
    for key, value in settings.items():
        setattr(model.get_submodule(name), key, value)
    return model
