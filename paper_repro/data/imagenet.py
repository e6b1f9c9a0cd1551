"""ImageNet-1K (ILSVRC 2012): 1,281,167 training and 50,000 test images of a thousand classes.

A folder may hold it as a tree, ``train/<wnid>/*.JPEG`` and ``val/<wnid>/*.JPEG``, or as parquet
shards in the Hugging Face hub's schema, ``train-*.parquet`` and ``validation-*.parquet``. Its test
images here are the official validation images; those of the official test have no labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paper_repro.data import DATASETS, hub, packed, parquet, tree
from paper_repro.data.cache import given_folder, user_cache
from paper_repro.data.pictures import Pictures, check_whole
from paper_repro.data.streamed import StreamedDataset
from paper_repro.errors import UserError

__all__ = ["Kind", "find", "imagenet"]


@dataclass(frozen=True)
class Kind:
    """A data set in ImageNet's layouts: how large it is, and how its pictures are shown.

    Those from ``mean`` to ``scale`` are as in :class:`paper_repro.data.streamed.StreamedDataset`.
    ``names`` are those of shards, which hold none; a tree's are its folders'. ``repositories`` are
    where it lies on the hub.
    """

    name: str
    classes: int
    train: int
    test: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int
    resize: int
    scale: tuple[float, float]
    names: tuple[str, ...] | None = None
    repositories: tuple[str, ...] = ()


_IMAGENET = Kind(
    name="imagenet",
    classes=1000,
    train=1_281_167,
    test=50_000,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    size=224,
    resize=256,
    scale=(0.08, 1.0),
    repositories=("ILSVRC/imagenet-1k", "imagenet-1k"),
)


@DATASETS.register("imagenet")
def imagenet(
    root: Path | None,
    cache: Path | None,
    workers: int | None = None,
    skip_broken: bool = False,
) -> StreamedDataset:
    """All of it, at 224 x 224 pixels."""
    return find(_IMAGENET, root, cache, workers, skip_broken)


def find(
    kind: Kind, root: Path | None, cache: Path | None, workers: int | None, skip_broken: bool
) -> StreamedDataset:
    """A data set in one of ImageNet's layouts, from ``root``, its folder or its folder's parent.

    The training pictures are put into an order that is fixed once and for all and mixes the
    classes. It is not the same for a tree and for shards.

    Args:
        kind: which one.
        root: by default ``PAPER_REPRO_DATA``, then the user's cache.
        cache: where shards are unpacked to; by default in the user's cache.
        workers: see :class:`StreamedDataset`.
        skip_broken: likewise.

    Raises:
        UserError: it is not there, incomplete or damaged.
    """
    given = given_folder(root)
    kept = user_cache()

    def of_hub(place: Path) -> StreamedDataset | None:
        found = _shards(kind, place, cache or kept / "decoded")
        return None if found is None else _dataset(kind, place, found, workers, skip_broken)

    for folder in (given, kept):
        for place in _places(kind, folder) if folder is not None else ():
            found = _tree(kind, place) or _shards(kind, place, cache or kept / "decoded")
            if found is not None:
                return _dataset(kind, place, found, workers, skip_broken)
        for place in hub.copies(folder, kind.repositories) if folder is not None else ():
            if data := of_hub(place):
                return data
    if data := hub.own(of_hub, kind.repositories):
        return data
    looked = " and ".join(str(f) for f in (given, kept) if f is not None)
    raise UserError(
        f"{kind.name} was not found in {looked}: put train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, or "
        f"the hub's train-*.parquet and validation-*.parquet, into a folder {kind.name}, and give "
        "the folder that holds it as --data or PAPER_REPRO_DATA; the smoke profile "
        "(--profile smoke) needs no data"
    )


def _places(kind: Kind, folder: Path) -> tuple[Path, ...]:
    below = folder / kind.name
    # The hub's copies keep their shards in `data`, Kaggle's its tree in ILSVRC/Data/CLS-LOC.
    inner = ("", "data", "ILSVRC/Data/CLS-LOC")
    return tuple(place / name for place in (below, folder) for name in inner)


Splits = tuple[Pictures, Pictures]


def _tree(kind: Kind, folder: Path) -> Splits | None:
    train, test = folder / "train", folder / "val"
    if not train.is_dir() and not test.is_dir():
        return None
    for split in (train, test):
        if not split.is_dir():
            raise UserError(f"{folder} has no folder {split.name}: the copy is incomplete")
    names = tree.class_folders(train, kind.classes)
    others = sorted(set(tree.class_folders(test, kind.classes)) ^ set(names))
    if others:
        raise UserError(f"{train} and {test} differ in their class folders, in {others[0]} first")
    return tree.Tree(train, names), tree.Tree(test, names)


def _shards(kind: Kind, folder: Path, cache: Path) -> Splits | None:
    train = parquet.shards(folder, "train")
    test = parquet.shards(folder, "validation") or parquet.shards(folder, "val")
    if not train and not test:
        return None
    for split, files in (("train", train), ("validation", test)):
        if not files:
            raise UserError(f"{folder} has no {split}-*.parquet: the copy is incomplete")

    def unpack(split: str, files: list[Path]) -> Pictures:
        name = f"{kind.name}-{split}"
        return packed.unpack(name, files, "label", kind.classes, cache, f"unpacking {name}")

    return unpack("train", train), unpack("test", test)


def _dataset(
    kind: Kind, place: Path, found: Splits, workers: int | None, skip_broken: bool
) -> StreamedDataset:
    train, test = found
    check_whole(train, place, f"training images of {kind.name}", kind.classes, kind.train)
    check_whole(test, place, f"test images of {kind.name}", kind.classes, kind.test)
    order = np.random.RandomState(0).permutation(len(train))  # a stream that numpy keeps frozen
    return StreamedDataset(
        name=kind.name,
        train=train.take(order),
        test=test,
        classes=kind.classes,
        mean=kind.mean,
        std=kind.std,
        size=kind.size,
        resize=kind.resize,
        scale=kind.scale,
        workers=workers,
        skip_broken=skip_broken,
        names=tuple(train.classes) if isinstance(train, tree.Tree) else kind.names,
    )
