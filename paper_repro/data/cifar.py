"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 50,000 + 10,000 colour images of 32x32 pixels.

A folder may hold them as parquet shards in the Hugging Face hub's schema, as its libraries cache
them, or as the published pickles in torchvision's layout; where none of these is found torchvision
downloads the pickles. Their images come in one order from all of these, that of the records, where
a copy says enough to know it (:mod:`paper_repro.data.order`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from paper_repro.data import DATASETS, download, hub, order, parquet, pickles
from paper_repro.data.base import Dataset, Split
from paper_repro.data.cache import cached, given_folder, user_cache
from paper_repro.errors import UserError

__all__ = ["cifar10", "cifar100"]

_log = logging.getLogger(__name__)

_SIZE = 32
_ROWS = (50_000, 10_000)  # of the training and the test images


@dataclass(frozen=True)
class _Cifar:
    """How one of the two is laid out and what is known about it."""

    name: str
    classes: int
    column: str  # of the labels, in parquet
    pickled: str  # torchvision's folder
    key: str  # of the labels, in a pickle
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    ordered: str  # fingerprint of the training labels in the records' order
    published: str | None  # likewise as published, where the records' order follows from that

    @property
    def repositories(self) -> tuple[str, ...]:
        """On the hub; copies older than its owners' folders have none."""
        return (f"uoft-cs/{self.name}", self.name)

    @property
    def configurations(self) -> tuple[str, ...]:
        return ("plain_text", self.name)


_CIFAR10 = _Cifar(
    name="cifar10",
    classes=10,
    column="label",
    pickled="cifar-10-batches-py",
    key="labels",
    train_files=tuple(f"data_batch_{i}" for i in range(1, 6)),
    test_files=("test_batch",),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    ordered="51a03819b919f982",
    published=None,
)
_CIFAR100 = _Cifar(
    name="cifar100",
    classes=100,
    column="fine_label",
    pickled="cifar-100-python",
    key="fine_labels",
    train_files=("train",),
    test_files=("test",),
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    ordered="61677be0fea68ab9",
    published="6642a357bb1ec15c",
)


@DATASETS.register("cifar10")
def cifar10(root: Path | None, cache: Path | None) -> Dataset:
    """Ten classes of 6,000 images each."""
    return _load(_CIFAR10, root, cache)


@DATASETS.register("cifar100")
def cifar100(root: Path | None, cache: Path | None) -> Dataset:
    """A hundred classes of 600 images each, by their fine labels."""
    return _load(_CIFAR100, root, cache)


def _load(kind: _Cifar, root: Path | None, cache: Path | None) -> Dataset:
    given = given_folder(root)
    kept = user_cache()
    decoded = cache or kept / "decoded"
    for folder in (given, kept):
        if folder is not None and (data := _read(kind, folder, decoded)):
            return data
    data = hub.own(
        lambda place: _read_parquet(kind, place, decoded), kind.repositories, kind.configurations
    )
    if data is not None:
        return data
    looked = " and ".join(str(f) for f in (given, kept) if f is not None)
    try:
        download.cifar(kind.name, kind.pickled, kept)
    except download.Failed as error:
        raise UserError(
            f"{kind.name} was not found in {looked} and could not be downloaded ({error}): put "
            f"train-*.parquet and test-*.parquet into a folder {kind.name}, or torchvision's "
            f"{kind.pickled}, and give the folder that holds it as --data or PAPER_REPRO_DATA; "
            "the smoke profile (--profile smoke) needs no data"
        ) from error
    data = _read(kind, kept, decoded)
    if data is None:
        raise UserError(f"the download left no {kind.pickled} in {kept}")
    return data


def _read(kind: _Cifar, folder: Path, decoded: Path) -> Dataset | None:
    """The data in ``folder``, or one level below; None if there is nothing that looks like it."""
    below = folder / kind.name
    # The hub's own copies keep their shards in a folder named for the configuration.
    for place in (below, below / "plain_text", below / kind.name, folder):
        if data := _read_parquet(kind, place, decoded):
            return data
    for place in (folder, below):
        for batches in (place / kind.pickled, place):
            if data := _read_pickles(kind, batches):
                return data
    for place in hub.copies(folder, kind.repositories, kind.configurations):
        if data := _read_parquet(kind, place, decoded):
            return data
    return None


def _read_parquet(kind: _Cifar, folder: Path, decoded: Path) -> Dataset | None:
    train, test = parquet.shards(folder, "train"), parquet.shards(folder, "test")
    if not train and not test:
        return None
    for split, files in (("train", train), ("test", test)):
        if not files:
            raise UserError(f"{folder} has no {split}-*.parquet: the copy is incomplete")

    def decode() -> dict[str, np.ndarray]:
        arrays = {}
        for split, files in (("train", train), ("test", test)):
            images, labels = parquet.decode(
                files, kind.column, _SIZE, f"decoding {kind.name} {split}"
            )
            arrays[f"{split}_images"], arrays[f"{split}_labels"] = images, labels
        return arrays

    arrays = cached(kind.name, [*train, *test], decoded, decode)
    splits = [(arrays[f"{s}_images"], arrays[f"{s}_labels"]) for s in ("train", "test")]
    # A hub's copy names no pictures, but may be in the order of the published ones.
    if kind.published and order.fingerprint(splits[0][1]) == kind.published:
        splits = [_arranged(images, labels, None) for images, labels in splits]
    return _dataset(kind, folder, *splits)


def _read_pickles(kind: _Cifar, folder: Path) -> Dataset | None:
    train = [folder / f for f in kind.train_files]
    test = [folder / f for f in kind.test_files]
    missing = [f.name for f in (*train, *test) if not f.is_file()]
    if missing and folder.name != kind.pickled:
        return None  # a folder of another name may hold anything
    if missing:
        if not folder.is_dir():
            return None
        raise UserError(f"{folder} lacks {', '.join(missing)}: the copy is incomplete")
    splits: list[Arrays] = []
    for files in (train, test):
        images, labels, names = pickles.read(files, kind.key, _SIZE)
        if names is None:  # no published batch, and nothing says where its rows belong
            splits.append((images, labels))
        else:
            splits.append(_arranged(images, labels, None if kind.published else names))
    return _dataset(kind, folder, *splits)


Arrays = tuple[np.ndarray, np.ndarray]


def _arranged(images: np.ndarray, labels: np.ndarray, names: list[str] | None) -> Arrays:
    rows = order.arranged(labels, names)
    return images[rows], labels[rows]


def _dataset(kind: _Cifar, folder: Path, train: Arrays, test: Arrays) -> Dataset:
    def split(arrays: Arrays) -> Split:
        images, labels = arrays
        if len(labels) == 0 or labels.min() < 0 or labels.max() >= kind.classes:
            raise UserError(
                f"{folder} is not {kind.name}: it has no images, or labels outside "
                f"0 to {kind.classes - 1}"
            )
        return Split(
            torch.from_numpy(np.ascontiguousarray(images)),
            torch.from_numpy(labels.astype(np.int64, copy=False)),
        )

    if (rows := (len(train[1]), len(test[1]))) != _ROWS:
        _log.warning(
            "%s has %s training and %s test images of %s, and the published copy %s and %s: it is "
            "not whole, or has images twice",
            folder,
            *(f"{n:,}" for n in rows),
            kind.name,
            *(f"{n:,}" for n in _ROWS),
        )
    return Dataset(
        name=kind.name,
        train=split(train),
        test=split(test),
        classes=kind.classes,
        mean=kind.mean,
        std=kind.std,
        pad=4,
        flip=True,
        own_order=order.fingerprint(train[1]) != kind.ordered,
    )
