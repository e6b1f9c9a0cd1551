"""The command ``run``: one run, from its options to what is said of its record."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
from dataclasses import replace
from pathlib import Path

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
    print(f"{config}\nfingerprint {config.fingerprint}, record {place.records.path(config)}")
    if float(config.optimizer.get("rho", 0.0)) < 0:
        print("ρ < 0 is a control, down the previous gradient: no sharpness-aware minimization.")
    if ranks.first(lambda: place.records.done(config)):
        print("It has a record already and is not trained again.")
        record = execute(config, place)
    else:
        try:
            record = _train(config, place, quiet=not ranks.leads)
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


def _again(options: argparse.Namespace) -> int:
    """Train a record's run once more; 0 if it came out the same, 1 if not."""
    default = vars(arguments.parser().parse_args(["run"]))
    for name in arguments.WHAT_A_RUN_IS:
        if getattr(options, name) != default[name]:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"--from-record says what the run is, and so does {flag}")
    record = read(options.from_record)
    where = record.body["environment"]
    if launched() != (made_by := int(where.get("ranks", 1))):
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


def _again_together(record: Record, path: Path, place: Workplace, ranks: Ranks) -> int:
    print(f"{record.config}\nfingerprint {record.config.fingerprint}, record {path}")
    if ranks.first(lambda: place.records.done(record.config)):
        print(f"It was trained again before: {place.records.path(record.config)}")
    comparison = compare(record, _train(record.config, place, quiet=not ranks.leads))
    print("It came out the same, bit for bit." if comparison.same else "It came out differently.")
    for line in comparison.lines:
        print(f"  {line}")
    return 0 if comparison.same else 1


def _train(config: RunConfig, place: Workplace, quiet: bool = False) -> Record:
    """One run in this process, with a bar that starts anew for each parent it needs first."""
    if quiet:
        return execute(config, place)
    with bar(
        total=config.epochs, unit="epoch", desc=f"{config.method.name} {config.sparsity:.0%}"
    ) as shown:
        current = config.fingerprint

        def progress(running: RunConfig, epoch: int) -> None:
            nonlocal current
            if running.fingerprint != current:
                current = running.fingerprint
                shown.set_description(f"{running.method.name} {running.sparsity:.0%}", False)
                shown.reset(running.epochs)
            shown.update(epoch - shown.n)

        return execute(config, place, progress)


def _config(options: argparse.Namespace) -> RunConfig:
    size = profile(options.profile)
    given = dict(arguments.assignment(text) for text in options.option)
    optimizer = size.optimizer(options.optimizer, **_for(OPTIMIZERS, options.optimizer, given))
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
    config = size.config(
        options.dataset,
        NETWORKS.get(options.dataset, "resnet32x2"),
        method,
        optimizer,
        options.seed,
        options.multiplier,
        **chosen,
    )
    return config if options.model is None else replace(config, model=options.model)


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
