"""Random crop and flip of whole batches, on the device that holds the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from paper_repro.data.base import Dataset

__all__ = ["Augmenter", "Normaliser", "Plan"]


@dataclass(frozen=True)
class Plan:
    """What happens to each image in one epoch: entry i is image i's.

    Attributes:
        dy: int64 [N], top row of the crop in the padded image.
        dx: int64 [N], left column of the crop in the padded image.
        flip: bool [N], whether the crop is mirrored left to right.
    """

    dy: Tensor
    dx: Tensor
    flip: Tensor

    def copy_(self, other: Plan) -> None:
        """Take over another plan's entries, in place."""
        for kept, new in ((self.dy, other.dy), (self.dx, other.dx), (self.flip, other.flip)):
            kept.copy_(new)


class Normaliser:
    """Turns uint8 images [B, H, W, C] into float32 [B, C, H, W], channels last in memory.

    Args:
        mean: per channel, of pixels scaled to [0, 1].
        std: likewise.
        width: W, in pixels.
        device: of the images.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], width: int, device: torch.device
    ) -> None:
        # (x / 255 - mean) / std as one multiplication and addition. The factors are spread over a
        # whole row because an innermost dimension of three channels would not vectorise.
        means, stds = torch.tensor(mean), torch.tensor(std)
        self._scale = (1 / (255 * stds)).repeat(width).to(device)
        self._shift = (-means / stds).repeat(width).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        rows = images.flatten(2).float()
        return torch.addcmul(self._shift, rows, self._scale).view(images.shape).permute(0, 3, 1, 2)


class Augmenter:
    """Turns indices of training images into normalised float batches.

    A batch is what ``RandomCrop(size, padding=pad)``, ``RandomHorizontalFlip``, ``ToTensor`` and
    ``Normalize`` make of its images one by one: the padding is black *before* normalisation.
    There is no loop over images and nothing that waits for the device.

    Args:
        data: the images, and how they may be moved.
        augment: False leaves every image where it is; plans are then all zero.

    Attributes:
        normalise: the :class:`Normaliser` of such images.
    """

    def __init__(self, data: Dataset, augment: bool = True) -> None:
        self.pad = data.pad if augment else 0
        self.flips = data.flip and augment
        images = data.train.images
        n, height, width, channels = images.shape
        self.device = images.device
        padded = F.pad(images, (0, 0, self.pad, self.pad, self.pad, self.pad))
        # windows[i, y, x] is the crop of image i whose corner is (y, x). It is a view: a crop's
        # rows are contiguous runs of width * channels bytes, which makes the gather a few memcpys
        # an image rather than one look-up a pixel.
        image, row = padded.stride(0), padded.stride(1)
        shifts = 2 * self.pad + 1
        self._windows = padded.as_strided(
            (n, shifts, shifts, height, width * channels), (image, row, channels, row, 1)
        )
        self.normalise = Normaliser(data.mean, data.std, width, self.device)

    def draw(self, n: int, generator: torch.Generator) -> Plan:
        """Crops and flips for the images 0 to n - 1, for one epoch.

        Args:
            n: number of images, usually all of the training images.
            generator: on the images' device; the plan is a function of its state.
        """
        shifts = 2 * self.pad + 1

        def corner() -> Tensor:
            return torch.randint(shifts, (n,), generator=generator, device=self.device)

        dy, dx = corner(), corner()
        if self.flips:
            coin = torch.rand(n, generator=generator, device=self.device) < 0.5
        else:
            coin = torch.zeros(n, dtype=torch.bool, device=self.device)
        return Plan(dy, dx, coin)

    def batch(self, index: Tensor, plan: Plan) -> Tensor:
        """The images ``index`` (int64 [B]) as the plan has them.

        Returns:
            float32 [B, C, H, W], normalised, channels last in memory.
        """
        crops = self._windows[index, plan.dy[index], plan.dx[index]]
        images = crops.unflatten(2, (crops.shape[1], -1))
        if self.flips:
            images = torch.where(plan.flip[index, None, None, None], images.flip(2), images)
        return self.normalise(images)
