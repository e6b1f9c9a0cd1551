"""One run from start to record: its folder, checkpoints, resume, parents, and what is written."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import json
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from paper_repro import data as datasets
from paper_repro.config import RunConfig
from paper_repro.data.loader import close_loaders
from paper_repro.engine.build import best, library
from paper_repro.errors import UserError
from paper_repro.experiment.history import check_data, places
from paper_repro.experiment.outcome import outcome
from paper_repro.experiment.provenance import environment
from paper_repro.experiment.records import Record
from paper_repro.experiment.workplace import Workplace
from paper_repro.files import (
    Busy,
    clear_leftovers,
    exclusive,
    finite,
    lacks_memory,
    load_tensors,
    save_tensors,
    write_json,
    write_text,
)
from paper_repro.train import Diverged, Trainer
from paper_repro.train.random_state import taken_on
from paper_repro.train.ranks import Ranks, current

__all__ = ["Workplace", "attempt", "data_of", "done", "execute", "prepare", "record_failure"]

#: Seconds from one checkpoint to the next in the middle of an epoch; each epoch ends with one too.
SAVED_EVERY = 600.0

#: The disk's fault and not the run's, and no room for a record of it either.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Progress = Callable[[RunConfig, int], None]


@functools.lru_cache(maxsize=2)
def _load(name: str, **options: Any) -> Any:
    return datasets.load(name, **options)


def data_of(config: RunConfig, place: Workplace) -> Any:
    """A run's data set on the device, loaded once for runs that follow each other."""
    return _load(
        config.dataset,
        root=place.data,
        cache=place.runs / "cache",
        device=place.device,
        train_size=config.train_size,
        keep_rest=config.test_on == "wide",
        label_noise=config.label_noise,
        workers=place.workers,
        skip_broken=place.skip_broken,
    )


def prepare(configs: Iterable[RunConfig], place: Workplace) -> None:
    """Find (fetch, decode) the data sets of many runs, before processes are started for them.

    Raises:
        UserError: data that is missing or damaged.
    """
    for name in dict.fromkeys(config.dataset for config in configs):
        datasets.load(name, root=place.data, cache=place.runs / "cache")


def execute(
    config: RunConfig,
    place: Workplace,
    progress: Progress | None = None,
    *,
    need_weights: bool = False,
) -> Record:
    """Train a run to its end, from its checkpoint if it has one, and write its record.

    A run that has a record is not trained again, unless its trained weights are needed by a
    pruning round and gone; its record then stays as it is. Parents are trained first.

    Inside :func:`paper_repro.train.ranks.joined` every rank calls this, and they train the run
    together; rank 0 alone reads and writes the run's folder and its record.

    Args:
        config: the run.
        place: where.
        progress: called with the run and the epochs finished, at its start and after each epoch.
        need_weights: whether a pruning round will start from this run's weights.

    Raises:
        UserError: bad input, or a parent that did not finish.
        Busy: another process is training the run.
    """
    ranks = current()
    there = ranks.first(lambda: done(config, place, need_weights))
    if there is not None:
        return there
    report = progress or (lambda config, epoch: None)
    with contextlib.ExitStack() as stack:
        ranks.first(lambda: stack.enter_context(exclusive(place.folder(config))))
        # By another process in the meantime?
        there = ranks.first(lambda: done(config, place, need_weights))
        if there is not None:
            return there
        try:
            parent = _parent(config, place, report)
        except Diverged as error:
            lost = {"reason": str(error), "environment": environment(torch.device(place.device))}
            return ranks.first(lambda: place.records.write(config, "diverged", lost))
        stack.callback(close_loaders)
        return _train(config, place, parent, report)


def attempt(
    config: RunConfig,
    place: Workplace,
    progress: Progress | None = None,
    *,
    need_weights: bool = False,
) -> str:
    """:func:`execute`, but a failure is recorded; returns what it was, or nothing.

    That another process is training the run is no failure of the run and not recorded.
    """
    try:
        execute(config, place, progress, need_weights=need_weights)
    except Busy as error:
        return str(error)
    except UserError as error:
        record_failure(config, place, str(error))
        return str(error)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            record_failure(config, place, f"{type(error).__name__}: {error}")
        return f"{error.strerror or error}: {error.filename or place.folder(config)}"
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        record_failure(config, place, reason, traceback.format_exc())
        return reason
    return ""


def record_failure(
    config: RunConfig, place: Workplace, reason: str, details: str | None = None
) -> Record:
    """Record that a run failed by no fault of its own numbers; a sweep will try it again.

    A finished record is never replaced by it.
    """
    existing = place.records.get(config)
    if existing is not None and existing.status != "failed":
        return existing
    body = {
        "reason": reason,
        "details": details,
        "environment": environment(torch.device(place.device)),
    }
    return place.records.write(config, "failed", body)


def done(config: RunConfig, place: Workplace, need_weights: bool) -> Record | None:
    """The record of a run that need not be trained; None if it must be."""
    record = place.records.get(config)
    if record is None or record.status == "failed":
        return None
    lost = record.status == "finished" and not place.weights(config).exists()
    return None if need_weights and lost else record


