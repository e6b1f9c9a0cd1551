"""The command line: run | sweep | campaign | table | status | export | import."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from paper_repro.cli import arguments
from paper_repro.cli.campaign import run_campaign, run_export, run_import
from paper_repro.config import RunConfig
from paper_repro.engine import ENGINES
from paper_repro.errors import UserError
from paper_repro.experiment.again import compare, workplace_like
from paper_repro.experiment.profiles import Profile, profile
from paper_repro.experiment.records import Record, read
from paper_repro.experiment.runs import Workplace, execute, record_failure
from paper_repro.experiment.status import report
from paper_repro.experiment.sweep import missing, sweep
from paper_repro.optim import OPTIMIZERS
from paper_repro.progress import bar, mend_output
from paper_repro.registry import Registry, Scalar, Spec, checked
from paper_repro.sparse import METHODS
from paper_repro.sparse.lt import spec_reaching
from paper_repro.train.threads import set_threads

if TYPE_CHECKING:
    from tables.base import Table

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 if a run failed, 2 for bad input."""
    mend_output()
    options = arguments.parser().parse_args(argv)
    try:
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
        return _say("stopped; the same command goes on from the last finished epochs", 130)


def _say(sentence: object, status: int) -> int:
    print(f"paper_repro: {sentence}", file=sys.stderr)
    return status


