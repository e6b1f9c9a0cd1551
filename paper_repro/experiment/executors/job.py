"""What a cluster's job does: it trains one run, however often it is stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.runs import attempt, record_failure
from paper_repro.experiment.workplace import Workplace, usable_device
from paper_repro.files import worker_in
from paper_repro.train.threads import set_threads

__all__ = ["Job"]

_IDLE = 3  # times in a row that a job may reach its time limit without having saved anything
_SLACK = 300.0  # seconds: Slurm warns up to 150 before the limit, and a job needs some to start
_LEASE = 180.0  # seconds after which a file server forgets the locks of a node that died


class _Stopped(BaseException):
    """The job cannot be queued again; that is no failure of its run."""


class _Hopeless(BaseException):
    """The job is not queued again since its run would get nowhere.

    Raised by a signal's handler, wherever the run is: no ``except Exception`` may take it for the
    fault of a picture or a file.
    """


@dataclass
class Job:
    """A run, trained by one job; submitit pickles it, calls it, and calls :meth:`checkpoint` when
    the job is preempted or reaches its time limit.

    There is nothing to save then: the run's own checkpoints are on disk, and the job's next start
    goes on from there.

    Attributes:
        config: the run.
        place: where, in absolute paths.
        need_weights: whether a pruning round will start from this run's weights.
        threads: that torch computes with.
        seconds: the job's time limit.
        idle: how often in a row that limit came before anything was saved.
    """

    config: RunConfig
    place: Workplace
    need_weights: bool
    threads: int
    seconds: float
    idle: int = 0

    def __call__(self) -> str:
        """Why there is no record, or nothing."""
        self.started = time.monotonic()
        self.before = self._saved()
        try:
            _tame_requeue()
            return self._train()
        except _Stopped as stopped:
            return str(stopped)
        except _Hopeless as hopeless:
            record_failure(self.config, self.place, str(hopeless))
            return str(hopeless)

    def _train(self) -> str:
        try:
            set_threads(self.threads)
            usable_device(self.place.device)
        except UserError as error:
            return str(error)
        for parent in _ancestors(self.config):
            record = self.place.records.get(parent)
            if record is not None and record.status == "failed":
                reason = f"it starts from {parent}, which failed"
                record_failure(self.config, self.place, reason)
                return reason
        if int(os.environ.get("SLURM_RESTART_COUNT") or 0):
            self._await_lock()
        return attempt(self.config, self.place, need_weights=self.need_weights)

    def checkpoint(self) -> Any:
        """The same job, to be queued again; submitit calls it in its signal's handler.

        Raises:
            UserError: the time limit is too short for the run to get anywhere, which the call
                that the signal interrupts records.
        """
        from submitit.helpers import DelayedSubmission

        # Of a limit of minutes the slack is not all: what is stopped at once was preempted.
        slack = min(_SLACK, 0.75 * self.seconds)
        timed_out = time.monotonic() - self.started >= self.seconds - slack
        saved = self._saved() != self.before
        idle = 0 if saved else self.idle + timed_out
        if idle >= _IDLE:
            raise UserError(
                f"its time limit of {self.seconds / 60:g} minutes came {idle} times before a first "
                "checkpoint; give it more --time"
            )
        again = replace(self, idle=idle)
        return DelayedSubmission(again)

    def _saved(self) -> list[tuple[str, int]]:
        """The checkpoints and weights of the run and those it starts from, with their times."""
        found = []
        for config in (self.config, *_ancestors(self.config)):
            folder = self.place.folder(config)
            for path in (folder / "checkpoint.pt", self.place.weights(config)):
                try:
                    found.append((str(path), path.stat().st_mtime_ns))
                except OSError:
                    continue
        return found

    def _await_lock(self) -> None:
        """Let the locks expire that this job's own former start may have left on a dead node."""
        until = self.started + _LEASE
        folder: Path = self.place.folder(self.config)
        while worker_in(folder) is not None and time.monotonic() < until:
            time.sleep(1)


def _ancestors(config: RunConfig) -> Iterator[RunConfig]:
    parent = config.parent()
    while parent is not None:
        yield parent
        parent = parent.parent()


def _tame_requeue() -> None:
    """See to it that what submitit's handler raises, in the middle of the training, reaches the
    job's call, and that a ``scontrol requeue`` that fails is not taken for a failure of the run."""
    name = "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")
    number = getattr(signal, name, None)
    theirs = None if number is None else signal.getsignal(number)
    if number is None or not callable(theirs):
        return

    def handler(signum: int, frame: Any) -> None:
        try:
            theirs(signum, frame)
        except UserError as error:
            raise _Hopeless(str(error)) from error
        except subprocess.CalledProcessError as error:
            if error.returncode < 0:  # the requeue worked, and ended its own command with the job
                raise SystemExit(-1) from error
            raise _Stopped(f"its job was stopped and not queued again: {error}") from error
        except Exception as error:
            raise _Stopped(f"its job was stopped and not queued again: {error}") from error

    signal.signal(number, handler)
