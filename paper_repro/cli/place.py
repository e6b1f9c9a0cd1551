"""From the command line to where and how runs are executed."""

from __future__ import annotations

import argparse
from pathlib import Path

from paper_repro.engine import ENGINES
from paper_repro.errors import UserError
from paper_repro.experiment.profiles import PROFILES
from paper_repro.experiment.workplace import Workplace, check_writable, usable_device
from paper_repro.train.threads import set_threads

__all__ = ["place_of"]


def place_of(options: argparse.Namespace, elsewhere: bool = False) -> Workplace:
    """The workplace that the options ask for, with its folders made and its device tried.

    Args:
        options: the command line's.
        elsewhere: other machines train there; the device is theirs, and not tried here.

    Raises:
        UserError: a folder, a device or a number that will not do.
    """
    threads = getattr(options, "threads", None)
    if threads is not None:
        set_threads(threads)
    data = getattr(options, "data", None)
    if data is not None and not data.is_dir():
        raise UserError(f"the data folder {data} does not exist or is no folder")
    for folder in (options.runs, options.results):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file, not a folder")
        if hasattr(options, "device"):  # before training, not after it
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"the folder {folder} cannot be made: {error.strerror}") from error
            check_writable(folder)
    if hasattr(options, "device"):
        check_writable(_of_profile(options))
    device = options.device if elsewhere else usable_device(getattr(options, "device", "cpu"))
    graph = getattr(options, "graph", False)
    if graph and device == "cpu":
        raise UserError("--graph replays steps on a GPU, and this trains on the CPU")
    return Workplace(
        data=data,
        runs=options.runs,
        results=options.results,
        device=device,
        compile=getattr(options, "compile", False),
        diagnostics=getattr(options, "diagnostics", False),
        graph=graph,
        engine=_engine(getattr(options, "engine", "auto")),
        workers=_workers(getattr(options, "workers", None)),
        skip_broken=getattr(options, "skip_broken", False),
    )


def _of_profile(options: argparse.Namespace) -> Path:
    """Where the records of the profile asked for are written."""
    folder: Path = options.results
    size = PROFILES.get(options.profile)
    return folder if size is None else folder / (size.runs_as or size.name)


def _workers(count: int | None) -> int | None:
    if count is not None and count < 0:
        raise UserError(f"workers must be at least 0, not {count}")
    return count


def _engine(name: str) -> str:
    if name not in ENGINES:
        raise UserError(f"unknown engine {name!r}; known are {', '.join(ENGINES)}")
    return name
