"""The Slurm executor: array jobs through submitit, one run a job, that survive preemption."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shlex
import shutil
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from paper_repro.config import RunConfig
from paper_repro.data.cache import given_folder, locked
from paper_repro.errors import UserError
from paper_repro.experiment.executors import queue
from paper_repro.experiment.executors.base import Outcome
from paper_repro.experiment.executors.job import Job
from paper_repro.experiment.executors.limits import Limits, minutes
from paper_repro.experiment.profiles import PROFILES
from paper_repro.experiment.runs import done
from paper_repro.experiment.workplace import Workplace
from paper_repro.files import write_json
from paper_repro.progress import bar

__all__ = ["Slurm"]

_ARRAY = 1000  # jobs of one array; Slurm's own default limit is 1001
_ABSENT = 90.0  # seconds without a word of a job; NFS may keep back for 60 what it wrote at its end
_SILENT = 300.0  # seconds without an answer of Slurm's, after which that is said
_FOR_EVER = 10**6  # time limits that a job may reach; Job itself judges whether it gets anywhere


@dataclass(frozen=True)
class Slurm:
    """Jobs of a Slurm cluster whose nodes share this machine's folders and Python.

    Each run is one job. What another sweep has submitted for these runs is waited for and not
    submitted again, so sweeps may overlap; and whatever trains a run holds its lock.

    Attributes:
        limits: what each job may use.
        wait: until the jobs end; else they are left alone once submitted.

    Raises:
        UserError: submitit is not installed, or this machine submits no jobs.
    """

    limits: Limits = field(default_factory=Limits)
    wait: bool = True

    def __post_init__(self) -> None:
        if importlib.util.find_spec("submitit") is None:
            raise UserError(
                'the slurm executor needs submitit, which pip install "paper-repro[slurm]" brings'
            )
        for command in ("sbatch", "srun", "squeue"):
            if shutil.which(command) is None:
                raise UserError(
                    f"there is no {command} here: jobs are submitted where Slurm is installed, "
                    "e.g. on a cluster's login node"
                )

    def train(self, todo: Sequence[RunConfig], place: Workplace) -> Outcome:
        place = _absolute(place)
        folder = place.runs / "slurm"
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock"):  # so that two sweeps at once submit nothing twice
            jobs = self._under_way(todo, place)
            found = len(jobs)
            try:
                self._submit(todo, place, jobs)
            except UserError as error:
                raise _with_submitted(error, list(jobs.values())[found:]) from error
            except KeyboardInterrupt:
                _say_they_go_on(jobs.values())
                raise
        new = _arrays(list(jobs.values())[found:])
        if found:
            tqdm.write(
                f"{found} of {len(jobs)} runs have jobs already, which are left to train them."
            )
        if new:
            count = f"{len(jobs) - found} of {len(jobs)}"
            tqdm.write(f"{count} runs submitted as jobs {', '.join(new)}; logs: {folder}")
        if not self.wait:
            return Outcome(submitted=list(jobs))
        try:
            return _Watch(todo, place, jobs).outcome()
        except KeyboardInterrupt:
            _say_they_go_on(jobs.values())
            raise

    def _under_way(self, todo: Iterable[RunConfig], place: Workplace) -> dict[str, str]:
        """The jobs that have been submitted for runs and have not ended, by fingerprint."""
        there = queue.states()
        if there is None:
            raise UserError("Slurm does not answer: squeue fails; is its controller up?")
        noted: dict[str, str] = {}
        for array in _arrays(there):
            noted.update(_noted(_note(place, array)))
        names = (c.fingerprint for c in todo)
        return {name: noted[name] for name in names if noted.get(name) in there}

    def _submit(self, todo: Sequence[RunConfig], place: Workplace, jobs: dict[str, str]) -> None:
        """Submit what has no job yet, parents before their children; adds to ``jobs``."""
        needed = {parent.fingerprint for c in todo if (parent := c.parent()) is not None}
        wanted = {c.fingerprint for c in todo}
        theirs = dict(jobs)  # of another sweep's array only the one job is waited for
        waves: dict[int, list[RunConfig]] = {}
        for config in todo:
            if config.fingerprint not in jobs:
                waves.setdefault(_depth(config, wanted), []).append(config)
        for _, wave in sorted(waves.items()):
            before: set[str] = set()
            for start in range(0, len(wave), _ARRAY):
                part = wave[start : start + _ARRAY]
                parents = (c.parent() for c in part)
                after = before | {
                    theirs.get(p.fingerprint) or jobs[p.fingerprint].split("_")[0]
                    for p in parents
                    if p is not None and p.fingerprint in jobs
                }
                made = [self._job(c, place, needed) for c in part]
                with _undivided():  # jobs that are not noted would be submitted again
                    ids = self._array(made, place, after)
                    new = dict(zip((c.fingerprint for c in part), ids, strict=True))
                    jobs.update(new)
                    (array,) = _arrays(ids)
                    write_json(_note(place, array), new)
                before = {array}  # or more than `jobs` would be at work at once

    def _job(self, config: RunConfig, place: Workplace, needed: set[str]) -> Job:
        return Job(
            config=config,
            place=replace(place, device=self._device(place)),
            need_weights=config.fingerprint in needed,
            threads=min(self._cpus(config), _threads(config) or sys.maxsize),
            seconds=60.0 * minutes(self.limits.time),
        )

    def _device(self, place: Workplace) -> str:
        """Chosen by what is asked for, and not by what the machine has that submits the jobs."""
        return place.device if place.device != "auto" else "cuda" if self.limits.any_gpu else "cpu"

    def _cpus(self, config: RunConfig) -> int:
        return self.limits.cpus or _threads(config) or 1

    def _array(self, jobs: list[Job], place: Workplace, after: set[str]) -> list[str]:
        """Submit an array of jobs (one alone as a plain job); their ids."""
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        cpus = max(self._cpus(job.config) for job in jobs)
        length = minutes(self.limits.time)
        executor = submitit.SlurmExecutor(place.runs / "slurm", max_num_timeout=_FOR_EVER)
        more = {**self.limits.sbatch(), "requeue": True}
        if after:  # whether they succeed or not: a job says best itself that its parent failed
            more["dependency"] = "afterany:" + ":".join(sorted(after))
        try:
            executor.update_parameters(
                job_name=queue.NAME,
                time=length,
                cpus_per_task=cpus,
                array_parallelism=self.limits.jobs,
                # In time for a job of a few minutes too.
                signal_delay_s=min(90, 15 * length),
                # Since Slurm 22.05 a step no longer takes over the cpus of its job.
                srun_args=[f"--cpus-per-task={cpus}"],
                setup=_setup(),
                additional_parameters=more,
            )
            with contextlib.redirect_stdout(sys.stderr):
                return [job.job_id for job in executor.submit_array(jobs)]
        except (FailedJobError, FailedSubmissionError) as error:
            lines = [line for line in str(error).splitlines() if line.startswith("sbatch: ")]
            why = (lines or str(error).splitlines() or [""])[-1]
            raise UserError(f"the jobs cannot be submitted: {why}") from error


class _Watch:
    """Jobs under way, looked at now and then until each has ended."""

    def __init__(self, todo: Sequence[RunConfig], place: Workplace, jobs: dict[str, str]) -> None:
        self.place, self.jobs = place, jobs
        self.open = {c.fingerprint: c for c in todo}
        self.needed = {parent.fingerprint for c in todo if (parent := c.parent()) is not None}
        self.absent: dict[str, float] = {}  # since when
        self.held: set[str] = set()
        self.heard: float | None = time.monotonic()  # None once Slurm's silence has been told
        self.result = Outcome()

    def outcome(self) -> Outcome:
        began = time.monotonic()
        with bar(total=len(self.open), unit="run", desc="jobs") as shown:
            while True:
                there = queue.states()
                self._listen(there is not None)
                if there is not None:
                    self._tell_held(there)
                    for name in list(self.open):
                        if self.jobs[name] in there:
                            self.absent.pop(name, None)
                        elif self._ended(name):
                            shown.update()
                    running = sum(there.get(self.jobs[n]) == "RUNNING" for n in self.open)
                    shown.set_postfix_str(f"{running} running", refresh=False)
                if not self.open:
                    return self.result
                # Short sweeps are looked at often, long ones seldom.
                time.sleep(min(30.0, 1 + 0.05 * (time.monotonic() - began)))

    def _listen(self, answered: bool) -> None:
        """Say once if Slurm is silent for long."""
        now = time.monotonic()
        if answered:
            self.heard = now
        elif self.heard is not None and now - self.heard >= _SILENT:
            self.heard = None
            tqdm.write(f"Slurm has not answered for {_SILENT / 60:g} minutes.", file=sys.stderr)

    def _tell_held(self, there: Mapping[str, str]) -> None:
        """Say once of each job that it waits for somebody to release it."""
        held: dict[str, list[str]] = {}
        for job in (self.jobs[name] for name in self.open):
            state = there.get(job, "")
            if state.startswith("held") and job not in self.held:
                held.setdefault(state, []).append(job)
        for state, jobs in held.items():
            self.held.update(jobs)
            tqdm.write(
                f"{len(jobs)} of the jobs wait to be released ({state}); "
                f"`scontrol release {' '.join(_arrays(jobs))}` does that",
                file=sys.stderr,
            )

    def _ended(self, name: str) -> bool:
        """Whether it is known what became of a run whose job is no longer in the queue."""
        config, job = self.open[name], self.jobs[name]
        if done(config, self.place, need_weights=name in self.needed) is not None:
            self.result.trained.append(name)
        else:
            reason = self._reason(job)
            now = time.monotonic()
            # What it wrote on another machine may take a while to be seen.
            if not reason and now - self.absent.setdefault(name, now) < _ABSENT:
                return False
            log = f"see {self.place.runs / 'slurm' / job}_0_log.err"
            reason = reason or f"its job {job} left no record ({queue.ended_as(job)}); {log}"
            self.result.failed[name] = reason
            tqdm.write(f"failed: {config}: {reason}", file=sys.stderr)
        del self.open[name]
        return True

    def _reason(self, job: str) -> str:
        """What a job says of itself at its end; nothing if it could not."""
        import submitit

        path = submitit.core.utils.JobPaths(self.place.runs / "slurm", job_id=job).result_pickle
        if not path.exists():
            return ""
        try:
            status, said = submitit.core.utils.pickle_load(path)
        except (OSError, EOFError):
            return ""
        return str(said) if status == "success" else str(said).strip().splitlines()[-1]


@contextlib.contextmanager
def _undivided() -> Iterator[None]:
    """Ctrl-C comes at the block's end, to this process and those that it starts."""
    came: list[Any] = []
    ours = threading.current_thread() is threading.main_thread()
    # A terminal's Ctrl-C goes to Slurm's commands too, which inherit the mask, and here it may
    # come by way of another thread, which the mask is not of.
    before = signal.signal(signal.SIGINT, lambda *about: came.append(about)) if ours else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if ours:
            signal.signal(signal.SIGINT, before)
        if came and callable(before):
            before(*came[0])


