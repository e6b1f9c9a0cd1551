"""Progress bars that suit a terminal and do not flood a log file."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO

from tqdm import tqdm

__all__ = ["bar", "mend_output"]

_LOG_INTERVAL = 20.0  # seconds


def bar(**options: Any) -> tqdm:
    """A ``tqdm`` bar on standard error: live on a terminal, a line every 20 seconds elsewhere."""
    if sys.stderr.isatty():
        return tqdm(dynamic_ncols=True, **options)
    # miniters: left to itself tqdm would adapt it, and a thread would print against mininterval.
    quiet = {"mininterval": _LOG_INTERVAL, "miniters": 1, "ncols": 100, "ascii": True}
    return tqdm(file=_Lines(sys.stderr), **{**quiet, **options})


def mend_output() -> None:
    """Let printing never fail for what the output is: closed, or without room for "–" or "ρ"."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed when Python started (`>&-`)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


class _Lines:
    """A text stream on which each state of a bar is a line of its own, not an overwritten one."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.last = ""

    def write(self, text: str) -> int:
        line = text.strip("\r\n ")
        if line and line != self.last:
            self.last = line
            self.stream.write(line + "\n")
        return len(text)

    def flush(self) -> None:
        self.stream.flush()
