"""MobileNet-V2 for 32x32 images (Sandler et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from paper_repro.models import MODELS
from paper_repro.models.init import kaiming_

__all__ = ["MobileNetV2", "mobilenetv2"]

# Expansion, width, blocks, stride of the first block: the paper's Table 2, except that the stem
# and the second row keep the resolution, since a CIFAR image is already as small as 32x32.
_ROWS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM, _HEAD = 32, 1280
_HALF = tuple((t, width // 2, depth, stride) for t, width, depth, stride in _ROWS)
_DIGITS = ((1, 16, 1, 1), (4, 24, 2, 2))


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1; added to x if the shape is kept."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        widen = [_unit(inputs, hidden, 1)] if expansion != 1 else []
        self.body = nn.Sequential(
            *widen,
            _unit(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return y.add_(x) if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNet-V2, at width 1.0 unless it is told otherwise.

    Args:
        channels: channels of the input image.
        classes: size of the output.
        rows: expansion, width, blocks and first stride of each group of blocks.
        stem: channels of the first convolution.
        head: channels before the classifier.

    Shape:
        [B, channels, H, W] -> [B, classes]
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        rows: Sequence[tuple[int, int, int, int]] = _ROWS,
        stem: int = _STEM,
        head: int = _HEAD,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        blocks: list[nn.Module] = []
        inputs = stem
        for expansion, outputs, depth, stride in rows:
            for i in range(depth):
                blocks.append(InvertedResidual(inputs, outputs, stride if i == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks, _unit(inputs, head, 1))
        self.fc = nn.Linear(head, classes)
        kaiming_(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn1(self.conv1(x)), inplace=True)
        return self.fc(self.blocks(x).mean(dim=(2, 3)))


@MODELS.register("mobilenetv2")
def mobilenetv2(classes: int, channels: int = 3) -> MobileNetV2:
    """2,236,682 parameters for 10 classes."""
    return MobileNetV2(channels, classes)


@MODELS.register("mobilenetv2_half")
def mobilenetv2_half(classes: int, channels: int = 3) -> MobileNetV2:
    """MobileNet-V2 at width 0.5, its head too."""
    return MobileNetV2(channels, classes, _HALF, _STEM // 2, _HEAD // 2)


@MODELS.register("mobilenet_digits")
def mobilenet_digits(classes: int, channels: int = 1) -> MobileNetV2:
    """Three blocks, 16-24, for 8x8 digits."""
    return MobileNetV2(channels, classes, _DIGITS, 16, 64)
