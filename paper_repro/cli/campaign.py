"""The command line of campaigns and of archives: campaign | export | import."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.archive import export_records, import_records
from paper_repro.experiment.campaign import Campaign, unusable_data
from paper_repro.experiment.cost import Cost
from paper_repro.experiment.mps import multi_process_service
from paper_repro.experiment.plan import Plan, Question, plan
from paper_repro.experiment.profiles import PROFILES, Profile, profile
from paper_repro.experiment.records import Record, Records
from paper_repro.experiment.runs import Workplace
from paper_repro.registry import Registry, Spec
from paper_repro.train.threads import share

__all__ = ["add_commands", "listing", "outlook", "path", "run_campaign", "run_export", "run_import"]

#: What is undecided at a profile, given the records; of some tables, or of all (None).
Asks = Callable[[Profile, Records, Collection[str] | None], list[Question]]

#: The runs of each table.
Wanted = dict[str, list[RunConfig]]

_SHOWN = 20  # runs of a plan
_LONGEST = 1e6  # minutes, about two years: far less than what clocks and timeouts can hold


def add_commands(
    commands: Any,
    folders: argparse.ArgumentParser,
    sized: argparse.ArgumentParser,
    training: argparse.ArgumentParser,
) -> None:
    """Add the three commands, with the arguments that they share with others as parents."""
    campaign = commands.add_parser(
        "campaign",
        parents=[folders, sized, training],
        help="train as many missing records as fit into a time",
        description="Train the missing records, those first that narrow the undecided claims most "
        "per core-hour, for a number of minutes; call it again to go on.",
    )
    campaign.add_argument("--minutes", type=float, help="in all, unless --dry-run")
    campaign.add_argument(
        "--tables", nargs="+", default=[], metavar="NAME", help="only what these tables want"
    )
    campaign.add_argument("--dry-run", action="store_true", help="show the plan and train nothing")
    campaign.add_argument(
        "--jobs", type=_jobs, metavar="N|auto", default=None, help="processes (default: measured)"
    )
    campaign.add_argument(
        "--mps",
        action="store_true",
        help="share an NVIDIA GPU among the processes through NVIDIA's MPS daemon",
    )
    export = commands.add_parser(
        "export",
        parents=[folders],
        help="all records as one archive",
        description="Write all records into one .tar.gz file.",
    )
    export.add_argument("archive", type=path)
    export.add_argument("--profile", metavar="NAME", help="only this size's records")
    export.add_argument(
        "--force", action="store_true", help="replace a file that is no archive of records too"
    )
    merge = commands.add_parser(
        "import",
        parents=[folders],
        help="merge an archive's records",
        description="Merge the records of an archive; a different record that is here is kept.",
    )
    merge.add_argument("archive", type=path)


def path(text: str) -> Path:
    """A path of the command line."""
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"a path cannot hold the character NUL: {text!r}")
    return Path(text)


def _jobs(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        jobs = int(text)
    except ValueError:
        jobs = 0
    if jobs < 1:
        raise argparse.ArgumentTypeError(f"must be a number of at least 1 or auto, not {text}")
    return jobs


def run_campaign(
    options: argparse.Namespace, place: Workplace, tables: Registry, questions: Asks
) -> int:
    """Exit status 0, or 1 if a run failed.

    Args:
        options: the command line's.
        place: where to train.
        tables: the table definitions.
        questions: what is undecided at a profile, of some tables or of all.
    """
    started = time.monotonic()  # planning counts
    size = profile(options.profile)
    if options.minutes is None and not options.dry_run:
        raise UserError("a campaign needs --minutes, or --dry-run to see its plan")
    minutes = math.inf if options.minutes is None else options.minutes
    if options.minutes is not None and not 0 < minutes <= _LONGEST:
        raise UserError(f"minutes must be a number above 0, at most {_LONGEST:.0f}, not {minutes}")
    if options.mps and place.device == "cpu":
        raise UserError("MPS shares an NVIDIA GPU; this campaign trains on the CPU")
    wanted = _wanted(options, size, tables)
    if not any(wanted.values()):
        print(f"{size.name}: these tables want no runs.")
        return 0
    usable, sound = _usable(wanted, place)
    order, asked = _plan(options, place, size, usable, sound, questions)
    if not order.steps:
        rest = "" if usable == wanted else "other "
        print(f"{size.name}: every {rest}record is there.")
        return 0
    length = "" if minutes == math.inf else f", {minutes:g} minutes"
    print(f"{size.name}: {len(order.steps)} runs to train{length}.")
    # On a GPU hours are not known, only their proportions.
    hours = minutes / 60 * _cores(size, options.jobs) if place.device == "cpu" else math.inf
    for line in outlook(order, asked, hours):
        print(line)
    sys.stdout.flush()
    if options.dry_run:
        for line in listing(order):
            print(line)
        return 0
    campaign = Campaign(order.configs, place, started)
    sharing = multi_process_service(place.runs / "mps") if options.mps else nullcontext()
    with sharing:
        return _train(options, campaign, 60 * minutes)


def _cores(size: Profile, jobs: int | None) -> int:
    """Cores that a campaign keeps busy: all, where the number of its processes is measured."""
    cores = os.cpu_count() or 1
    if jobs is None:
        return cores
    return min(cores, jobs * min(share(jobs), size.threads or cores))


def _wanted(options: argparse.Namespace, size: Profile, tables: Registry) -> Wanted:
    """The runs that the tables asked for want, or all tables."""
    names = list(dict.fromkeys(options.tables or tables))
    return {name: list(tables.build(Spec(name), profile=size).runs()) for name in names}


@dataclass(frozen=True)
class _Sound(Records):
    """The records that can be read; those that cannot are as if they were not there.

    Attributes:
        folder: where they are.
        found: those there were.
        bad: the files that are no record.
    """

    folder: Path
    found: tuple[Record, ...]
    bad: frozenset[Path]

    def get(self, config: RunConfig) -> Record | None:
        return None if self.path(config) in self.bad else super().get(config)

    def spoils(self, config: RunConfig | None) -> bool:
        """Whether the record of a run, or of one that it starts from, is there and damaged."""
        while config is not None and self.path(config) not in self.bad:
            config = config.parent()
        return config is not None


def _usable(wanted: Wanted, place: Workplace) -> tuple[Wanted, _Sound]:
    """What of the wanted runs can be trained here, and the records; what is left out is said."""
    problems = unusable_data((c for runs in wanted.values() for c in runs), place)
    for sentence in problems.values():
        print(f"left out: {sentence}")
    usable = {name: [c for c in runs if c.dataset not in problems] for name, runs in wanted.items()}
    if not any(usable.values()):
        raise UserError(next(iter(problems.values())))
    found, sentences = place.records.sound()
    for sentence in sentences:
        print(f"left out: {sentence}", file=sys.stderr)
    readable = {place.records.path(record.config) for record in found}
    bad = frozenset(place.records.paths()) - readable if sentences else frozenset()
    sound = _Sound(place.results, tuple(found), bad)
    if bad:
        usable = {name: [c for c in r if not sound.spoils(c)] for name, r in usable.items()}
    return usable, sound


def _plan(
    options: argparse.Namespace,
    place: Workplace,
    size: Profile,
    usable: Wanted,
    sound: _Sound,
    questions: Asks,
) -> tuple[Plan, list[Question]]:
    """The plan of what can be trained here, and the questions that it is to decide."""
    every = [config for runs in usable.values() for config in runs]
    datasets, profiles = {c.dataset for c in every}, {c.profile for c in every}
    asked = []
    for q in questions(size, sound, options.tables or None):
        if all(c.dataset in datasets for seed in q.seeds for c in seed):
            whole = tuple(seed for seed in q.seeds if not any(sound.spoils(c) for c in seed))
            asked.append(replace(q, seeds=whole))
    # Others could want data that are not here, which would be fetched.
    timed = (
        record
        for record in sound.found
        if record.config.profile in profiles and record.config.dataset in datasets
    )
    return plan(asked, usable, size, sound.done, Cost(place, timed)), asked


def outlook(order: Plan, asked: Sequence[Question], hours: float) -> list[str]:
    """What a plan is expected to decide, question by question, the soonest first.

    Each question's next look, or the last that it reaches in the time, and what it would show.

    Args:
        order: the plan.
        asked: the questions.
        hours: core-hours that there are; infinite where that is not known.
    """
    lines = []
    for q in asked:
        now = order.there[q.name]
        goal = next((look for look in q.looks if look > now), None)
        if goal is not None and hours != math.inf:
            reached = order.seeds_after(q.name, hours)
            goal = max([look for look in q.looks if look <= reached], default=goal)
            goal = max(goal, next(look for look in q.looks if look > now))
        need = None if goal is None else order.hours_until(q.name, goal)
        if goal is None or need is None:
            continue
        soon = need <= hours < math.inf
        when = f"after {need:.3g} core-hours" + (", in this campaign" if soon else "")
        says = f": {shown}" if (shown := q.expects(goal)) else ""
        lines.append((need, f"  {q.name}\n    n = {now} -> {goal} {when}{says}"))
    total = sum(step.hours for step in order.steps)
    head = f"What it would decide, of a plan of {total:.3g} core-hours in all:"
    return [head, *(line for _, line in sorted(lines))] if lines else []


def listing(order: Plan) -> list[str]:
    """The first runs of a plan, one a line."""
    lines = [f"First {min(_SHOWN, len(order.steps))} of {len(order.steps)} runs, in core-hours:"]
    for step in order.steps[:_SHOWN]:
        why = step.question.split(":")[0] if step.question else "tables"
        decay = f", weight decay {step.config.weight_decay:g}"
        lines.append(f"  {step.hours:8.3g}  {step.config}{decay}, for {why}")
    return lines


def _train(options: argparse.Namespace, campaign: Campaign, seconds: float) -> int:
    jobs, rates = campaign.jobs(seconds, options.jobs)
    how = ", steps replayed as CUDA graphs" if campaign.place.graph else ""
    each = ", ".join(f"{n}: {rate:.0f}" for n, rate in rates.items())
    found = f" (images/s by number of processes: {each})" if each else ""
    print(f"{jobs} processes at once{how}{found}")
    sys.stdout.flush()
    report = campaign.run(seconds, jobs)
    kind = "GPU-hour" if campaign.place.device != "cpu" else "hour"
    cut = [name for name in report.outcome.epochs if name not in report.outcome.trained]
    print(
        f"{len(report.outcome.trained)} runs trained, {len(cut)} under way, "
        f"{len(report.outcome.failed)} failed, {report.left} left; {report.runs:.2f} runs' worth "
        f"of epochs in {report.seconds / 60:.1f} minutes: "
        f"{report.runs_per_hour:.1f} runs per {kind}"
    )
    return 1 if report.outcome.failed else 0


def run_export(options: argparse.Namespace, place: Workplace) -> int:
    """Exit status 0."""
    size = PROFILES.get(options.profile)
    folder = options.profile if size is None else size.runs_as or size.name
    count, taken = export_records(place.records, options.archive, folder, options.force)
    beside = f" and {taken} measures" if taken else ""
    print(f"{count} records{beside} written to {options.archive}")
    return 0


def run_import(options: argparse.Namespace, place: Workplace) -> int:
    """Exit status 0, or 1 if a different record is here."""
    merged = import_records(options.archive, place.records)
    print(
        f"{len(merged.new)} new, {len(merged.same)} here already, "
        f"{len(merged.conflicting)} conflicting, {len(merged.outdated)} failures left out"
    )
    for name in merged.conflicting:
        print(f"kept the record that is here, which differs: {name}")
    return 1 if merged.conflicting else 0
