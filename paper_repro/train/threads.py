"""How many processor threads torch computes with."""

from __future__ import annotations

import os

import torch

from paper_repro.errors import UserError

__all__ = ["set_threads"]

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
