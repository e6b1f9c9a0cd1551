"""The command line of measures of trained runs: measure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.measures import Measures
from paper_repro.experiment.measuring import find, measure
from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.runs import Workplace
from paper_repro.measure import MEASURES
from paper_repro.registry import Scalar, Spec

__all__ = ["add_command", "run_measure"]

Wanted = tuple[RunConfig, Spec]


def add_command(
    commands: Any, folders: argparse.ArgumentParser, sized: argparse.ArgumentParser
) -> None:
    """Add the command, with the arguments that it shares with others as parents."""
    one = commands.add_parser(
        "measure",
        parents=[folders, sized],
        help="measure trained runs",
        description="Measure runs by the weights they left, and write what is found beside their "
        "records. What is there is not measured again, what was stopped goes on. Trains nothing.",
        epilog="Examples: paper_repro measure sharpness --runs-of 0123456789abcdef --option "
        "rho=1; paper_repro measure --table table5 --profile smoke; paper_repro measure --table "
        "surfaces --profile cpu --seeds 1 --where-trained",
    )
    one.add_argument(
        "what",
        nargs="?",
        metavar="WHAT",
        help=f"one of {', '.join(MEASURES)}; left out, what the cells of --table read",
    )
    which = one.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--runs-of", nargs="+", default=[], metavar="FINGERPRINT", help="the runs to measure"
    )
    which.add_argument("--table", metavar="NAME", help="measure the runs of this table")
    one.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the measure, may be repeated",
    )
    one.add_argument("--seeds", nargs="+", type=int, help="not the profile's, with --table")
    one.add_argument(
        "--where-trained",
        action="store_true",
        help="leave out runs whose trained weights are not here, and say how many, instead of "
        "failing on them",
    )
    one.add_argument("--data", type=Path, help="data folder, else PAPER_REPRO_DATA")
    one.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... or auto")
    # No --workers as in training: a measure decodes what it needs in this process.
    one.add_argument(
        "--skip-broken", action="store_true", help="do without images that cannot be decoded"
    )
    one.add_argument("--threads", type=int, help="instead of the profile's")


def run_measure(
    options: argparse.Namespace,
    place: Workplace,
    profile: Profile,
    given: Mapping[str, Scalar],
    table: Any,
) -> int:
    """Measure what is asked for; exit status 0, or 1 if a run could not be measured.

    Args:
        options: of the command line.
        place: where runs, records and data are.
        profile: as on the command line.
        given: options of the measure.
        table: the table asked for (``tables.base.Table``); None if runs are named.
    """
    wanted = list(dict.fromkeys(_wanted(options, place, given, table)))
    measures = Measures(place.results)
    todo = [pair for pair in wanted if measures.get(*pair) is None]
    if not profile.evidence and table is not None:
        print(f"The {profile.name} profile is not evidence: {profile.about}.")
    if options.where_trained:
        here = [pair for pair in todo if _trained(pair[0], place)]
        left_out = f"; {len(todo) - len(here)} left out, whose networks are not trained here"
        todo = here
    else:
        left_out = ""
    print(f"{len(wanted)} measures wanted, {len(todo)} to make{left_out}.")
    sys.stdout.flush()
    failed = 0
    for number, (config, spec) in enumerate(todo, 1):
        print(f"{number} of {len(todo)}: {spec.name} of {config}")
        sys.stdout.flush()
        try:
            measure(config, spec, place)
        except UserError as error:
            if len(wanted) == 1:
                raise
            failed += 1
            print(f"paper_repro: {error}", file=sys.stderr)
    print(f"{len(todo) - failed} measured, {failed} could not be.")
    for config, spec in wanted if table is None else ():
        if (there := measures.get(config, spec)) is not None:
            print(f"{measures.path(config, spec)}: {_shown(there.values)}")
    return 1 if failed else 0


def _wanted(
    options: argparse.Namespace, place: Workplace, given: Mapping[str, Scalar], table: Any
) -> Iterable[Wanted]:
    if options.what is None:
        if table is None:
            raise UserError(f"say what is to be measured: {', '.join(MEASURES)}")
        if given:
            raise UserError("--option belongs to a measure; name one")
        found = list(table.measures())
        if not found:
            raise UserError(f"no cell of {options.table} reads a measure; name one")
        return found
    spec = MEASURES.spec(options.what, **given)
    runs = table.runs() if table is not None else (find(f, place) for f in options.runs_of)
    return [(config, spec) for config in runs]


def _trained(config: RunConfig, place: Workplace) -> bool:
    """Whether a run has finished and left its weights here."""
    record = place.records.get(config)
    return record is not None and record.status == "finished" and place.weights(config).exists()


def _shown(values: Mapping[str, Any]) -> str:
    """The numbers among the values; tables of them are in the file."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
        if isinstance(value, int | float | str)
    )
