"""Data sets in the schema of the Hugging Face hub: shards named by split, parquet or Arrow."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from paper_repro.data import arrow
from paper_repro.errors import UserError

__all__ = ["batches", "columns", "decode", "shards"]

_IMAGE_COLUMNS = ("img", "image")
_NUMBER = re.compile(r"-(\d+)-of-(\d+)(?!\d)", re.ASCII)
_CHUNK = 256  # images a task: enough to make the pool's overhead vanish


def shards(folder: Path, split: str) -> list[Path]:
    """The files ``<split>-*.parquet`` of a folder, in order; none if there are none.

    Where there are none, the Arrow files that the library ``datasets`` keeps in such a folder
    (:func:`paper_repro.data.arrow.shards`).

    Raises:
        UserError: if the files' own numbering (``-00000-of-00003``, a hash or a browser's ``(1)``
            may follow) says that one is missing or there twice, or that some belong to another
            copy, or one is a link to a file that is not there.
    """
    found = sorted(folder.glob(f"{split}-*.parquet"))
    for path in found:
        if not path.exists():  # of a hub's cache whose blobs were cleared or not copied
            raise UserError(f"{path} is a link to nothing: the copy is incomplete")
    if not found:
        return arrow.shards(folder, split)
    _check_numbering(folder, split, [path.name for path in found])
    return found


def _check_numbering(folder: Path, split: str, names: Sequence[str]) -> None:
    """Refuse files that are numbered and are not 0 to N - 1, once each."""
    numbers = {name: _NUMBER.search(name, len(split)) for name in names}
    first, count = next(((n, m[2]) for n, m in numbers.items() if m), ("", ""))
    if not first:
        return
    there: dict[int, str] = {}
    for name, number in numbers.items():
        if number is None or int(number[2]) != int(count):
            raise UserError(
                f"{folder} has {first} and {name}, which are not of one copy: remove those of the "
                "other"
            )
        at = int(number[1])
        if at in there:
            raise UserError(f"{folder} has {there[at]} and {name}, the same shard: remove one")
        there[at] = name
    have = sum(at < int(count) for at in there)
    if have < int(count) or len(there) > have:
        raise UserError(
            f"{folder} has {have} of the {int(count)} files {split}-*-of-{count}.parquet: the copy "
            "is incomplete"
        )


def decode(
    files: Sequence[Path], label_column: str, size: int, progress: str
) -> tuple[np.ndarray, np.ndarray]:
    """Read and decompress shards.

    Args:
        files: shards with a column ``img`` or ``image`` of {bytes, path} and a label column.
        label_column: name of the column of whole-number labels.
        size: height and width that every image must have.
        progress: words beside the progress bar, which goes to stderr.

    Returns:
        images, uint8 [N, size, size, 3], and labels, int64 [N], in the files' order.

    Raises:
        UserError: naming the file, if it is damaged or does not have this schema.
    """
    from tqdm import tqdm

    tables = [_table(file, label_column) for file in files]
    total = sum(len(labels) for _, labels in tables)
    images = np.empty((total, size, size, 3), np.uint8)

    def task(job: tuple[Path, list[bytes], int]) -> int:
        file, encoded, start = job
        for offset, data in enumerate(encoded):
            images[start + offset] = _pixels(data, size, file)
        return len(encoded)

    # Pillow lets go of the interpreter while it decompresses, so threads are enough.
    with (
        ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool,
        tqdm(total=total, desc=progress, unit="img", leave=False) as bar,
    ):
        for done in pool.map(task, _jobs(files, [encoded for encoded, _ in tables])):
            bar.update(done)
    return images, np.concatenate([labels for _, labels in tables])


def _jobs(
    files: Sequence[Path], encoded: Sequence[list[bytes]]
) -> Iterable[tuple[Path, list[bytes], int]]:
    start = 0
    for file, images in zip(files, encoded, strict=True):
        for first in range(0, len(images), _CHUNK):
            yield file, images[first : first + _CHUNK], start + first
        start += len(images)


def _table(file: Path, label_column: str) -> tuple[list[bytes], np.ndarray]:
    encoded, labels = [], [np.empty(0, np.int64)]
    for some, numbers in columns(file, label_column):
        encoded += some
        labels.append(numbers)
    return encoded, np.concatenate(labels)


def columns(
    file: Path, label_column: str, rows: int = 2**16
) -> Iterator[tuple[list[bytes], np.ndarray]]:
    """A shard's encoded images and its labels, int64, at most ``rows`` at a time.

    Raises:
        UserError: naming the file, if it is damaged or does not have this schema.
    """
    import pyarrow as pa

    try:
        names = _source(file).schema_arrow.names
        image_column = next((c for c in _IMAGE_COLUMNS if c in names), None)
        if image_column is None or label_column not in names:
            raise UserError(
                f"{file} has the columns {', '.join(names)}; "
                f"needed are img or image, and {label_column}"
            )
        for batch in batches(file, [image_column, label_column], rows):
            encoded = batch.column(image_column).field("bytes").to_pylist()
            labels = batch.column(label_column).to_numpy(zero_copy_only=False)
            labels = labels.astype(np.int64, casting="safe")
            if any(data is None for data in encoded):
                raise UserError(f"{file} has a row without image bytes")
            yield encoded, labels
    except (pa.ArrowException, OSError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{file} is damaged or is no {_kind(file)} file of images and labels: "
            f"{_sentence(error)}"
        ) from error


def batches(file: Path, columns: Sequence[str], rows: int = 2**16) -> Iterator[Any]:
    """Some columns of a shard, as Arrow record batches of at most ``rows`` rows.

    Raises:
        pyarrow.ArrowException, OSError, KeyError: it is damaged or has no such columns.
    """
    yield from _source(file).iter_batches(rows, columns=list(columns))


def _source(file: Path) -> Any:
    if file.suffix == ".arrow":
        return arrow.ArrowFile(file)
    import pyarrow.parquet as pq

    return pq.ParquetFile(file)


def _kind(file: Path) -> str:
    return "Arrow" if file.suffix == ".arrow" else "parquet"


def _pixels(data: bytes, size: int, file: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            shape = image.size
            pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise UserError(f"{file} holds an image that cannot be decoded: {error}") from error
    if shape != (size, size):
        raise UserError(
            f"{file} holds an image of {shape[0]}x{shape[1]} pixels; expected are {size}x{size}"
        )
    return pixels


def _sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
