"""What Slurm says of jobs: which of this user's are queued or running, and how one ended."""

from __future__ import annotations

import os
import re
import subprocess

__all__ = ["NAME", "ended_as", "states"]

#: How all jobs of ours are called, so that ids of another cluster are not taken for theirs.
NAME = "paper_repro"

_PATIENCE = 60  # seconds for a Slurm command


def states() -> dict[str, str] | None:
    """The state of each of this user's jobs named ``NAME`` that has not ended, e.g. ``RUNNING``.

    By the job's id, ``12`` or ``12_3`` for the third of an array. That of a job that waits for
    somebody to release it is ``held: `` and the reason. None where Slurm does not answer, as while
    its controller restarts.
    """
    out = _ask(
        *("squeue", "--noheader", "--array", f"--user={os.getuid()}", f"--name={NAME}"),
        "--format=%i|%T|%r",
    )
    if out is None:
        return None
    fields = (line.strip().split("|") for line in out.splitlines() if "|" in line)
    return {job: _state(state, *reason) for job, state, *reason in fields}


def _state(state: str, reason: str = "", *_: str) -> str:
    if state in ("SPECIAL_EXIT", "REQUEUE_HOLD") or "held" in reason.lower():
        return f"held: {state if reason in ('', 'None') else reason}"
    return state


def ended_as(job: str) -> str:
    """How a job ended, as ``CANCELLED``; ``ended`` where Slurm has forgotten it."""
    out = _ask("scontrol", "show", "job", "--oneliner", job)
    found = None if out is None else re.search(r"JobState=(\w+)", out)
    if found is None:  # gone from the controller after some minutes; the accounts may have it
        out = _ask(
            "sacct", "--noheader", "--parsable2", "--allocations", "--format=State", f"--jobs={job}"
        )
        found = None if out is None else re.search(r"([A-Z_]+)", out)
    return "ended" if found is None else found[1]


def _ask(*command: str) -> str | None:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_PATIENCE
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
