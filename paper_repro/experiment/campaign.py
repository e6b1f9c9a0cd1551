"""A campaign: as many missing records as fit into a given time, the most telling ones first."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from paper_repro import data as datasets
from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.packing import best, faster, measured
from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.runs import Workplace
from paper_repro.experiment.sweep import Outcome, missing, sweep
from paper_repro.sparse import METHODS

__all__ = ["STAGES", "Campaign", "Report", "Stage", "plan"]

_WINDOW = 20.0  # seconds to measure each number of processes for, if the time allows
_MEASURING = 0.15  # of the campaign at most


@dataclass(frozen=True)
class Stage:
    """A part of a table's runs that is trained before the next stage begins.

    Attributes:
        table: its name; a stage of a table that does not exist is passed over.
        dataset: the paper's name of it; None for all.
        first: only the first seed.
    """

    table: str
    dataset: str | None = None
    first: bool = False


#: What the paper's claims need most comes first. Whatever other tables need comes after these.
STAGES = (
    Stage("ablation-sweep"),
    Stage("table1", "cifar10", first=True),
    Stage("table1", "cifar10"),
    Stage("ablation-released"),
    Stage("ablation-sam"),
    Stage("ablation-lrr"),
    Stage("ablation-ratio"),
    Stage("table1", "cifar100"),
)


def plan(
    tables: Mapping[str, Iterable[RunConfig]], size: Profile, stages: Sequence[Stage] = STAGES
) -> list[RunConfig]:
    """Every run of every table at one profile, each once, in the order to train them.

    Within a stage all runs of one seed come before the next seed's, so that a campaign that is
    cut short has whole comparisons; and single runs before pruning chains, a cell of which costs
    as many runs as it has rounds.

    Args:
        tables: the runs that each table wants at this size, by its name.
        size: their profile.
        stages: what comes first.
    """
    wants = {name: list(runs) for name, runs in tables.items()}
    others = tuple(Stage(name) for name in wants)
    ordered: dict[str, RunConfig] = {}
    for stage in (*stages, *others):
        wanted = [c for c in wants.get(stage.table, []) if _belongs(c, stage, size)]
        wanted.sort(key=lambda c: (size.rank(c), c.parent() is not None))
        for config in wanted:
            ordered.setdefault(config.fingerprint, config)
    return list(ordered.values())


def _belongs(config: RunConfig, stage: Stage, size: Profile) -> bool:
    if stage.dataset is not None and config.dataset != size.datasets.get(stage.dataset):
        return False
    return not stage.first or config.seed == size.seeds[0]


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
    """

    def __init__(self, wanted: Sequence[RunConfig], place: Workplace) -> None:
        self.started = time.monotonic()
        self.place = place
        usable, self.unusable = _with_data(wanted, place)
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
        outcome = sweep(self.wanted, self.place, jobs, deadline=self.started + seconds)
        length = {c.fingerprint: c.epochs for c in self.todo}
        runs = sum(n / length[name] for name, n in outcome.epochs.items() if name in length)
        left = len(missing(self.wanted, self.place))
        return Report(outcome, runs, time.monotonic() - self.started, left)


def _typical(todo: Sequence[RunConfig]) -> RunConfig:
    """A run to measure speed with: the first that needs no other run's weights to start from."""
    alone = (config for config in todo if config.parent() is None)
    return next(alone, replace(todo[0], method=METHODS.spec("dense")))


def _with_data(
    wanted: Iterable[RunConfig], place: Workplace
) -> tuple[list[RunConfig], dict[str, str]]:
    """The runs whose data set is there, and why the other data sets are not."""
    problems: dict[str, str] = {}
    usable = []
    seen: set[str] = set()
    for config in wanted:
        if config.dataset not in seen:
            seen.add(config.dataset)
            try:
                datasets.load(config.dataset, root=place.data, cache=place.runs / "cache")
            except UserError as error:
                problems[config.dataset] = str(error)
        if config.dataset not in problems:
            usable.append(config)
    if problems and not usable:
        raise UserError(next(iter(problems.values())))
    return usable, problems
