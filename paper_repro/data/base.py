"""What a data set is once it is in memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from paper_repro.data.digest import digest
from paper_repro.errors import UserError

__all__ = ["Dataset", "Split", "check_prefix"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Images as uint8 [N, H, W, C] and their labels as int64 [N], on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set, wholly on one device.

    Attributes:
        name: the name it is registered under.
        train: the training images, in an order of which any prefix is a fair subset.
        test: the test images.
        classes: number of classes; labels are 0 to classes - 1.
        mean: per channel, of pixels scaled to [0, 1], over the training images.
        std: likewise.
        pad: zero pixels added at each border before the random crop.
        flip: whether mirroring an image keeps its label.
        spare: training images that are left out, where they were asked to be kept for testing.
        own_order: whether its rows are in an order that other copies of the data do not have, so
            that the same prefix there is of other images.
    """

    #: What it is trained for: the name of one of ``paper_repro.train.TASKS``.
    task: ClassVar[str] = "classification"

    name: str
    train: Split
    test: Split
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int
    flip: bool
    spare: Split | None = None
    own_order: bool = False

    @property
    def channels(self) -> int:
        return self.train.images.shape[3]

    @property
    def size(self) -> int:
        """Height and width of an image, in pixels."""
        return self.train.images.shape[1]

    def digest(self) -> str:
        """16 hex digits of the images trained on, their labels and their order."""
        return digest(self.train.images.cpu().numpy(), self.train.labels.cpu().numpy())

    def to(self, device: torch.device | str) -> Dataset:
        spare = None if self.spare is None else self.spare.to(device)
        return replace(self, train=self.train.to(device), test=self.test.to(device), spare=spare)

    def prefix(self, train_size: int, keep_rest: bool = False) -> Dataset:
        """The same data with only the first ``train_size`` training images.

        With ``keep_rest`` the others are ``spare``.

        Raises:
            UserError: if there are not that many, or the number is not positive.
        """
        check_prefix(self.name, train_size, len(self.train))
        if self.own_order and train_size < len(self.train):
            _log.warning(
                "this copy of %s has its images in an order of its own: the first %d, which are "
                "trained on, are others than in the committed records; a record names its data by "
                "a digest",
                self.name,
                train_size,
            )
        # A copy, so that the images left out do not stay in memory behind a view.
        kept = Split(self.train.images[:train_size].clone(), self.train.labels[:train_size].clone())
        left = self.train.images[train_size:], self.train.labels[train_size:]
        spare = Split(left[0].clone(), left[1].clone()) if keep_rest and len(left[1]) else None
        return replace(self, train=kept, spare=spare)


def check_prefix(name: str, train_size: int, available: int) -> None:
    """Refuse to train on other than 1 to ``available`` images.

    Raises:
        UserError: ``train_size`` is not in that range.
    """
    if not 1 <= train_size <= available:
        raise UserError(
            f"train_size is {train_size}, but {name} has 1 to {available} "
            "training images to choose from"
        )
