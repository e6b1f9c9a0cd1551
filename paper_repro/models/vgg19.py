"""VGG-19 with batch norm for 32x32 images (Simonyan and Zisserman, 2015, configuration E)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from paper_repro.models import MODELS
from paper_repro.models.init import kaiming_

__all__ = ["VGG", "vgg19"]

_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # width, convolutions
_QUARTER = tuple((width // 4, depth) for width, depth in _STAGES)


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each at half the size of the one before, and one classifier.

    The three fully connected layers of the original are for 224x224 images; on CIFAR the last
    stage's 2x2 pixels are averaged instead.

    Args:
        channels: channels of the input image.
        classes: size of the output.
        stages: width and convolutions of each, by default VGG-19's sixteen convolutions.

    Shape:
        [B, channels, H, W] -> [B, classes], with H and W at least 16 for five stages
    """

    def __init__(
        self, channels: int, classes: int, stages: Sequence[tuple[int, int]] = _STAGES
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = stages[0][0]
        self.conv1 = nn.Conv2d(channels, inputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        for stage, (outputs, depth) in enumerate(stages):
            if stage:
                layers.append(nn.MaxPool2d(2))
            for _ in range(depth - (stage == 0)):
                layers.append(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
                layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
                inputs = outputs
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(inputs, classes)
        kaiming_(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.fc(self.features(x).mean(dim=(2, 3)))


@MODELS.register("vgg19")
def vgg19(classes: int, channels: int = 3) -> VGG:
    """20,035,018 parameters for 10 classes."""
    return VGG(channels, classes)


@MODELS.register("vgg19_quarter")
def vgg19_quarter(classes: int, channels: int = 3) -> VGG:
    """VGG-19 at a quarter of its width."""
    return VGG(channels, classes, _QUARTER)


@MODELS.register("vgg_digits")
def vgg_digits(classes: int, channels: int = 1) -> VGG:
    """Four convolutions, 16-32, for 8x8 digits."""
    return VGG(channels, classes, ((16, 2), (32, 2)))
