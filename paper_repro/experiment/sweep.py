"""Many runs: those that are missing, parents first, trained by an executor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paper_repro.config import RunConfig
from paper_repro.experiment.executors import Executor, Local, Outcome
from paper_repro.experiment.runs import Workplace, prepare

__all__ = ["Outcome", "missing", "sweep"]


def missing(configs: Iterable[RunConfig], place: Workplace) -> list[RunConfig]:
    """The runs without a record, each once, and the parents they need, parents first."""
    records = place.records
    ordered: dict[str, RunConfig] = {}

    def add(config: RunConfig, for_child: bool) -> None:
        if config.fingerprint in ordered:
            return
        if records.done(config) and (not for_child or place.weights(config).exists()):
            return
        parent = config.parent()
        if parent is not None:
            add(parent, for_child=True)
        ordered[config.fingerprint] = config

    for config in configs:
        add(config, for_child=False)
    return list(ordered.values())


def sweep(
    configs: Sequence[RunConfig], place: Workplace, executor: Executor | None = None
) -> Outcome:
    """Train what is missing among ``configs``; a failure of one run does not stop the others.

    Args:
        configs: the runs wanted.
        place: where their records and checkpoints are.
        executor: what trains them; one process of this machine if none is named.

    Raises:
        UserError: data that is missing, or an executor that cannot start.
        KeyboardInterrupt: stopped by the user; finished epochs are kept.
    """
    todo = missing(configs, place)
    if not todo:
        return Outcome()
    prepare(todo, place)
    return (executor or Local()).train(todo, place)
