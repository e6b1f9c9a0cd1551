"""Pictures in the hub's parquet shards, unpacked once so that each can be read by itself.

A shard compresses hundreds of images together, and reading one of them means reading them all. So
the encoded images are copied, byte for byte and one after another, into one file in the cache, with
an index beside it: any order costs one read an image, and nothing is held in memory.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from paper_repro.data.cache import key, locked
from paper_repro.data.parquet import columns
from paper_repro.data.pictures import Pictures
from paper_repro.errors import UserError

__all__ = ["Packed", "unpack"]

_ROWS = 256  # read at once


class Packed(Pictures):
    """The images of some shards, in the shards' order.

    Args:
        path: of the file with all encoded images.
        offsets: int64 [N + 1], where each begins.
        labels: int64 [N].
        files: the shards they came from.
        starts: int64, each shard's first image.
    """

    def __init__(
        self,
        path: Path,
        offsets: np.ndarray,
        labels: np.ndarray,
        files: Sequence[Path],
        starts: np.ndarray,
    ) -> None:
        self.path = path
        self.offsets = offsets
        self.labels = labels
        self.files = list(files)
        self.starts = starts
        self._file: BinaryIO | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def encoded(self, i: int) -> bytes:
        if self._file is None:
            self._file = self.path.open("rb")
        start, end = int(self.offsets[i]), int(self.offsets[i + 1])
        # Without a seek: processes that were forked share the file's position.
        return os.pread(self._file.fileno(), end - start, start)

    def name(self, i: int) -> str:
        shard = int(np.searchsorted(self.starts, i, side="right")) - 1
        return f"row {i - int(self.starts[shard])} of {self.files[shard]}"


def unpack(
    name: str, files: Sequence[Path], column: str, classes: int, folder: Path, progress: str
) -> Packed:
    """The images of parquet shards, from the cache if they are there.

    Safe for any number of processes at once; a copy that was cut short or damaged in its size is
    made again.

    Args:
        name: of the split; the cached files are ``<name>-<key>.images`` and ``.npz``.
        files: parquet files with a column ``img`` or ``image`` of {bytes, path} and labels.
        column: of the labels.
        classes: labels must lie in 0 to ``classes`` - 1.
        folder: the cache, made if need be.
        progress: words beside the progress bar, which goes to stderr.

    Raises:
        UserError: naming the file that is damaged or does not have this schema, the row whose
            label is out of range or that has no image, or the cache that has no room.
    """
    images = folder / f"{name}-{key(name, files)}.images"
    index = images.with_suffix(".npz")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(images.with_suffix(".lock")):
            arrays = _read(index, images)
            if arrays is None:
                _check_room(folder, files)
                arrays = _write(index, images, files, column, classes, progress)
    except OSError as error:
        raise UserError(f"{folder} cannot keep unpacked images: {error.strerror}") from error
    return Packed(images, arrays["offsets"], arrays["labels"], files, arrays["starts"])


def _read(index: Path, images: Path) -> dict[str, np.ndarray] | None:
    try:
        with np.load(index, allow_pickle=False) as archive:
            arrays = {k: archive[k] for k in ("offsets", "labels", "starts")}
        return arrays if images.stat().st_size == int(arrays["offsets"][-1]) else None
    except Exception:  # not there, or damaged in any way
        return None


def _check_room(folder: Path, files: Sequence[Path]) -> None:
    needed = sum(file.stat().st_size for file in files)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"unpacking {len(files)} shards such as {files[0]} needs {needed / 1e9:.1f} GB in "
            f"{folder}, which has {free / 1e9:.1f} GB left"
        )


def _write(
    index: Path, images: Path, files: Sequence[Path], column: str, classes: int, progress: str
) -> dict[str, np.ndarray]:
    from tqdm import tqdm

    sizes: list[int] = []
    labels: list[np.ndarray] = []
    starts: list[int] = []
    # One fixed name: only the lock's holder writes, and it overwrites what a killed one left.
    partial = images.with_suffix(".partial")
    try:
        with (
            partial.open("wb") as out,
            tqdm(desc=progress, unit="img", leave=False) as bar,
        ):
            for file in files:
                starts.append(len(sizes))
                for encoded, numbers in _rows(file, column, classes):
                    out.writelines(encoded)
                    sizes += map(len, encoded)
                    labels.append(numbers)
                    bar.update(len(encoded))
            out.flush()
            os.fsync(out.fileno())
        arrays = {
            "offsets": np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]),
            "labels": np.concatenate(labels) if labels else np.empty(0, np.int64),
            "starts": np.array(starts, dtype=np.int64),
        }
        index.unlink(missing_ok=True)
        os.replace(partial, images)
        with partial.open("wb") as out:
            np.savez(out, **arrays)  # type: ignore[arg-type]
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, index)
    finally:
        partial.unlink(missing_ok=True)
    return arrays


def _rows(file: Path, column: str, classes: int) -> Iterator[tuple[list[bytes], np.ndarray]]:
    row = 0
    for encoded, labels in columns(file, column, _ROWS):
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        if len(wrong):
            raise UserError(
                f"row {row + wrong[0]} of {file} has the label {labels[wrong[0]]}; labels are "
                f"0 to {classes - 1}"
            )
        row += len(labels)
        yield encoded, labels