def _train(config: RunConfig, place: Workplace, parent: Any, progress: Progress) -> Record:
    ranks = current()
    folder = place.folder(config)
    if ranks.leads:
        write_json(folder / "config.json", config.to_dict())
    data = data_of(config, place)
    device = torch.device(place.device)
    if device.type == "cuda":
        gc.collect()  # what an earlier run left in reference cycles is none of this one's memory
        torch.cuda.reset_peak_memory_stats(device)
    checkpoint = folder / "checkpoint.pt"
    # Onto the host: tensors go from rank to rank by way of it, and the sparse engine is there.
    state = ranks.first(lambda: load_tensors(checkpoint, "cpu") if checkpoint.exists() else None)
    found = state if isinstance(state, dict) else {}
    digest = data.digest()
    check_data(found, digest, str(folder))
    ranks.check_alike({"options": config.fingerprint, f"copy of {config.dataset}": digest})
    # A run goes on as it began, whatever is asked for now: replayed, compiled and plain steps
    # differ in rounding. On another kind of device it ends otherwise in any case.
    began = found if taken_on(found) == device.type else {}
    trainer = Trainer(
        config,
        data,
        parent,
        compile=bool(began.get("compiled", place.compile)),
        diagnostics=place.diagnostics,
        graph=bool(began.get("graphed", place.graph)),
        engine=_engine(began.get("engine", "dense"), ranks) if began else place.engine,
        ranks=ranks,
    )
    where = {
        **environment(trainer.device),
        "compiled": trainer.compiled,
        "graph": trainer.graphed,
        "engine": trainer.engine,
        **({"engine_reason": trainer.engine_reason} if trainer.engine_reason else {}),
        **({"instruction_set": best()} if trainer.net is not None else {}),
        "arithmetic": trainer.arithmetic,
        "data": digest,
        **({} if ranks.alone else {"ranks": ranks.world}),
    }
    if state is not None:
        _resume(trainer, state, checkpoint)
    trained_on = places(found, where)

    def save() -> None:
        save_tensors(checkpoint, {**trainer.state_dict(), "places": trained_on})

    trainer.pause = _now_and_then(save) if trainer.pausable else None
    status, reason = "finished", None
    progress(config, trainer.epoch)
    try:
        while not trainer.finished:
            trainer.run_epoch()
            if ranks.leads:
                # The checkpoint last: what is killed before it does the epoch, and these, again.
                lines = (json.dumps(finite(line)) for line in trainer.curve)
                write_text(folder / "log.jsonl", "\n".join(lines) + "\n")
                for name, text in trainer.task.files().items():
                    write_text(folder / name, text)
                save()
            progress(config, trainer.epoch)
    except Diverged as error:
        status, reason = "diverged", str(error)

    def conclude() -> Record:
        if status == "finished":
            save_tensors(place.weights(config), trainer.outcome())
        record = place.records.get(config)
        if record is None or record.status == "failed":
            clear_leftovers(place.records.path(config).parent, place.records.path(config).name)
            body = {**outcome(trainer, reason), "environment": where}
            if len(trained_on) > 1:
                body["earlier"] = trained_on[:-1]
            record = place.records.write(config, status, body)
        checkpoint.unlink(missing_ok=True)
        return record

    return ranks.first(conclude)


def _now_and_then(save: Callable[[], None]) -> Callable[[], None]:
    """What saves a run in the middle of an epoch that takes long."""
    last = time.monotonic()

    def pause() -> None:
        nonlocal last
        if time.monotonic() - last >= SAVED_EVERY:
            save()
            last = time.monotonic()

    return pause


def _engine(began: str, ranks: Ranks) -> str:
    """The engine that a run began with, or what there is where that cannot train it.

    Checkpoints of one are read by the other; several ranks train by PyTorch.
    """
    if not ranks.alone:
        return "dense"
    if began in ("sparse", "sparse-bf16"):
        try:
            library()
        except UserError:
            return "auto"
    return began


def _resume(trainer: Trainer, state: Any, checkpoint: Path) -> None:
    try:
        trainer.load_state_dict(state)
    except Exception as error:  # of another version or another run, it can lack or hold anything
        if lacks_memory(error):
            raise
        first = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"{checkpoint} does not fit this run ({type(error).__name__}: {first}); "
            "delete it to train the run afresh"
        ) from error


def _parent(config: RunConfig, place: Workplace, progress: Progress) -> Any:
    parent = config.parent()
    if parent is None:
        return None
    record = execute(parent, place, progress, need_weights=True)
    if record.status == "diverged":  # for good, and so is what follows from it
        raise Diverged(f"it starts from {parent}, which diverged")
    if record.status != "finished":
        raise UserError(f"{config} starts from {parent}, which {record.status}")
    path = place.weights(parent)

    def read() -> Any:
        if not path.exists():
            raise UserError(f"{path} is lost, and the run ended otherwise when trained again")
        left = load_tensors(path)
        if not (isinstance(left, dict) and {"weights", "masks"} <= set(left)):
            raise UserError(f"{path} holds no trained network; delete it to train that run afresh")
        for name, value in left["weights"].items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise UserError(
                    f"{path} holds weights that are not finite ({name}); delete it to train that "
                    "run afresh"
                )
        return left

    return current().first(read)
