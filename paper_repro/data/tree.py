"""ImageNet as a tree of folders: ``train/<wnid>/*.JPEG`` and ``val/<wnid>/*.JPEG``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from paper_repro.data.pictures import Pictures
from paper_repro.errors import UserError

__all__ = ["Tree", "class_folders"]

_SUFFIXES = (b".jpeg", b".jpg", b".png")


def class_folders(folder: Path, classes: int) -> list[str]:
    """The names of a split's class folders, sorted: label i is the i-th.

    Raises:
        UserError: there are not ``classes`` of them, or images lie beside them.
    """
    names, loose = [], 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    names.append(entry.name)
                else:
                    loose += os.fsencode(entry.name).lower().endswith(_SUFFIXES)
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from error
    if loose and not names:
        raise UserError(
            f"{folder} has {loose:,} images but no folder for each class; sort them into "
            f"{folder.name}/<wnid>/*.JPEG first"
        )
    if len(names) != classes:
        raise UserError(
            f"{folder} has {len(names):,} of the {classes:,} class folders: the copy is incomplete "
            "or of another data set"
        )
    return sorted(names)


class Tree(Pictures):
    """One split's folder; pictures in the order of class and file name.

    Args:
        folder: with a folder for each class.
        classes: the class folders' names; label i is ``classes[i]``.

    Raises:
        UserError: a class folder is missing or has no images.
    """

    def __init__(self, folder: Path, classes: list[str]) -> None:
        self.folder = folder
        self.classes = classes
        names: list[bytes] = []
        counts = []
        for wnid in classes:
            found = _images(folder / wnid)
            if not found:
                raise UserError(f"the class folder {folder / wnid} has no images")
            names += found
            counts.append(len(found))
        # As one array: a million small objects would be copied into every worker process as it
        # touches them.
        self._names = np.array(names, dtype=bytes)
        self.labels = np.repeat(np.arange(len(classes), dtype=np.int64), counts)

    def _path(self, i: int) -> Path:
        name = os.fsdecode(bytes(self._names[i]))
        return self.folder / self.classes[int(self.labels[i])] / name

    def encoded(self, i: int) -> bytes:
        return self._path(i).read_bytes()

    def name(self, i: int) -> str:
        return str(self._path(i))


def _images(folder: Path) -> list[bytes]:
    try:
        with os.scandir(os.fsencode(folder)) as entries:
            found = [e.name for e in entries if e.name.lower().endswith(_SUFFIXES)]
    except FileNotFoundError:
        raise UserError(f"{folder.parent} has no class folder {folder.name}") from None
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from error
    return sorted(name for name in found if not name.startswith(b"."))
