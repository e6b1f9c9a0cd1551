"""Files that are there whole or not at all, and folders that one process works in at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import math
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import torch

from paper_repro.errors import UserError

__all__ = [
    "Busy",
    "check_target",
    "clear_leftovers",
    "exclusive",
    "finite",
    "load_tensors",
    "lock",
    "save_tensors",
    "worker_in",
    "write_bytes",
    "write_json",
    "write_text",
]

_PATIENCE = 0.5  # seconds: for a process that is just dying, or that only looked who works there

#: What locking says on a file system without it.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Busy(UserError):
    """Another process works in the folder."""


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place, synced to disk, if all goes well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is None:  # as that of a write is
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def clear_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what a process that was killed while it wrote to ``folder`` left there.

    Args:
        folder: in which no other process writes that file now.
        name: of the file that was being written; None for any.
    """
    for leftover in folder.glob(f".{glob.escape(name) if name else '*'}.*.tmp"):
        leftover.unlink(missing_ok=True)


def check_target(path: Path, ours: Callable[[Path], bool], what: str, force: bool = False) -> None:
    """Whether a result may be written to ``path``, before anything is computed for it.

    Args:
        path: where to.
        ours: whether a regular file that is there is one of the kind that replaces it.
        what: the kind, in the words of the error message, e.g. ``an archive of records``.
        force: replace any regular file.

    Raises:
        UserError: something is there that is not ours, it is no regular file (a folder, a device,
            a link to one), or there is no such path.
    """
    try:
        if path.is_file():
            if not (force or ours(path)):
                raise UserError(
                    f"{path} exists and is not {what}; choose another name, or replace it with "
                    "--force"
                )
        elif path.exists() or path.is_symlink():
            raise UserError(f"{path} is no regular file, so nothing is written to it")
        else:
            # Neither a folder of that name asked for, nor a file in the way of one.
            for parent in path.absolute().parents:
                if parent.exists():
                    if not parent.is_dir():
                        raise UserError(f"{parent} is a file, not a folder")
                    break
    except (OSError, ValueError) as error:  # a name too long, a NUL in it
        raise UserError(f"{str(path)!r} cannot be written: {error}") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with _replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    with _replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON to ``path`` atomically; a number that is not finite is an error."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The same plain value with None for every number that is not finite, which JSON has not."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_tensors(path: Path, value: Any) -> None:
    """``torch.save`` to ``path`` atomically; the same values make the same bytes."""
    with _replacing(path) as temporary, temporary.open("wb") as file:
        noting = _Noting(file)
        try:
            # Given a path, torch would write its name into the archive.
            torch.save(value, cast(IO[bytes], noting))
        except Exception as error:
            if noting.failure is not None:  # a full disk, which torch has no word for
                raise noting.failure from error
            raise


class _Noting:
    """A file to write to that remembers why it could not."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self.file.flush()


def load_tensors(path: Path, device: torch.device | str = "cpu") -> Any:
    """What :func:`save_tensors` wrote; tensors and plain values only.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not compare checksums
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file raises any of a dozen kinds
        raise UserError(
            f"{path} is damaged ({type(error).__name__}); delete it to train that run afresh"
        ) from error


def lock(file: IO[str], operation: int) -> None:
    """``flock``, which ends with the process.

    Raises:
        UserError: the file system has no locks.
        BlockingIOError: another process has it, and ``operation`` is not to wait.
    """
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise UserError(
            f"the file system of {Path(file.name).parent} has no locks ({error.strerror}), so "
            "nothing would keep two processes from training one run; use another --runs"
        ) from error


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Work in ``folder`` alone; the lock ends with the process, however it ends.

    Raises:
        Busy: another process works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                file.seek(0)
                worker = file.read().strip() or "pid unknown"
                raise Busy(f"another process ({worker}) is training in {folder}") from None
        file.truncate(0)
        # Where a folder is shared by a cluster, the machine is told too.
        node = os.environ.get("SLURMD_NODENAME")
        file.write(f"pid {os.getpid()}" + (f" on {node}" if node else ""))
        file.flush()
        clear_leftovers(folder)
        yield


def worker_in(folder: Path) -> str | None:
    """Who works in ``folder`` now, as ``pid 123``, in a cluster ``pid 123 on node7``; else None."""
    try:
        with (folder / "lock").open() as file:
            try:
                lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "pid unknown"
    except FileNotFoundError:
        return None
    return None
