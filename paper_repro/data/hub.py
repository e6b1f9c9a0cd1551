"""Data sets where the Hugging Face hub's own libraries keep them.

``huggingface_hub`` keeps a repository as ``hub/datasets--<owner>--<name>``: files under the names
of the repository in ``snapshots/<commit>/``, each a link to a blob, and the commit of the branch
``main`` in ``refs/main``. ``datasets`` keeps what it loaded as Arrow streams, in
``datasets/<owner>___<name>/<configuration>/<version>/<hash>/`` with a ``dataset_info.json``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from paper_repro.errors import UserError

__all__ = ["copies", "own"]

_log = logging.getLogger(__name__)
_Found = TypeVar("_Found")


def copies(
    folder: Path | None, repositories: Sequence[str], configurations: Sequence[str] = ()
) -> Iterator[Path]:
    """The folders that may hold a data set's shards, for :func:`paper_repro.data.parquet.shards`.

    Args:
        folder: a cache of either library, or the folder of both; None for the user's
            (``HF_HUB_CACHE``, ``HF_DATASETS_CACHE``, ``HF_HOME``, ``~/.cache/huggingface``).
        repositories: as ``uoft-cs/cifar10``, the best first; ``*/name`` is anybody's.
        configurations: which of a repository with several, all equally good.

    Raises:
        UserError: a repository with several snapshots, none of which is that of ``main``.
    """
    hubs, loaded = ([folder / "hub", folder], [folder / "datasets", folder]) if folder else _own()
    for repository in repositories:
        for hub in hubs:
            for kept in sorted(hub.glob("datasets--" + repository.replace("/", "--"))):
                snapshot = _snapshot(kept)
                if snapshot is not None:
                    yield from (snapshot / inner for inner in (*configurations, "data", ""))
        for cache in loaded:
            of = cache.glob(f"{repository.replace('/', '___')}/*/*/*/dataset_info.json")
            found = [info for info in of if _configured(info, configurations)]
            # Of several versions the one loaded last.
            for info in sorted(found, key=lambda path: (-path.stat().st_mtime_ns, str(path))):
                yield info.parent


def own(
    read: Callable[[Path], _Found | None],
    repositories: Sequence[str],
    configurations: Sequence[str] = (),
) -> _Found | None:
    """What ``read`` finds in the user's caches, which nobody named; None if it finds nothing there.

    What is damaged or unclear there is no reason not to look elsewhere: it is logged and passed.
    """
    for repository in repositories:
        try:
            for folder in copies(None, [repository], configurations):
                if (found := read(folder)) is not None:
                    return found
        except UserError as error:
            _log.warning("passed over: %s", error)
    return None


def _own() -> tuple[list[Path], list[Path]]:
    """The user's caches of the two libraries, as these find them."""
    above = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = Path(os.environ.get("HF_HOME") or Path(above) / "huggingface").expanduser()
    hub = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    loaded = os.environ.get("HF_DATASETS_CACHE")
    return (
        [Path(hub).expanduser() if hub else home / "hub"],
        [Path(loaded).expanduser() if loaded else home / "datasets"],
    )


def _snapshot(repository: Path) -> Path | None:
    """The folder of the branch main, or of the only commit that is there."""
    # Some hold no more than a card that somebody looked at.
    whole = (path for path in repository.glob("snapshots/*") if any(path.rglob("*.parquet")))
    there = sorted(whole)
    try:
        main = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError):
        main = ""
    for path in there:
        if path.name == main:
            return path
    if len(there) > 1:
        raise UserError(
            f"{repository} holds {len(there)} snapshots and none of them is that of refs/main; "
            "give the folder of one as --data or PAPER_REPRO_DATA"
        )
    return there[0] if there else None


def _configured(info: Path, configurations: Sequence[str]) -> bool:
    """Whether a folder of ``datasets`` is whole and of one of the configurations."""
    if info.parent.name.endswith(".incomplete"):
        return False
    name = info.parents[2].name
    # Configurations made on the fly are named default-<hash>.
    known = (*configurations, "default")
    return any(name == one or name.startswith(one + "-") for one in known)
