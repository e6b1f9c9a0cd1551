"""What a data set is that does not fit into memory: encoded pictures, read as they are needed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch

from paper_repro.data.base import check_prefix
from paper_repro.data.digest import digest
from paper_repro.data.pictures import Pictures

__all__ = ["StreamedDataset"]


@dataclass(frozen=True)
class StreamedDataset:
    """A data set whose pictures stay on disk; :class:`paper_repro.data.loader.Loader` reads them.

    Training pictures are cropped at random, in area and shape, to ``size`` x ``size`` and mirrored;
    for testing the shorter edge becomes ``resize`` pixels and the centre is taken.

    Attributes:
        name: the name it is registered under.
        train: the training pictures, in an order of which any prefix is a fair subset.
        test: the test pictures.
        classes: number of classes; labels are 0 to classes - 1.
        mean: per channel, of pixels scaled to [0, 1].
        std: likewise.
        size: height and width of what a network sees, in pixels.
        resize: of the shorter edge before the centre crop, in pixels.
        scale: least and greatest share of a picture's area that a random crop covers.
        flip: whether mirroring an image keeps its label.
        spare: training pictures that are left out, where they were asked to be kept for testing.
        device: to train on.
        workers: processes that read and decode; None for as many as suit the device.
        skip_broken: do without pictures that cannot be decoded; else one of them is an error.
        names: of the classes' folders (WordNet ids), in the order of the labels, where known; by
            them the pictures of other copies are told apart (``Tiny-ImageNet-C``).
    """

    #: What it is trained for: the name of one of ``paper_repro.train.TASKS``.
    task: ClassVar[str] = "streamed-classification"

    name: str
    train: Pictures
    test: Pictures
    classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int
    resize: int
    scale: tuple[float, float] = (0.08, 1.0)
    flip: bool = True
    spare: Pictures | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int | None = None
    skip_broken: bool = False
    names: tuple[str, ...] | None = None

    @property
    def channels(self) -> int:
        return 3

    def split(self, name: str) -> Pictures:
        """``train``, ``test`` or ``spare``."""
        pictures: Pictures = getattr(self, name)
        return pictures

    def digest(self) -> str:
        """16 hex digits of the training labels and their order; the pictures are too many."""
        return digest(np.asarray(self.train.labels))

    def to(self, device: torch.device | str) -> StreamedDataset:
        """The same data for training on another device."""
        return replace(self, device=torch.device(device))

    def prefix(self, train_size: int, keep_rest: bool = False) -> StreamedDataset:
        """The same data with only the first ``train_size`` training pictures.

        With ``keep_rest`` the others are ``spare``.

        Raises:
            UserError: if there are not that many, or the number is not positive.
        """
        check_prefix(self.name, train_size, len(self.train))
        rows = np.arange(len(self.train))
        rest = self.train.take(rows[train_size:]) if keep_rest else None
        return replace(self, train=self.train.take(rows[:train_size]), spare=rest or None)
