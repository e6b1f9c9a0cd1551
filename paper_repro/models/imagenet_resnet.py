"""Residual networks for ImageNet (He et al., 2016, section 3.4), whole and narrowed.

Layers are named as in torchvision, so weights go from one to the other, and the whole networks
compute what torchvision's do (stride 2 in the 3x3 convolution of a bottleneck). Sparse methods
know shortcuts by the name ``downsample``.

Beside the form for 224 x 224 pixels there is one for small images: a 3x3 stem without pooling,
which halves the image once instead of twice and so leaves 64 x 64 pixels 4 x 4 at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from paper_repro.models import MODELS
from paper_repro.models.init import kaiming_

__all__ = ["ImageNetResNet"]


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y.add_(self.downsample(x)), inplace=True)


class Bottleneck(nn.Module):
    """Narrow by 1x1, filter by 3x3, widen by 1x1 to four times the width."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _downsample(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y.add_(self.downsample(x)), inplace=True)


class ImageNetResNet(nn.Module):
    """A stem, stages at widths w, 2w, 4w, ..., global average, classifier.

    Args:
        channels: channels of the input image.
        classes: size of the output.
        block: of the stages.
        depths: blocks in each stage; every stage after the first starts with stride 2.
        width: w.
        stem: stride of the stem. 4: a 7x7 convolution of stride 2 and max pooling, for 224 x 224
            pixels; 2 or 1: a 3x3 convolution alone, of that stride.

    Shape:
        [B, channels, H, W] -> [B, classes]
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        width: int = 64,
        stem: int = 4,
    ) -> None:
        super().__init__()
        large = stem == 4
        self.conv1 = _conv(channels, width, 7 if large else 3, 2 if large else stem)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if large else nn.Identity()
        inputs = width
        self.stages = [f"layer{i + 1}" for i in range(len(depths))]
        for i, (name, depth) in enumerate(zip(self.stages, depths, strict=True)):
            blocks: list[nn.Module] = []
            for b in range(depth):
                blocks.append(block(inputs, width << i, 2 if i > 0 and b == 0 else 1))
                inputs = block.expansion * (width << i)
            self.add_module(name, nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)
        kaiming_(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.fc(x.mean(dim=(2, 3)))


_34 = (BasicBlock, (3, 4, 6, 3))
_50 = (Bottleneck, (3, 4, 6, 3))


@MODELS.register("resnet34")
def resnet34(classes: int, channels: int = 3) -> ImageNetResNet:
    """21,797,672 parameters for 1000 classes, 3.66 G multiply-accumulates at 224 x 224."""
    return ImageNetResNet(channels, classes, *_34)


@MODELS.register("resnet50")
def resnet50(classes: int, channels: int = 3) -> ImageNetResNet:
    """25,557,032 parameters for 1000 classes, 4.09 G multiply-accumulates at 224 x 224."""
    return ImageNetResNet(channels, classes, *_50)


@MODELS.register("resnet34_64")
def resnet34_64(classes: int, channels: int = 3) -> ImageNetResNet:
    """ResNet-34 with a stem for 64 x 64 pixels."""
    return ImageNetResNet(channels, classes, *_34, stem=2)


@MODELS.register("resnet50_64")
def resnet50_64(classes: int, channels: int = 3) -> ImageNetResNet:
    """ResNet-50 with a stem for 64 x 64 pixels."""
    return ImageNetResNet(channels, classes, *_50, stem=2)


@MODELS.register("resnet34_64_quarter")
def resnet34_64_quarter(classes: int, channels: int = 3) -> ImageNetResNet:
    """ResNet-34 at a quarter of its width, 16-32-64-128, with a stem for 64 x 64 pixels."""
    return ImageNetResNet(channels, classes, *_34, width=16, stem=2)


@MODELS.register("resnet50_64_quarter")
def resnet50_64_quarter(classes: int, channels: int = 3) -> ImageNetResNet:
    """ResNet-50 at a quarter of its width, 16-32-64-128, with a stem for 64 x 64 pixels."""
    return ImageNetResNet(channels, classes, *_50, width=16, stem=2)


@MODELS.register("resnet34_digits")
def resnet34_digits(classes: int, channels: int = 1) -> ImageNetResNet:
    """Three basic blocks, 8-16, for 8x8 digits."""
    return ImageNetResNet(channels, classes, BasicBlock, (2, 1), width=8, stem=1)


@MODELS.register("resnet50_digits")
def resnet50_digits(classes: int, channels: int = 1) -> ImageNetResNet:
    """Three bottlenecks, 8-16, for 8x8 digits."""
    return ImageNetResNet(channels, classes, Bottleneck, (2, 1), width=8, stem=1)
