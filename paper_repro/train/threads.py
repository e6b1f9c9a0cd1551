"""How many processor threads torch computes with."""

from __future__ import annotations

import os

import torch

from paper_repro.errors import UserError

__all__ = ["set_threads", "share"]

#: So many threads for each core are of no use, and thousands end the process.
_PER_CORE = 8


def set_threads(threads: int) -> None:
    """Let torch compute with so many threads; their number can change a result's last bits.

    Raises:
        UserError: fewer than 1, or more than 8 for each core (at least 64).
    """
    most = max(64, _PER_CORE * (os.cpu_count() or 1))
    if threads < 1:
        raise UserError(f"threads must be at least 1, not {threads}")
    if threads > most:
        raise UserError(f"threads must be at most {most} here, not {threads}")
    torch.set_num_threads(threads)


def share(processes: int) -> int:
    """Threads for each of so many processes: its share of the cores, at least one.

    ``OMP_NUM_THREADS``, where it is a number, is the most. Threads that outnumber the cores left
    to them wait for each other: with two, beside another run on two cores, a run trained at less
    than half the speed that it has with one.
    """
    cores = max(1, (os.cpu_count() or 1) // processes)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdecimal() and int(asked) > 0 else cores