def _arrays(jobs: Iterable[str]) -> list[str]:
    """The ids of the arrays that jobs are of, without those of their members."""
    return sorted({job.split("_")[0] for job in jobs}, key=int)


def _with_submitted(error: UserError, new: Sequence[str]) -> UserError:
    """An error that says of its sweep what was submitted before it."""
    if not new:
        return error
    what = "1 run was" if len(new) == 1 else f"{len(new)} runs were"
    return UserError(
        f"{error}; {what} submitted before that as jobs {', '.join(_arrays(new))}, and the same "
        "command goes on with the rest"
    )


def _say_they_go_on(jobs: Iterable[str]) -> None:
    if ids := " ".join(_arrays(jobs)):
        tqdm.write(f"The jobs go on without this command; `scancel {ids}` ends them.")


def _note(place: Workplace, array: str) -> Path:
    """The file that says which run each job of an array trains."""
    return place.runs / "slurm" / f"{array}_runs.json"


def _noted(path: Path) -> dict[str, str]:
    """The jobs of an array by the runs' fingerprints; none where the array is not from here."""
    try:
        noted = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _depth(config: RunConfig, wanted: set[str]) -> int:
    """How many of the runs wanted must be there before this one can start."""
    parent = config.parent()
    return 0 if parent is None or parent.fingerprint not in wanted else 1 + _depth(parent, wanted)


def _threads(config: RunConfig) -> int | None:
    return PROFILES[config.profile].threads if config.profile in PROFILES else None


def _absolute(place: Workplace) -> Workplace:
    """The same place for a process that starts in another folder, with another environment."""
    data = given_folder(place.data)
    return replace(
        place,
        runs=place.runs.absolute(),
        results=place.results.absolute(),
        data=None if data is None else data.absolute(),
    )


def _setup() -> list[str]:
    """What a job's shell does first: find the same code, whatever folder it starts in."""
    root = Path(__file__).resolve().parents[3]
    if str(root) in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        return []
    return [f"export PYTHONPATH={shlex.quote(str(root))}${{PYTHONPATH:+:$PYTHONPATH}}"]
