"""Data sets as the library ``datasets`` keeps them once it has loaded them: Arrow streams."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from paper_repro.errors import UserError

__all__ = ["ArrowFile", "shards"]


def shards(folder: Path, split: str) -> list[Path]:
    """The files of a split in a folder with a ``dataset_info.json``, in order; none if none.

    Results of ``Dataset.map``, ``cache-<hash>.arrow``, are no part of the data set.

    Raises:
        UserError: they hold another number of rows than the info says.
    """
    info = folder / "dataset_info.json"
    if not info.is_file():
        return []
    name = re.compile(rf"(?!cache-).+-{re.escape(split)}(-\d{{5}}-of-\d{{5}})?\.arrow", re.ASCII)
    found = sorted(path for path in folder.glob("*.arrow") if name.fullmatch(path.name))
    try:
        said = json.loads(info.read_text(encoding="utf-8"))["splits"].get(split)
        wanted = None if said is None else int(said["num_examples"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{info} is damaged or describes no splits: {error}") from error
    if wanted is None and not found:
        return []
    rows = sum(_rows(file) for file in found)
    if rows != wanted:
        raise UserError(
            f"{folder} has {rows} rows of {split}, and its dataset_info.json says {wanted}: the "
            "copy is incomplete"
        )
    return found


def _rows(file: Path) -> int:
    import pyarrow as pa

    try:
        return ArrowFile(file).rows()
    except (pa.ArrowException, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file} is damaged or is no Arrow stream: {first}") from error


class ArrowFile:
    """A stream of record batches, read as :class:`pyarrow.parquet.ParquetFile` is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def schema_arrow(self) -> Any:
        with self._opened() as stream:
            return stream.schema

    def iter_batches(self, batch_size: int, columns: Sequence[str]) -> Iterator[Any]:
        """Batches of at most ``batch_size`` rows with those columns."""
        with self._opened() as stream:
            for batch in stream:
                for start in range(0, len(batch), batch_size):
                    yield batch.select(columns).slice(start, batch_size)

    def rows(self) -> int:
        """How many there are."""
        with self._opened() as stream:
            return sum(len(batch) for batch in stream)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        import pyarrow as pa

        with pa.memory_map(str(self.path)) as source, pa.ipc.open_stream(source) as stream:
            yield stream
