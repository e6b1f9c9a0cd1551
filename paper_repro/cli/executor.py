"""Which executor trains a sweep, as the command line says."""

from __future__ import annotations

import argparse
import os
from typing import Any

from paper_repro.errors import UserError
from paper_repro.experiment.executors import Executor, Limits, Local, Slurm

__all__ = ["add_executor", "executor_of"]

#: Options of sweep that only jobs of a cluster have, with what they are where not given.
_OF_JOBS: dict[str, Any] = {
    **{"time": None, "memory": None, "cpus": None, "gpus": None, "partition": None},
    **{"account": None, "slurm": [], "detach": False},
}


def add_executor(sweep: argparse.ArgumentParser) -> None:
    """Add the arguments that choose an executor and limit what it may use."""
    sweep.add_argument(
        "--executor",
        choices=("local", "slurm"),
        default="local",
        help="processes of this machine, or jobs of a Slurm cluster, one a run",
    )
    sweep.add_argument(
        "--jobs", type=int, help="at once; local: one a core, one on a GPU; slurm: 100"
    )
    jobs = sweep.add_argument_group("what each job of --executor slurm may use")
    jobs.add_argument(
        "--time", help="its length, as Slurm writes it (4:00:00); a job that reaches it goes on"
    )
    jobs.add_argument("--memory", help="as 16G, else the cluster's default")
    jobs.add_argument("--cpus", type=int, help="and threads, else the profile's, else 1")
    jobs.add_argument("--gpus", type=int, help="none, if not given")
    jobs.add_argument("--partition", metavar="NAME", help="else the cluster's default")
    jobs.add_argument("--account", metavar="NAME", help="else the user's default")
    jobs.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other option of sbatch by its long name, may be repeated",
    )
    jobs.add_argument("--detach", action="store_true", help="submit, and do not wait for the jobs")


def executor_of(options: argparse.Namespace, device: str) -> Executor:
    """The executor that the options ask for.

    Raises:
        UserError: it cannot be used here, or options that do not go together.
    """
    if options.executor == "slurm":
        given = {
            name: value
            for name in ("time", "memory", "cpus", "gpus", "partition", "account", "jobs")
            if (value := getattr(options, name)) is not None
        }
        limits = Limits(**given, more=dict(_sbatch(text) for text in options.slurm))
        return Slurm(limits, wait=not options.detach)
    for name, absent in _OF_JOBS.items():
        if getattr(options, name) != absent:
            raise UserError(f"--{name} is of jobs of a cluster; add --executor slurm")
    if options.jobs is not None:
        return Local(options.jobs)
    return Local(1 if device != "cpu" else os.cpu_count() or 1)


def _sbatch(text: str) -> tuple[str, str | bool]:
    name, sign, value = text.removeprefix("--").partition("=")
    return name.replace("_", "-"), value if sign else True
