"""EfficientNet-B0 (Tan and Le, 2019), torchvision's, whole and in small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from paper_repro.models import MODELS
from paper_repro.models.init import kaiming_

__all__ = ["efficientnet_b0"]

# Expansion, kernel, stride of the first block, inputs, outputs, blocks: the paper's Table 1.
_B0 = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)
_DIGITS = ((1, 3, 1, 16, 16, 1), (4, 3, 2, 16, 24, 2))


def _build(
    rows: Sequence[tuple[int, ...]], classes: int, channels: int, stem: int, head: int
) -> nn.Module:
    """torchvision's network with another stem, drawn anew as all networks here are.

    Dropout and stochastic depth, 0.2 each, are part of it; both draw from torch's own generator.
    """
    from paper_repro.vision import torchvision  # here: the other networks do without it

    efficientnet = torchvision.models.efficientnet
    blocks = [
        efficientnet.MBConvConfig(t, kernel, stride, inputs, outputs, depth)
        for t, kernel, stride, inputs, outputs, depth in rows
    ]
    model: Any = efficientnet.EfficientNet(
        blocks, dropout=0.2, stochastic_depth_prob=0.2, num_classes=classes, last_channel=head
    )
    first = model.features[0][0]
    model.features[0][0] = nn.Conv2d(channels, first.out_channels, 3, stem, padding=1, bias=False)
    kaiming_(model)
    return model


@MODELS.register("efficientnet_b0")
def efficientnet_b0(classes: int, channels: int = 3) -> nn.Module:
    """5,288,548 parameters for 1000 classes, 0.39 G multiply-accumulates at 224 x 224."""
    return _build(_B0, classes, channels, stem=2, head=1280)


@MODELS.register("efficientnet_b0_64")
def efficientnet_b0_64(classes: int, channels: int = 3) -> nn.Module:
    """The same for 64 x 64 pixels: a stem of stride 1 leaves 4 x 4 of them at the end."""
    return _build(_B0, classes, channels, stem=1, head=1280)


@MODELS.register("efficientnet_digits")
def efficientnet_digits(classes: int, channels: int = 1) -> nn.Module:
    """Three blocks, 16-24, for 8x8 digits."""
    return _build(_DIGITS, classes, channels, stem=1, head=64)
