"""Files that are there whole or not at all, and folders that one process works in at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import io
import json
import math
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch

from paper_repro.errors import UserError

__all__ = [
    "Busy",
    "check_target",
    "clear_leftovers",
    "exclusive",
    "finite",
    "lacks_memory",
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
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename is None:  # as that of a write is
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have a file's new name outlast a power cut, where the file system can promise that."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some refuse it; the file itself is whole by now
            os.fsync(handle)
    finally:
        os.close(handle)


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
    """``torch.save`` to ``path`` atomically; the same values make the same bytes.

    They are all in memory before the first is written: what a signal's handler raises inside of a
    write would not come out of torch, and may end the process.
    """
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with _replacing(path) as temporary, temporary.open("wb") as file:
        file.write(buffer.getbuffer())


def load_tensors(path: Path, device: torch.device | str = "cpu") -> Any:
    """What :func:`save_tensors` wrote; tensors and plain values only.

    Raises:
        UserError: the file is damaged, or there is too little memory for it.
        OSError: it is not there, or cannot be read now.
    """
    try:
        value = _whole(path)
        if torch.device(device).type != "cpu":
            # Only what is sound goes to the device, whose errors say nothing of the file.
            del value
            value = _read(path, device)
        return value
    except OSError as error:
        if error.filename is None:  # as that of a read is
            error.filename = str(path)
        raise
    except Exception as error:
        if lacks_memory(error):
            raise UserError(f"there is too little memory to load {path}") from error
        raise


def _whole(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not compare checksums
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
        return _read(path, "cpu")
    except Exception as error:  # a damaged file raises any of a dozen kinds
        # A damaged offset can send zipfile to before the file's beginning, which is an EINVAL.
        astray = isinstance(error, OSError) and error.errno == errno.EINVAL
        if (isinstance(error, OSError) and not astray) or lacks_memory(error):
            raise
        raise UserError(
            f"{path} is damaged ({type(error).__name__}); delete it to train that run afresh"
        ) from error


def _read(path: Path, device: torch.device | str) -> Any:
    return torch.load(path, map_location=device, weights_only=True)


def lacks_memory(error: Exception) -> bool:
    """Whether an error is a want of memory, for which torch has no one kind."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "DefaultCPUAllocator" in str(error)


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


#: Files of the locks that this process has.
_held: set[IO[str]] = set()


def _let_go() -> None:
    """Close, in a process just forked, its parent's locks, which would outlive the parent else."""
    for file in _held:
        file.close()
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Work in ``folder`` alone; the lock ends with the process, however it ends.

    Processes forked inside do not have it.

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
        _held.add(file)
        try:
            file.truncate(0)
            # Where a folder is shared by a cluster, the machine is told too.
            node = os.environ.get("SLURMD_NODENAME")
            file.write(f"pid {os.getpid()}" + (f" on {node}" if node else ""))
            file.flush()
            clear_leftovers(folder)
            yield
        finally:
            if file in _held:  # or this is a forked process, and the lock its parent's
                _held.discard(file)
                fcntl.flock(file, fcntl.LOCK_UN)


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
