"""The command ``run``: one run, from its options to what is said of its record."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from paper_repro.cli import arguments
from paper_repro.cli.place import place_of
from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.again import compare, workplace_like
from paper_repro.experiment.profiles import NETWORKS, Profile, profile
from paper_repro.experiment.records import Record, read
from paper_repro.experiment.runs import execute, record_failure
from paper_repro.experiment.workplace import Workplace
from paper_repro.optim import OPTIMIZERS
from paper_repro.progress import bar
from paper_repro.registry import Registry, Scalar, Spec, checked
from paper_repro.sparse import METHODS
from paper_repro.sparse.lt import spec_reaching
from paper_repro.train.ranks import Ranks, failure_elsewhere, joined, launched

__all__ = ["run"]

#: Optimizers that tables give the profile's radius ρ, where they do not say which.
_AT_ITS_RADIUS = ("s2sam", "sam", "released", "asyncsam", "fsam", "randomsam")

#: What --from-record settles: what is trained, how, and where to.
_SAID_BY_A_RECORD = {
    "what the run is": arguments.WHAT_A_RUN_IS,
    "how its steps were computed": ("compile", "graph"),
    "where the new record goes, under --runs": ("results",),
}


def run(options: argparse.Namespace) -> int:
    """Train one run; 0 if it finished, 1 if it diverged or, trained again, came out differently."""
    if options.from_record is not None:
        return _again(options)
    config = _config(options)
    if options.threads is None:
        options.threads = profile(options.profile).threads
    place = place_of(options)
    with joined(torch.device(place.device)) as ranks, _only_the_first_speaks(ranks):
        return _run_together(config, place, ranks)


def _only_the_first_speaks(ranks: Ranks) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext() if ranks.leads else contextlib.redirect_stdout(io.StringIO())


def _run_together(config: RunConfig, place: Workplace, ranks: Ranks) -> int:
    def say() -> None:
        print(_header(config, place.records.path(config)))
        if float(config.optimizer.get("rho", 0.0)) < 0:
            print(
                "ρ < 0 is a control, down the previous gradient: no sharpness-aware minimization."
            )
        sys.stdout.flush()  # before the bar, which is not buffered

    if ranks.first(lambda: place.records.done(config)):
        say()
        print("It has a record already and is not trained again.")
        record = execute(config, place)
    else:
        try:
            record = _train(config, place, say, quiet=not ranks.leads)
        except (UserError, OSError):
            raise
        except Exception as error:  # recorded, so that tables and status show it, and then shown
            reason: Exception | None = None if ranks.alone else failure_elsewhere()
            if isinstance(reason, UserError):
                raise reason from error
            if ranks.leads:
                said = f"{type(error).__name__}: {error}" if reason is None else str(reason)
                record_failure(config, place, said)
            raise
        where = record.body["environment"]
        if where.get("engine_reason"):
            print(f"PyTorch trained it, not the sparse engine: {where['engine_reason']}")
    if record.status != "finished":
        print(f"{record.status}: {record.body['reason']}")
        return 1
    last, best = record.accuracy("last"), record.accuracy("best")
    speed, sparsity = record.body["speed"], record.body["sparsity"]
    name, unit = record.score.replace("_", " "), " %" if record.score == "test_accuracy" else ""
    counted = next(key for key in speed if key.endswith("_per_second"))
    print(
        f"{name} {last:.2f}{unit} after the last epoch ({best:.2f}{unit} at best), "
        f"sparsity {sparsity['masked_layers']:.2%} of the masked layers "
        f"({sparsity['overall']:.2%} overall), {speed[counted]:.0f} {counted.split('_')[0]}/s"
    )
    if record.missed:
        print(f"The sparsity asked for, {config.sparsity:.2%}, was missed by {record.missed:+.2%}.")
    return 0


def _header(config: RunConfig, path: Path) -> str:
    return f"{config}\nfingerprint {config.fingerprint}, record {path}"


def _again(options: argparse.Namespace) -> int:
    """Train a record's run once more; 0 if it came out the same, 1 if not."""
    default = vars(arguments.parser().parse_args(["run"]))
    for what, names in _SAID_BY_A_RECORD.items():
        for name in names:
            if getattr(options, name) != default[name]:
                flag = "--" + name.replace("_", "-")
                raise UserError(f"--from-record says {what}, and so does {flag}")
    record = read(options.from_record)
    where = record.body["environment"]
    if launched() != (made_by := _processes(record, options.from_record)):
        raise UserError(
            f"{options.from_record} was made by {made_by} processes, and this is a training by "
            f"{launched()}: "
            + ("leave out torchrun" if made_by == 1 else f"use torchrun --nproc-per-node {made_by}")
        )
    if options.threads is None:
        options.threads = where.get("threads")
    place = workplace_like(record, place_of(options))
    with joined(torch.device(place.device)) as ranks, _only_the_first_speaks(ranks):
        return _again_together(record, options.from_record, place, ranks)


