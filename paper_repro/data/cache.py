"""Decoded images on disk, so that 60,000 pictures are decompressed once and not once a run."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from paper_repro.errors import UserError
from paper_repro.files import lock

__all__ = ["cached", "cached_as", "given_folder", "key", "locked", "user_cache"]

_log = logging.getLogger(__name__)
_FORMAT = 1  # raise it whenever the decoded arrays of the same source would come out differently
_NAMES = "__names__"

Arrays = Mapping[str, np.ndarray]


def given_folder(root: Path | None) -> Path | None:
    """The folder with data that the user names: ``root``, else ``PAPER_REPRO_DATA``; None if none.

    Raises:
        UserError: it is no folder.
    """
    named = root or os.environ.get("PAPER_REPRO_DATA")
    given = Path(named).expanduser() if named else None
    if given is not None and not given.is_dir():
        origin = "" if root else " (from PAPER_REPRO_DATA)"
        raise UserError(f"the data folder {given}{origin} does not exist or is no folder")
    return given


def user_cache() -> Path:
    """``$XDG_CACHE_HOME/paper_repro``, or ``~/.cache/paper_repro``; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "paper_repro"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; it is dropped when its holder dies, too.

    Args:
        path: the lock's own file, in a folder that exists; it stays behind, empty.

    Raises:
        UserError: the file system has no locks.
    """
    with open(path, "a") as file:
        lock(file, fcntl.LOCK_EX)
        yield


def cached(
    name: str, sources: Sequence[Path], folder: Path, decode: Callable[[], Arrays]
) -> Arrays:
    """``decode()``, or what it gave last time for the same source files.

    Safe for any number of processes at once: the file appears whole or not at all, one process
    decodes while the others wait for it, and a file that is damaged (its checksums do not match)
    is made again. Where the folder cannot be written the arrays are simply decoded.

    Args:
        name: of the data set; the file is ``<name>-<key>.npz``.
        sources: the files that ``decode`` reads. Their names, sizes and times make the key.
        folder: where the file is kept; made if need be.
        decode: the slow way to the arrays.
    """
    return cached_as(folder / f"{name}-{key(name, sources)}.npz", decode)


def cached_as(path: Path, make: Callable[[], Arrays]) -> Arrays:
    """``make()``, or what it gave last time, under a name that says all of what it depends on.

    Safe in the ways of :func:`cached`.
    """
    found = _read(path)
    if found is not None:
        return found
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path.with_suffix(".lock")))
        except OSError as error:
            _log.warning("decoded images are not kept: %s", error)
            return make()
        found = _read(path)  # another process may have written it while this one waited
        if found is not None:
            return found
        arrays = make()
        try:
            _write(path, arrays)
        except OSError as error:
            _log.warning("decoded images are not kept: %s", error)
        return arrays


def key(name: str, sources: Sequence[Path]) -> str:
    """16 hex digits of what is made of a data set's source files: their names, sizes and times."""
    stamps = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sources]
    return hashlib.sha256(json.dumps([_FORMAT, name, stamps]).encode()).hexdigest()[:16]


def _read(path: Path) -> Arrays | None:
    try:
        # Reading a member to its end makes zipfile compare its checksum. The list of members has
        # none, hence the names beside them.
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if set(arrays.pop(_NAMES).tolist()) != set(arrays):
            raise ValueError("arrays are missing")
        return arrays
    except FileNotFoundError:
        return None
    except Exception as error:  # damaged bytes can raise nearly anything
        _log.warning("%s is damaged and is made again: %s", path, error)
        return None


def _write(path: Path, arrays: Arrays) -> None:
    # One fixed name: only the lock's holder writes, and it overwrites what a killed one left.
    partial = path.with_suffix(".partial")
    try:
        with open(partial, "wb") as file:
            np.savez(file, **{_NAMES: np.array(sorted(arrays))}, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
