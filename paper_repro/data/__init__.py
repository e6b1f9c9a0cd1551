"""Data sets, one per file, as uint8 tensors on the training device.

    data = load("cifar10", device="cuda")
    augmenter = Augmenter(data)

A file registers a function that takes ``root`` and ``cache`` (or fewer) and returns a
:class:`Dataset` on the CPU, or what another task trains on, such as sentence pairs
(:class:`paper_repro.data.pairs.PairDataset`), with the same ``to`` and ``prefix``.
"""

from __future__ import annotations

from pathlib import Path

import torch

from paper_repro.data.augment import Augmenter, Plan
from paper_repro.data.base import Dataset, Split
from paper_repro.registry import Registry

__all__ = ["DATASETS", "Augmenter", "Dataset", "Plan", "Split", "load"]

DATASETS: Registry = Registry("dataset", "paper_repro.data", runtime=frozenset({"root", "cache"}))


def load(
    name: str,
    *,
    root: Path | None = None,
    cache: Path | None = None,
    device: torch.device | str = "cpu",
    train_size: int | None = None,
    keep_rest: bool = False,
) -> Dataset:
    """A data set on ``device``.

    Args:
        name: a registered name.
        root: the folder with the data, or its parent; by default ``PAPER_REPRO_DATA``, then the
            user's cache, then a download into it. The digits need no folder.
        cache: where decoded images are kept; by default in the user's cache.
        device: where the tensors live.
        train_size: keep this many training images, from the front; by default all.
        keep_rest: keep the others as ``spare``.

    Raises:
        UserError: for an unknown name, data that is missing or damaged, or a bad ``train_size``.
    """
    data: Dataset = DATASETS.build(DATASETS.spec(name), root=root, cache=cache)
    if train_size is not None:
        data = data.prefix(train_size, keep_rest)
    return data.to(device)
