"""CIFAR as its authors publish it and torchvision lays it out: pickled batches of planar images."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paper_repro.errors import UserError

__all__ = ["read"]

# All that a pickled array or text needs. Anything else in a file could run code when it is opened.
_ALLOWED = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # The published files name numpy's inner modules as they were called at the time.
        module = module.replace("numpy.core", "numpy._core")
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return getattr(importlib.import_module(module), name)


Batch = tuple[np.ndarray, np.ndarray, list[str] | None]


def read(files: Sequence[Path], label_key: str, size: int) -> Batch:
    """Read batches.

    Args:
        files: pickled dictionaries with ``data``, uint8 [N, 3 * size * size] in planes of red,
            green and blue, and a list of labels.
        label_key: ``labels`` (CIFAR-10) or ``fine_labels`` (CIFAR-100).
        size: height and width of the images.

    Returns:
        images, uint8 [N, size, size, 3], labels, int64 [N], in the files' order, and the names of
        the pictures; None if a batch does not name them.

    Raises:
        UserError: naming the file, if it is damaged or holds something else.
    """
    images, labels, names = zip(*(_batch(file, label_key, size) for file in files), strict=True)
    named = None if None in names else [name for some in names for name in some]
    return np.concatenate(images), np.concatenate(labels), named


def _batch(file: Path, label_key: str, size: int) -> Batch:
    try:
        with open(file, "rb") as stream:
            batch = _Unpickler(stream, encoding="latin1").load()
        planes = np.asarray(batch["data"])
        labels = np.asarray(batch[label_key], dtype=np.int64)
        if planes.dtype != np.uint8:
            raise ValueError(f"its data are {planes.dtype}, not uint8")
        images = planes.reshape(len(labels), 3, size, size).transpose(0, 2, 3, 1)
        names = batch.get("filenames")
        if names is not None and len(names) != len(labels):
            raise ValueError(f"it names {len(names)} of its {len(labels)} images")
    except Exception as error:  # unpickling damaged bytes can raise nearly anything
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{file} is damaged or is no batch of CIFAR images: {reason}") from error
    return images, labels, None if names is None else [str(name) for name in names]
