"""What every executor does: it trains runs somewhere, and says what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from paper_repro.config import RunConfig
from paper_repro.experiment.workplace import Workplace

__all__ = ["Executor", "Outcome"]


@dataclass
class Outcome:
    """What became of a sweep's runs, by fingerprint.

    Attributes:
        trained: those that came to their end, and not by a failure.
        failed: why the others did not.
        epochs: trained in this sweep, also of runs that were cut off; of those trained by jobs of
            a cluster it is not known.
        submitted: runs left to jobs of a cluster that nobody waits for.
    """

    trained: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    submitted: list[str] = field(default_factory=list)


class Executor(Protocol):
    """Where the runs of a sweep are trained."""

    def train(self, todo: Sequence[RunConfig], place: Workplace) -> Outcome:
        """Train runs, each once and none before the run whose weights it starts from.

        A failure of one run stops none but those that start from it.

        Args:
            todo: runs without a record, parents before their children.
            place: whose folders to work in.
        """
