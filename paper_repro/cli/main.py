"""The command line: run, sweep, measure, campaign, table, status, export, import."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from paper_repro.cli import arguments
from paper_repro.cli.campaign import run_campaign, run_export, run_import
from paper_repro.cli.executor import executor_of
from paper_repro.cli.measure import run_measure
from paper_repro.cli.place import place_of
from paper_repro.cli.run import run
from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.profiles import Profile, profile
from paper_repro.experiment.status import report
from paper_repro.experiment.sweep import missing, sweep
from paper_repro.experiment.workplace import Workplace
from paper_repro.optim import OPTIMIZERS
from paper_repro.progress import mend_output
from paper_repro.registry import Registry, Spec
from paper_repro.sparse import METHODS
from paper_repro.train.ranks import launched

if TYPE_CHECKING:
    from tables.base import Table

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 if a run failed, 2 for bad input."""
    mend_output()
    options = arguments.parser().parse_args(argv)
    try:
        if options.command != "run" and launched() > 1:
            raise UserError(f"several processes train one `run` together, but no {options.command}")
        status = _COMMANDS[options.command](options)
        sys.stdout.flush()  # here, where a reader that has gone away is no error
        return status
    except UserError as error:
        return _say(error, 2)
    except BrokenPipeError:  # `paper_repro table table1 | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a folder that cannot be written, a full disk
        where = f": {error.filename}" if error.filename else ""
        return _say(f"{error.strerror or error}{where}", 2)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        # Jobs of a cluster have not been stopped; the executor has said so.
        here = getattr(options, "executor", "local") == "local"
        goes_on = "goes on from the last finished epochs" if here else "waits for them again"
        return _say(f"stopped; the same command {goes_on}", 130)


def _say(sentence: object, status: int) -> int:
    print(f"paper_repro: {sentence}", file=sys.stderr)
    return status


def _sweep(options: argparse.Namespace) -> int:
    from tables.render.trained import about

    size, table = _with_seeds(options), _table(options)
    for registry, names in ((METHODS, options.methods), (OPTIMIZERS, options.optimizers)):
        for name in names:
            registry[name]
    _check_selection(table, options)
    place = place_of(options, elsewhere=options.executor != "local")
    wanted = sorted((c for c in table.runs() if _selected(c, options)), key=size.rank)
    executor = executor_of(options, place.device)
    if not wanted:
        raise UserError(f"no run of {options.table} fits that selection")
    todo = missing(wanted, place)
    if not size.evidence and not options.quiet:
        print(f"The {size.name} profile is not evidence: {about(table, size)}.")
    print(f"{options.table}, {size.name}: {len(wanted)} runs wanted, {len(todo)} to train.")
    sys.stdout.flush()
    outcome = sweep(wanted, place, executor)
    left = f", {len(outcome.submitted)} left to jobs" if outcome.submitted else ""
    print(f"{len(outcome.trained)} trained, {len(outcome.failed)} failed{left}.")
    return 1 if outcome.failed else 0


def _measure(options: argparse.Namespace) -> int:
    size, table = _with_seeds(options), _table(options) if options.table else None
    if options.threads is None:
        options.threads = size.threads
    given = dict(arguments.assignment(text) for text in options.option)
    return run_measure(options, place_of(options), size, given, table)


def _show_table(options: argparse.Namespace) -> int:
    from tables import render

    size, table, place = profile(options.profile), _table(options), place_of(options)
    if not place.results.is_dir():
        raise UserError(f"there is no folder of records {place.results}")
    if options.seeds:
        return _show_chosen(options, table, place)
    folder = place.results / size.name / "tables"
    paths = render.write(table, place.records, size, folder)
    print(paths[0].read_text(encoding="utf-8"))
    print("written: " + ", ".join(str(path) for path in paths))
    return 0


def _show_chosen(options: argparse.Namespace, table: Table, place: Workplace) -> int:
    """A table of chosen seeds, which must not take the place of the profile's own."""
    from tables import render
    from tables.base import Words

    words = any(isinstance(entry, Words) for row in table.rows for entry in row.entries)
    if not words and not any(table.runs()):
        raise UserError(f"{options.table} has no runs whose seeds --seeds could choose")
    print(render.markdown(table, place.records, _with_seeds(options)))
    print("not written: of chosen seeds")
    return 0


def _status(options: argparse.Namespace) -> int:
    try:
        tables = _tables()
    except UserError:  # installed without them
        tables = None
    text, damaged = report(place_of(options), tables)
    print(text)
    for sentence in damaged:
        _say(sentence, 2)
    return 2 if damaged else 0


def _campaign(options: argparse.Namespace) -> int:
    tables = _tables()
    from tables.verdicts.worth import questions

    return run_campaign(options, place_of(options), tables, questions)


def _tables() -> Registry:
    """The table definitions, which lie beside the package in a checkout."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / "tables" / "table1.py").exists():
        raise UserError(
            "the tables are part of the project's checkout, not of the installed package; "
            "clone the repository and run `python -m paper_repro` there"
        )
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    from tables import TABLES

    return TABLES


def _table(options: argparse.Namespace) -> Table:
    table: Table = _tables().build(Spec(options.table), profile=_with_seeds(options))
    return table


def _with_seeds(options: argparse.Namespace) -> Profile:
    size = profile(options.profile)
    seeds = getattr(options, "seeds", None)
    return replace(size, seeds=tuple(dict.fromkeys(seeds))) if seeds else size


def _check_selection(table: Table, options: argparse.Namespace) -> None:
    """Refuse what a selection names and the table has not, which would be left out unsaid."""
    runs = list(table.runs())
    if not runs:
        raise UserError(f"{options.table} wants no runs at the {options.profile} profile")
    for what, asked, there in (
        ("method", options.methods, {c.method.name for c in runs}),
        ("optimizer", options.optimizers, {c.optimizer.name for c in runs}),
        ("sparsity", options.sparsities, {c.sparsity for c in runs}),
    ):
        absent = [a for a in asked if not any(_same(a, b) for b in there)]
        if absent:
            raise UserError(
                f"no run of {options.table} at the {options.profile} profile has the {what} "
                + " or ".join(str(value) for value in absent)
            )


def _same(one: str | float, other: str | float) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < 1e-9
    return one == other


def _selected(config: RunConfig, options: argparse.Namespace) -> bool:
    return (
        (not options.methods or config.method.name in options.methods)
        and (not options.optimizers or config.optimizer.name in options.optimizers)
        and (not options.sparsities or any(_same(config.sparsity, s) for s in options.sparsities))
    )


_COMMANDS = {
    "run": run,
    "sweep": _sweep,
    "measure": _measure,
    "table": _show_table,
    "status": _status,
    "campaign": _campaign,
    "export": lambda options: run_export(options, place_of(options)),
    "import": lambda options: run_import(options, place_of(options)),
}
