"""Data sets, one per file: in memory as uint8 tensors on the training device, or streamed.

    data = load("cifar10", device="cuda")
    augmenter = Augmenter(data)

A file registers a function that takes what it needs of ``root``, ``cache``, ``workers`` and
``skip_broken`` and returns a :class:`Dataset` on the CPU, a :class:`StreamedDataset` where the
images do not fit into memory, or what another task trains on, such as sentence pairs
(:class:`paper_repro.data.pairs.PairDataset`), with the same ``to`` and ``prefix``. Each names the
task it is trained for, and nothing else needs to know which one it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from paper_repro.data.augment import Augmenter, Normaliser, Plan
from paper_repro.data.base import Dataset, Split
from paper_repro.data.noise import with_label_noise
from paper_repro.data.streamed import StreamedDataset
from paper_repro.errors import UserError
from paper_repro.registry import Registry

__all__ = [
    "DATASETS",
    "Augmenter",
    "Dataset",
    "Normaliser",
    "Plan",
    "Split",
    "StreamedDataset",
    "load",
]

DATASETS: Registry = Registry(
    "dataset",
    "paper_repro.data",
    runtime=frozenset({"root", "cache", "workers", "skip_broken"}),
)


def load(
    name: str,
    *,
    root: Path | None = None,
    cache: Path | None = None,
    device: torch.device | str = "cpu",
    train_size: int | None = None,
    keep_rest: bool = False,
    label_noise: float = 0.0,
    workers: int | None = None,
    skip_broken: bool = False,
) -> Any:
    """A data set on ``device``.

    Args:
        name: a registered name.
        root: the folder with the data, or its parent; by default ``PAPER_REPRO_DATA``, then the
            user's cache, then a download into it. The digits need no folder.
        cache: where decoded images are kept; by default in the user's cache.
        device: where the tensors live.
        train_size: keep this many training images, from the front; by default all.
        keep_rest: keep the others as ``spare``.
        label_noise: fraction of training labels that are made wrong
            (:mod:`paper_repro.data.noise`).
        workers: processes that decode streamed images; None for as many as suit the device.
        skip_broken: train without streamed images that cannot be decoded; else they are an error.

    Raises:
        UserError: for an unknown name, data that is missing or damaged, or a bad ``train_size``.
    """
    data = DATASETS.build(
        DATASETS.spec(name), root=root, cache=cache, workers=workers, skip_broken=skip_broken
    )
    if train_size is not None:
        data = data.prefix(train_size, keep_rest)
    if label_noise:
        if isinstance(data, StreamedDataset):
            raise UserError(f"{name} is streamed: its labels cannot be made wrong (label_noise)")
        if not isinstance(data, Dataset):
            raise UserError(f"{name} has no labels that could be made wrong (label_noise)")
        data = with_label_noise(data, label_noise)
    return data.to(device)