def _processes(record: Record, path: Path) -> int:
    """How many processes trained a record's run together."""
    ranks = record.body["environment"].get("ranks", 1)
    if isinstance(ranks, bool) or not isinstance(ranks, int) or ranks < 1:
        raise UserError(f"{path} is not a run's record: its ranks is {ranks!r:.60}")
    return ranks


def _again_together(record: Record, path: Path, place: Workplace, ranks: Ranks) -> int:
    def say() -> None:
        print(_header(record.config, path), flush=True)

    if ranks.first(lambda: place.records.done(record.config)):
        say()
        print(f"It was trained again before: {place.records.path(record.config)}")
        other = execute(record.config, place)
    else:
        other = _train(record.config, place, say, quiet=not ranks.leads)
    comparison = compare(record, other)
    print("It came out the same, bit for bit." if comparison.same else "It came out differently.")
    for line in comparison.lines:
        print(f"  {line}")
    return 0 if comparison.same else 1


def _train(
    config: RunConfig, place: Workplace, say: Callable[[], None], quiet: bool = False
) -> Record:
    """One run in this process, with a bar that starts anew for each parent it needs first.

    ``say`` and the bar wait for the first progress: options that prove bad when the training is
    set up are answered with a sentence alone.
    """
    if quiet:
        return execute(config, place)
    with contextlib.ExitStack() as stack:
        shown: Any = None
        current = ""

        def progress(running: RunConfig, epoch: int) -> None:
            nonlocal shown, current
            what = f"{running.method.name} {running.sparsity:.0%}"
            if shown is None:
                say()
                shown = stack.enter_context(bar(total=running.epochs, unit="epoch", desc=what))
            elif running.fingerprint != current:
                shown.set_description(what, False)
                shown.reset(running.epochs)
            current = running.fingerprint
            shown.update(epoch - shown.n)

        record = execute(config, place, progress)
        if shown is None:  # nothing was left to train: its parent diverged, say
            say()
        return record


def _config(options: argparse.Namespace) -> RunConfig:
    size = profile(options.profile)
    given = dict(arguments.assignment(text) for text in options.option)
    radius = {"rho": size.rho(options.dataset)} if options.optimizer in _AT_ITS_RADIUS else {}
    own = _for(OPTIMIZERS, options.optimizer, given)
    optimizer = size.optimizer(options.optimizer, **{**radius, **own})
    known = {*OPTIMIZERS.defaults(options.optimizer), *METHODS.defaults(options.method)}
    for name in given:
        if name not in known:
            raise UserError(
                f"neither {options.method} nor {options.optimizer} has an option {name!r}; "
                f"there are {', '.join(sorted(known)) or 'none'}"
            )
    method = _method(size, options.method, options.sparsity, _for(METHODS, options.method, given))
    given_too = {name: getattr(options, name) for name in arguments.SETTINGS}
    chosen = {name: value for name, value in given_too.items() if value is not None}
    return size.config(
        options.dataset,
        options.model or NETWORKS.get(options.dataset, "resnet32x2"),
        method,
        optimizer,
        options.seed,
        options.multiplier,
        **chosen,
    )


def _method(size: Profile, name: str, sparsity: float | None, given: dict[str, Scalar]) -> Spec:
    options = METHODS.defaults(name)
    if "prune_ratio" in options:
        given.setdefault("prune_ratio", size.prune_ratio)
    if sparsity is None:
        unset = options.get("sparsity", 0) in (None, inspect.Parameter.empty)
        if unset and not {"sparsity", "round"} & set(given):
            raise UserError(f"the method {name!r} needs a --sparsity")
        return size.method(name, **given)
    if "sparsity" not in options:
        raise UserError(f"the method {name!r} has no sparsity to set; choose one with --method")
    if "sparsity" in given:
        raise UserError("the sparsity is given twice, by --sparsity and by --option")
    if "round" not in options or "round" in given:
        return size.method(name, sparsity=sparsity, **given)
    ratio = checked("prune_ratio", given["prune_ratio"], float)
    reaching = spec_reaching(sparsity, ratio, method=name)
    if reaching.name != name:  # dense training reaches it already
        return reaching
    return METHODS.spec(name, **{**dict(reaching.options), **given})


def _for(registry: Registry, name: str, given: dict[str, Scalar]) -> dict[str, Scalar]:
    known = registry.defaults(name)
    return {option: value for option, value in given.items() if option in known}
