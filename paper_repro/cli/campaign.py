"""The command line of campaigns and of archives: campaign | export | import."""

from __future__ import annotations

import argparse
import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from paper_repro.errors import UserError
from paper_repro.experiment.archive import export_records, import_records
from paper_repro.experiment.campaign import Campaign, plan
from paper_repro.experiment.mps import multi_process_service
from paper_repro.experiment.profiles import profile
from paper_repro.experiment.runs import Workplace
from paper_repro.registry import Registry, Spec

__all__ = ["add_commands", "run_campaign", "run_export", "run_import"]


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
        description="Train the missing records of all tables, the most telling ones first, for a "
        "number of minutes; call it again to go on.",
    )
    campaign.add_argument("--minutes", type=float, required=True, help="that it may take in all")
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
    export.add_argument("archive", type=Path)
    export.add_argument("--profile", metavar="NAME", help="only this size's records")
    merge = commands.add_parser(
        "import",
        parents=[folders],
        help="merge an archive's records",
        description="Merge the records of an archive; a different record that is here is kept.",
    )
    merge.add_argument("archive", type=Path)


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


def run_campaign(options: argparse.Namespace, place: Workplace, tables: Registry) -> int:
    """Exit status 0, or 1 if a run failed."""
    if not (math.isfinite(options.minutes) and options.minutes > 0):
        raise UserError(f"minutes must be a number above 0, not {options.minutes}")
    size, seconds = profile(options.profile), 60 * options.minutes
    runs = {name: tables.build(Spec(name), profile=size).runs() for name in tables}
    campaign = Campaign(plan(runs, size), place)
    for sentence in campaign.unusable.values():
        print(f"left out: {sentence}")
    if not campaign.todo:
        print(f"{size.name}: every record is there.")
        return 0
    print(f"{size.name}: {len(campaign.todo)} runs to train, {options.minutes:g} minutes.")
    sys.stdout.flush()
    if options.mps and place.device == "cpu":
        raise UserError("MPS shares an NVIDIA GPU; this campaign trains on the CPU")
    sharing = multi_process_service(place.runs / "mps") if options.mps else nullcontext()
    with sharing:
        return _train(options, campaign, seconds)


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
    count = export_records(place.records, options.archive, options.profile)
    print(f"{count} records written to {options.archive}")
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