def _run(options: argparse.Namespace) -> int:
    if options.from_record is not None:
        return _again(options)
    config = _config(options)
    if options.threads is None:
        options.threads = profile(options.profile).threads
    place = _place(options)
    print(f"{config}\nfingerprint {config.fingerprint}, record {place.records.path(config)}")
    if place.records.done(config):
        print("It has a record already and is not trained again.")
        record = execute(config, place)
    else:
        try:
            record = _train(config, place)
        except (UserError, OSError):
            raise
        except Exception as error:  # recorded, so that tables and status show it, and then shown
            record_failure(config, place, f"{type(error).__name__}: {error}")
            raise
        where = record.body["environment"]
        if where.get("engine_reason"):
            print(f"PyTorch trained it, not the sparse engine: {where['engine_reason']}")
    if record.status != "finished":
        print(f"{record.status}: {record.body['reason']}")
        return 1
    last, best = record.accuracy("last"), record.accuracy("best")
    speed, sparsity = record.body["speed"], record.body["sparsity"]
    print(
        f"test accuracy {last:.2f} % after the last epoch ({best:.2f} % at best), "
        f"sparsity {sparsity['masked_layers']:.2%} of the masked layers "
        f"({sparsity['overall']:.2%} overall), {speed['images_per_second']:.0f} images/s"
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
    if options.threads is None:
        options.threads = record.body["environment"].get("threads")
    place = workplace_like(record, _place(options))
    print(f"{record.config}\nfingerprint {record.config.fingerprint}, record {options.from_record}")
    if place.records.done(record.config):
        print(f"It was trained again before: {place.records.path(record.config)}")
    comparison = compare(record, _train(record.config, place))
    print("It came out the same, bit for bit." if comparison.same else "It came out differently.")
    for line in comparison.lines:
        print(f"  {line}")
    return 0 if comparison.same else 1


def _train(config: RunConfig, place: Workplace) -> Record:
    """One run in this process, with a bar that starts anew for each parent it needs first."""
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
    given = dict(_assignment(text) for text in options.option)
    optimizer = size.optimizer(options.optimizer, **_for(OPTIMIZERS, options.optimizer, given))
    known = {*OPTIMIZERS.defaults(options.optimizer), *METHODS.defaults(options.method)}
    for name in given:
        if name not in known:
            raise UserError(
                f"neither {options.method} nor {options.optimizer} has an option {name!r}; "
                f"there are {', '.join(sorted(known)) or 'none'}"
            )
    method = _method(size, options.method, options.sparsity, _for(METHODS, options.method, given))
    names = ("epochs", "precision", "train_size", "init", "rho_start")
    given_too = {name: getattr(options, name) for name in names}
    chosen = {name: value for name, value in given_too.items() if value is not None}
    config = size.config(
        options.dataset,
        "resnet32x2",
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


def _sweep(options: argparse.Namespace) -> int:
    size, table = _with_seeds(options), _table(options)
    for registry, names in ((METHODS, options.methods), (OPTIMIZERS, options.optimizers)):
        for name in names:
            registry[name]
    place = _place(options)
    wanted = sorted((c for c in table.runs() if _selected(c, options)), key=size.rank)
    if not wanted:
        raise UserError(f"no run of {options.table} fits that selection")
    todo = missing(wanted, place)
    if not size.evidence and not options.quiet:
        print(f"The {size.name} profile is not evidence: {size.about}.")
    print(f"{options.table}, {size.name}: {len(wanted)} runs wanted, {len(todo)} to train.")
    sys.stdout.flush()
    jobs = options.jobs
    if jobs is None:
        jobs = 1 if place.device != "cpu" else os.cpu_count() or 1
    outcome = sweep(wanted, place, jobs)
    print(f"{len(outcome.trained)} trained, {len(outcome.failed)} failed.")
    return 1 if outcome.failed else 0


def _show_table(options: argparse.Namespace) -> int:
    from tables import render

    size, table, place = profile(options.profile), _table(options), _place(options)
    folder = place.results / size.name / "tables"
    paths = render.write(table, place.records, size, folder)
    print(paths[0].read_text(encoding="utf-8"))
    print("written: " + ", ".join(str(path) for path in paths))
    return 0


def _status(options: argparse.Namespace) -> int:
    try:
        tables = _tables()
    except UserError:  # installed without them
        tables = None
    text, damaged = report(_place(options), tables)
    print(text)
    for sentence in damaged:
        _say(sentence, 2)
    return 2 if damaged else 0


def _campaign(options: argparse.Namespace) -> int:
    tables = _tables()
    from tables.worth import questions

    return run_campaign(options, _place(options), tables, questions)


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


def _selected(config: RunConfig, options: argparse.Namespace) -> bool:
    return (
        (not options.methods or config.method.name in options.methods)
        and (not options.optimizers or config.optimizer.name in options.optimizers)
        and (
            not options.sparsities
            or any(abs(config.sparsity - s) < 1e-9 for s in options.sparsities)
        )
    )


def _for(registry: Registry, name: str, given: dict[str, Scalar]) -> dict[str, Scalar]:
    known = registry.defaults(name)
    return {option: value for option, value in given.items() if option in known}


def _assignment(text: str) -> tuple[str, Scalar]:
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise UserError(f"an option is written name=value, not {text!r}")
    for convert in (int, float):
        try:
            return name, convert(value)
        except ValueError:
            continue
    return name, {"true": True, "false": False, "none": None}.get(value.lower(), value)


def _place(options: argparse.Namespace) -> Workplace:
    threads = getattr(options, "threads", None)
    if threads is not None:
        set_threads(threads)
    data = getattr(options, "data", None)
    if data is not None and not data.is_dir():
        raise UserError(f"the data folder {data} does not exist or is no folder")
    for folder in (options.runs, options.results):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file, not a folder")
        if hasattr(options, "device"):  # before training, not after it
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"the folder {folder} cannot be made: {error.strerror}") from error
    return Workplace(
        data=data,
        runs=options.runs,
        results=options.results,
        device=_device(getattr(options, "device", "cpu")),
        compile=getattr(options, "compile", False),
        diagnostics=getattr(options, "diagnostics", False),
        graph=getattr(options, "graph", False),
        engine=_engine(getattr(options, "engine", "auto")),
    )


def _engine(name: str) -> str:
    if name not in ENGINES:
        raise UserError(f"unknown engine {name!r}; known are {', '.join(ENGINES)}")
    return name


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()  # reading it back rules out devices without data
    except Exception as error:  # torch has many ways to say no
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"the device {name!r} cannot be used: {first}") from error
    return name


_COMMANDS = {
    "run": _run,
    "sweep": _sweep,
    "table": _show_table,
    "status": _status,
    "campaign": _campaign,
    "export": lambda options: run_export(options, _place(options)),
    "import": lambda options: run_import(options, _place(options)),
}
