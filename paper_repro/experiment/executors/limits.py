"""What the jobs of a cluster may use, checked before any is submitted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paper_repro.errors import UserError

__all__ = ["Limits", "minutes"]

#: Of sbatch, that the executor sets itself or has another option for.
_OURS = {
    **{"time": "--time", "partition": "--partition", "account": "--account"},
    **{"mem": "--memory", "cpus-per-task": "--cpus", "gpus-per-node": "--gpus"},
    **{name: None for name in ("array", "output", "error", "open-mode", "signal", "requeue")},
    **{name: None for name in ("no-requeue", "job-name", "chdir", "dependency", "nodes")},
    **{name: None for name in ("ntasks", "ntasks-per-node", "wrap", "wait", "parsable")},
}
_TIME = re.compile(r"(?:([0-9]{1,5})-)?([0-9]{1,7})(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?", re.ASCII)
_NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Limits:
    """What each job may use, and how many there are at once.

    Attributes:
        time: as Slurm writes it: minutes, ``hours:minutes:seconds``, ``days-hours``, ...; a job
            that reaches it is queued again and goes on.
        jobs: at once.
        cpus: of each; None for as many as the profile has threads, or one.
        gpus: of each.
        memory: of each, as ``16G``; None for the cluster's default.
        partition: None for the default.
        account: None for the user's.
        more: further options of ``sbatch`` by their long names; one without a value is True.
    """

    time: str = "4:00:00"
    jobs: int = 100
    cpus: int | None = None
    gpus: int = 0
    memory: str | None = None
    partition: str | None = None
    account: str | None = None
    more: Mapping[str, str | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        minutes(self.time)
        for name, number, least in (
            ("jobs", self.jobs, 1),
            ("cpus", self.cpus, 1),
            ("gpus", self.gpus, 0),
        ):
            if number is not None and number < least:
                raise UserError(f"{name} must be at least {least}, not {number}")
        if self.memory is not None and not re.fullmatch(r"[0-9]+[KMGT]?", self.memory):
            raise UserError(f"memory is written as 16G or 500M, not {self.memory!r}")
        for name, value in self.more.items():
            if not _NAME.fullmatch(name):
                raise UserError(f"an option of sbatch is written as qos=high, not {name!r}")
            if "\n" in str(value):
                raise UserError(f"the option {name} of sbatch is of one line")
            if name in _OURS:
                other = f"; use {_OURS[name]}" if _OURS[name] else ""
                raise UserError(f"the sweep sets the option {name} of sbatch itself{other}")

    @property
    def any_gpu(self) -> bool:
        """Whether jobs ask for a GPU, by whatever option."""
        return self.gpus > 0 or any(
            name.startswith("gpu")
            or (name.startswith(("gres", "tres-per-")) and "gpu" in str(value))
            for name, value in self.more.items()
        )

    def sbatch(self) -> dict[str, Any]:
        """As options of ``sbatch``, but for time and cpus."""
        named = {
            "partition": self.partition,
            "account": self.account,
            "mem": self.memory,
            "gpus-per-node": self.gpus or None,
        }
        return {**{k: v for k, v in named.items() if v is not None}, **self.more}


def minutes(time: str) -> int:
    """Whole minutes, rounded up, of a time as Slurm writes it.

    ``minutes``, ``minutes:seconds``, ``hours:minutes:seconds``, ``days-hours``,
    ``days-hours:minutes`` or ``days-hours:minutes:seconds``.

    Raises:
        UserError: it is none of these, or no time at all.
    """
    found = _TIME.fullmatch(time)
    if found is None:
        raise UserError(f"a time is written as 90, 4:00:00 or 1-12 (days-hours), not {time!r}")
    days, *given = found.groups()
    parts = [int(part) for part in given if part is not None]
    if days is not None:
        hours, mins, secs = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, mins, secs = parts
    else:
        hours, (mins, secs) = 0, [*parts, 0][:2]
    seconds = 86400 * int(days or 0) + 3600 * hours + 60 * mins + secs
    if seconds < 60:
        raise UserError(f"a job's time must be at least a minute, not {time}")
    return -(-seconds // 60)
