"""From the command line to where and how runs are executed."""

from __future__ import annotations

import argparse

import torch

from paper_repro.engine import ENGINES
from paper_repro.errors import UserError
from paper_repro.experiment.workplace import Workplace
from paper_repro.train.ranks import launched, local_device
from paper_repro.train.threads import set_threads

__all__ = ["place_of"]


def place_of(options: argparse.Namespace) -> Workplace:
    """The workplace that the options ask for, with its folders made and its device tried.

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
    return Workplace(
        data=data,
        runs=options.runs,
        results=options.results,
        device=_device(getattr(options, "device", "cpu")),
        compile=getattr(options, "compile", False),
        diagnostics=getattr(options, "diagnostics", False),
        graph=getattr(options, "graph", False),
        engine=_engine(getattr(options, "engine", "auto")),
        workers=_workers(getattr(options, "workers", None)),
        skip_broken=getattr(options, "skip_broken", False),
    )


def _workers(count: int | None) -> int | None:
    if count is not None and count < 0:
        raise UserError(f"workers must be at least 0, not {count}")
    return count


def _engine(name: str) -> str:
    if name not in ENGINES:
        raise UserError(f"unknown engine {name!r}; known are {', '.join(ENGINES)}")
    return name


def _device(name: str) -> str:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and launched() > 1:  # each process has its own
        name = f"cuda:{local_device()}"
    try:
        torch.zeros(1, device=name).item()  # reading it back rules out devices without data
    except Exception as error:  # torch has many ways to say no
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"the device {name!r} cannot be used: {first}") from error
    return name
