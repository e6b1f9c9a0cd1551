"""Twenty classes of Tiny-ImageNet: ImageNet in small, in the same layouts and by the same code.

Every tenth class, by WordNet id, of Tiny-ImageNet-200 (Stanford CS231n): images of 64 x 64 pixels,
some of them greyscale, 500 for training and 50 for testing of each class.
"""

from __future__ import annotations

from pathlib import Path

from paper_repro.data import DATASETS
from paper_repro.data.imagenet import Kind, find
from paper_repro.data.streamed import StreamedDataset

__all__ = ["tinyimagenet20"]

#: The classes, in the order of the labels. Tiny-ImageNet-C has them among 200.
_WNIDS = (
    "n01443537",
    "n01784675",
    "n02002724",
    "n02123045",
    "n02231487",
    "n02410509",
    "n02669723",
    "n02814533",
    "n02909870",
    "n03026506",
    "n03255030",
    "n03584254",
    "n03770439",
    "n03937543",
    "n04070727",
    "n04259630",
    "n04398044",
    "n04532670",
    "n07615774",
    "n07871810",
)

_TINY = Kind(
    name="tinyimagenet20",
    classes=20,
    train=10_000,
    test=1_000,
    mean=(0.4926, 0.4458, 0.3958),
    std=(0.2801, 0.2742, 0.2841),
    size=64,
    resize=64,
    # An eighth of so small a picture would often show nothing of its object.
    scale=(0.25, 1.0),
    names=_WNIDS,
    repositories=("*/tinyimagenet20",),
)


@DATASETS.register("tinyimagenet20")
def tinyimagenet20(
    root: Path | None,
    cache: Path | None,
    workers: int | None = None,
    skip_broken: bool = False,
) -> StreamedDataset:
    """10,000 training and 1,000 test images of 64 x 64 pixels."""
    return find(_TINY, root, cache, workers, skip_broken)
