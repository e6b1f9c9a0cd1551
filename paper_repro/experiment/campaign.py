"""A campaign: as many missing records as fit into a given time, in the order of a plan."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from paper_repro import data as datasets
from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.executors import Local
from paper_repro.experiment.packing import best, faster, measured
from paper_repro.experiment.runs import Workplace
from paper_repro.experiment.sweep import Outcome, missing, sweep
from paper_repro.sparse import METHODS

__all__ = ["Campaign", "Report", "unusable_data"]

_WINDOW = 20.0  # seconds to measure each number of processes for, if the time allows
_MEASURING = 0.15  # of the campaign at most


@dataclass(frozen=True)
class Report:
    """What a campaign achieved.

    Attributes:
        outcome: by run.
        runs: the epochs trained, in whole runs: 1.5 is a run and half of another.
        seconds: that it took, start-up and measurements included.
        left: runs that still have no record.
    """

    outcome: Outcome
    runs: float
    seconds: float
    left: int

    @property
    def runs_per_hour(self) -> float:
        return 3600 * self.runs / self.seconds


class Campaign:
    """The runs to train, found once.

    Args:
        wanted: every run, the most important first.
        place: where.
        started: when the campaign's time began (``time.monotonic``), if not now.
    """

    def __init__(
        self, wanted: Sequence[RunConfig], place: Workplace, started: float | None = None
    ) -> None:
        self.started = time.monotonic() if started is None else started
        self.place = place
        self.unusable = unusable_data(wanted, place)
        usable = [config for config in wanted if config.dataset not in self.unusable]
        if self.unusable and not usable:
            raise UserError(next(iter(self.unusable.values())))
        records = place.records
        failed = {c.fingerprint for c in usable if (r := records.get(c)) and r.status == "failed"}
        # What failed before may fail again: it must not stand in the way of the others.
        usable.sort(key=lambda c: c.fingerprint in failed)
        self.wanted = usable
        self.todo = missing(usable, place)

    def jobs(self, seconds: float, given: int | None = None) -> tuple[int, Mapping[int, float]]:
        """The number of processes to use in a campaign of that length, and what was measured.

        On CUDA also finds out whether to replay steps; ``place.graph`` says so afterwards.

        Args:
            seconds: the campaign's length.
            given: the number of processes, if it is not to be measured.
        """
        window = min(_WINDOW, 0.02 * seconds)
        until = self.started + _MEASURING * seconds
        config = _typical(self.todo)
        self.place = faster(config, self.place, window, until)
        if given is not None:
            return given, {}
        rates = measured(config, self.place, window, until)
        return best(rates), rates

    def run(self, seconds: float, jobs: int) -> Report:
        """Train until ``seconds`` after the campaign's beginning at the latest.

        Runs that are cut off go on from their last checkpoint in the next campaign.
        """
        outcome = sweep(self.wanted, self.place, Local(jobs, self.started + seconds))
        length = {c.fingerprint: c.epochs for c in self.todo}
        runs = sum(n / length[name] for name, n in outcome.epochs.items() if name in length)
        left = len(missing(self.wanted, self.place))
        return Report(outcome, runs, time.monotonic() - self.started, left)


def _typical(todo: Sequence[RunConfig]) -> RunConfig:
    """A run to measure speed with: the first that needs no other run's weights to start from."""
    alone = (config for config in todo if config.parent() is None)
    return next(alone, replace(todo[0], method=METHODS.spec("dense")))


def unusable_data(wanted: Iterable[RunConfig], place: Workplace) -> dict[str, str]:
    """Why data sets that runs need cannot be used, by name; none where all can."""
    problems: dict[str, str] = {}
    for name in dict.fromkeys(config.dataset for config in wanted):
        try:
            datasets.load(name, root=place.data, cache=place.runs / "cache")
        except UserError as error:
            problems[name] = str(error)
    return problems
