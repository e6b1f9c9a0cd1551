"""The local executor: parallel processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from tqdm import tqdm

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.executors.base import Outcome
from paper_repro.experiment.profiles import PROFILES
from paper_repro.experiment.runs import Workplace, attempt, done, record_failure
from paper_repro.files import worker_in
from paper_repro.progress import bar
from paper_repro.train.threads import share

__all__ = ["Local"]

_LOOK = 3600.0  # seconds; the longest wait, since the system's own has a limit
_STILLBORN = 3  # processes that end before they are ready, after which the sweep gives up


@dataclass(frozen=True)
class Local:
    """Processes of this machine.

    A run whose process dies (killed, out of memory) is tried once more, from its checkpoint.

    Attributes:
        jobs: processes at once; the processor's cores are divided among them.
        deadline: the time (``time.monotonic``) to stop at; runs under way then are cut off, and
            another sweep goes on with them.
    """

    jobs: int = 1
    deadline: float | None = None

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UserError(f"jobs must be at least 1, not {self.jobs}")

    def train(self, todo: Sequence[RunConfig], place: Workplace) -> Outcome:
        with bar(total=sum(c.epochs for c in todo), unit="epoch", desc="sweep") as shown:
            return _Sweep(list(todo), place, self.jobs, shown).run(self.deadline)


class _Sweep:
    """A sweep under way: what waits, what runs in which process, what came of the rest."""

    def __init__(self, todo: list[RunConfig], place: Workplace, jobs: int, shown: tqdm) -> None:
        self.waiting = todo
        self.place = place
        self.jobs = min(jobs, len(todo))
        self.shown = shown
        self.outcome = Outcome()
        self.parents = {c.fingerprint: parent for c in todo if (parent := c.parent()) is not None}
        self.needed = {parent.fingerprint for parent in self.parents.values()}
        # From the processes asked for, not from the runs left: a sweep that goes on after a stop
        # must train with as many threads as before to end bit-identical. A profile may know that
        # its networks are too small for more.
        limits = [PROFILES[c.profile].threads for c in todo if c.profile in PROFILES]
        self.threads = min([share(jobs), *(n for n in limits if n is not None)])
        self.workers: list[_Worker] = []
        self.died: dict[str, int] = {}
        self.stillborn = 0
        self.epochs: dict[str, int] = {}

    def run(self, deadline: float | None) -> Outcome:
        try:
            while True:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return self.outcome
                self._hand_out()
                busy = {w.connection: w for w in self.workers if w.config is not None}
                if not busy:
                    return self.outcome
                for connection in wait(list(busy), None if left is None else min(left, _LOOK)):
                    self._hear(busy[connection])  # type: ignore[index]
        finally:
            for worker in self.workers:  # all at once: leaving a GPU takes each of them a while
                worker.terminate()
            for worker in self.workers:
                worker.stop()

    def _hand_out(self) -> None:
        """Give every idle process a run whose parent is there, and start processes for more."""
        while (config := self._next()) is not None:
            worker = next((w for w in self.workers if w.config is None), None)
            if worker is None:
                if len(self.workers) == self.jobs:
                    return
                worker = _Worker(self.threads)
                self.workers.append(worker)
            self.waiting.remove(config)
            worker.give(config, self.place, need_weights=config.fingerprint in self.needed)

    def _next(self) -> RunConfig | None:
        """The first run that may start; those that can no longer start are given up."""
        pending = {c.fingerprint for c in self.waiting}
        pending |= {w.config.fingerprint for w in self.workers if w.config is not None}
        for config in list(self.waiting):
            parent = self.parents.get(config.fingerprint)
            if parent is None or parent.fingerprint not in pending | self.outcome.failed.keys():
                return config
            if parent.fingerprint in self.outcome.failed:
                if done(parent, self.place, need_weights=True) is not None:
                    return config  # another process had the parent, and has finished it since
                self.waiting.remove(config)
                pending.discard(config.fingerprint)
                self._orphan(config, parent)
        return None

    def _orphan(self, config: RunConfig, parent: RunConfig) -> None:
        """Give up a run whose parent is not there."""
        busy = worker_in(self.place.folder(parent)) is not None
        what = "another process trains" if busy else "failed"
        # A parent that is another process's has not failed, whatever an older record says of it;
        # nor has one without a record.
        recorded = busy or self.place.records.get(parent) is None
        self._give_up(config, f"it starts from {parent}, which {what}", recorded)

    def _hear(self, worker: _Worker) -> None:
        """Take in a message of a process, or its death."""
        config = worker.config
        assert config is not None
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker, config)
            return
        if message is None:
            worker.ready = True
        elif isinstance(message, tuple):
            self._show(*message)
        else:
            worker.config = None
            if message:
                self._give_up(config, message, recorded=True)
                if self.place.device != "cpu":  # an error can make the whole context unusable
                    self._dismiss(worker)
            else:
                self.outcome.trained.append(config.fingerprint)

    def _bury(self, worker: _Worker, config: RunConfig) -> None:
        self._dismiss(worker)
        if not worker.ready:
            self.stillborn += 1
            if self.stillborn == _STILLBORN:
                raise UserError(
                    "the sweep's processes end as soon as they start; a script that calls sweep() "
                    'must do so under `if __name__ == "__main__":`'
                )
            self.waiting.insert(0, config)
            return
        self.died[config.fingerprint] = self.died.get(config.fingerprint, 0) + 1
        if self.died[config.fingerprint] == 1:
            self.waiting.insert(0, config)
        else:
            code = worker.process.exitcode
            reason = f"its process died twice (exit code {code}): killed, or out of memory"
            self._give_up(config, reason, recorded=False)

    def _give_up(self, config: RunConfig, reason: str, recorded: bool) -> None:
        if not recorded:
            record_failure(config, self.place, reason)
        self.outcome.failed[config.fingerprint] = reason
        tqdm.write(f"failed: {config}: {reason}", file=sys.stderr)

    def _dismiss(self, worker: _Worker) -> None:
        worker.stop()
        self.workers.remove(worker)

    def _show(self, fingerprint: str, name: str, epoch: int) -> None:
        trained = self.outcome.epochs
        if fingerprint in self.epochs:
            new = max(0, epoch - self.epochs[fingerprint])
            trained[fingerprint] = trained.get(fingerprint, 0) + new
        before = self.epochs.get(fingerprint, 0)
        self.epochs[fingerprint] = max(epoch, before)
        self.shown.set_postfix_str(name, refresh=False)
        self.shown.update(max(0, epoch - before))


class _Worker:
    """A process of its own that trains one run after another."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, threads))
        self.config: RunConfig | None = None
        self.ready = False
        try:
            with _interrupts_held():
                self.process.start()
            theirs.close()
        except BaseException:  # Ctrl-C that was held: nobody else knows of the process yet
            if self.process.pid is not None:
                self.process.kill()
                self.process.join()
            raise

    def give(self, config: RunConfig, place: Workplace, need_weights: bool) -> None:
        """Let the process train a run."""
        self.config = config
        with contextlib.suppress(OSError):  # a process that died is noticed when it is heard
            self.connection.send((config, place, need_weights))

    def terminate(self) -> None:
        """Tell the process to end; :meth:`stop` waits for it."""
        self.process.terminate()

    def stop(self) -> None:
        """End the process, whatever it does: runs are written so that this loses an epoch."""
        self.terminate()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started inside never see Ctrl-C: it is the sweep's to stop them."""
    resource_tracker.ensure_running()  # whose start would end the block again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, threads: int) -> None:
    """Train the runs that come over the connection and answer with an error's text, or "".

    Progress goes out as (fingerprint, name, epochs finished), and None at first: ready.
    """
    torch.set_num_threads(threads)
    threading.Thread(target=_die_with_parent, daemon=True).start()

    def send(message: Any) -> None:
        try:
            connection.send(message)
        except OSError:  # nobody listens any more: that is no failure of the run
            os._exit(1)

    def progress(config: RunConfig, epoch: int) -> None:
        send((config.fingerprint, f"{config.method.name} {config.optimizer.name}", epoch))

    send(None)
    while True:
        try:
            config, place, need_weights = connection.recv()
        except EOFError:
            return
        send(attempt(config, place, progress, need_weights=need_weights))


def _die_with_parent() -> None:
    """End this process when the sweep's own ends, even by SIGKILL, so that no orphan trains on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
