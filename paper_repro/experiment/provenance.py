"""Where a record comes from: the code, the versions and the machine behind it."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

__all__ = ["COMMIT", "code_in", "environment", "tree_id"]

#: Suffixes of all files that git tracks in the package.
_SOURCES = frozenset({".py", ".h", ".cpp", ".typed"})

#: The environment variable that names the commit of a copy without its repository.
COMMIT = "PAPER_REPRO_COMMIT"


def environment(device: torch.device) -> dict[str, Any]:
    """What a run runs on: code, versions, device.

    The code is that of the moment when this module was imported, with the rest of the package,
    however the files change while it runs. ``commit`` is the repository's, and ``dirty`` true if
    the package's code is not as in that commit, new files included. Of a copy without its
    repository ``commit`` is what the environment variable ``PAPER_REPRO_COMMIT`` says and ``dirty``
    is None. ``tree`` proves either: it is what ``git rev-parse COMMIT:paper_repro`` prints.
    """
    cuda = device.type == "cuda"
    return {
        **_CODE,
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # a plain string, as checkpoints can hold
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "device_type": device.type,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def tree_id(folder: Path) -> str:
    """The name that git gives to a folder of source files, computed without git.

    Sources are Python's and the kernels' C++. Other files, which git ignores in this package, and
    folders without sources are left out.
    """
    return _tree(folder).hex()


def _tree(folder: Path) -> bytes:
    entries = []
    for path in folder.iterdir():
        if path.is_dir():
            if any(inner.suffix in _SOURCES for inner in path.rglob("*")):
                # Git sorts a folder as if its name ended in a slash.
                entries.append((path.name + "/", b"40000", path.name, _tree(path)))
        elif path.suffix in _SOURCES:
            content = path.read_bytes()
            executable = os.access(path, os.X_OK)
            mode = b"100755" if executable else b"100644"
            entries.append((path.name, mode, path.name, _object(b"blob", content)))
    lines = (
        mode + b" " + name.encode() + b"\0" + digest for _, mode, name, digest in sorted(entries)
    )
    return _object(b"tree", b"".join(lines))


def _object(kind: bytes, content: bytes) -> bytes:
    header = kind + b" " + str(len(content)).encode() + b"\0"
    return hashlib.sha1(header + content, usedforsecurity=False).digest()


def code_in(package: Path, module: str) -> dict[str, Any]:
    """``commit``, ``dirty`` and ``tree`` of a package; ``module`` is a file's path in it."""
    tree = tree_id(package)
    # Installed among other packages, the code may lie inside a repository that is not its own.
    if _git(package, "ls-files", "--error-unmatch", module) is None:
        return {"commit": os.environ.get(COMMIT) or None, "dirty": None, "tree": tree}
    changes = _git(package, "status", "--porcelain", "--untracked-files=all", "--", ".")
    return {"commit": _git(package, "rev-parse", "HEAD"), "dirty": changes != "", "tree": tree}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        ran = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return ran.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


_PACKAGE = Path(__file__).resolve().parents[1]
_CODE = code_in(_PACKAGE, Path(__file__).resolve().relative_to(_PACKAGE).as_posix())
