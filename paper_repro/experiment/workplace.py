"""Where and how runs are executed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.records import Records
from paper_repro.train.ranks import launched, local_device

__all__ = ["Workplace", "check_writable", "usable_device"]


@dataclass(frozen=True)
class Workplace:
    """Where and how runs are executed. None of it changes what a run is.

    Attributes:
        data: folder with the data sets; None for ``PAPER_REPRO_DATA`` and the user's cache.
        runs: folder for checkpoints, logs and trained weights, one folder a run.
        results: folder for records.
        device: to train on, e.g. ``cpu`` or ``cuda``.
        compile: use ``torch.compile``.
        diagnostics: measure perturbations and curvature after each epoch.
        graph: take steps by :class:`paper_repro.train.graph.GraphedStep` where possible.
        engine: what computes the steps: ``auto``, ``dense``, ``sparse`` or ``sparse-bf16``, see
            :class:`paper_repro.train.Trainer`.
        workers: processes that decode streamed images, for each training process; None for as many
            as suit the device.
        skip_broken: do without streamed images that cannot be decoded; else they are an error.
    """

    data: Path | None = None
    runs: Path = Path("runs")
    results: Path = Path("results")
    device: str = "cpu"
    compile: bool = False
    diagnostics: bool = False
    graph: bool = False
    engine: str = "auto"
    workers: int | None = None
    skip_broken: bool = False

    @property
    def records(self) -> Records:
        return Records(self.results)

    def folder(self, config: RunConfig) -> Path:
        """A run's own folder."""
        return self.runs / config.fingerprint

    def weights(self, config: RunConfig) -> Path:
        """Where a finished run's trained network lies."""
        return self.folder(config) / "weights.pt"


def usable_device(name: str) -> str:
    """A device of this machine that can be trained on; ``auto`` is a GPU if there is one.

    The processor is ``cpu`` by any of its names: others compare with that one.

    Raises:
        UserError: there is no such device, or it cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and launched() > 1:  # each process has its own
        name = f"cuda:{local_device()}"
    try:
        if torch.device(name).type == "cpu":
            return "cpu"
        torch.zeros(1, device=name).item()  # reading it back rules out devices without data
    except Exception as error:  # torch has many ways to say no
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"the device {name!r} cannot be used: {first}") from error
    return name


def check_writable(folder: Path) -> None:
    """Whether files can be written to a folder, or to where it would be made, before any are.

    Raises:
        UserError: they cannot.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f"nothing can be written to {folder}: {error.strerror}") from error
