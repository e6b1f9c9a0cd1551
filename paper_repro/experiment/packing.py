"""How many training processes at once serve a machine best: measured, and remembered."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from paper_repro import data as datasets
from paper_repro.config import RunConfig
from paper_repro.experiment.mps import PIPES
from paper_repro.experiment.runs import Workplace
from paper_repro.files import write_json
from paper_repro.train import Trainer
from paper_repro.train.threads import share

__all__ = ["best", "faster", "images_per_second", "measured"]

_STEPS = 20  # in an epoch of the measurement
_PATIENCE = 600.0  # seconds for a process to load its data and warm up
_HURRIED = 60.0  # the same, where the time for measuring is over
_WORTH = 1.05  # a doubling that gains less than this is the last one tried
_CLOSE = 0.97  # of the best is good enough for fewer processes


def best(rates: Mapping[int, float]) -> int:
    """The fewest processes that come within 3 % of the highest total rate; 1 if none is known."""
    top = max(rates.values(), default=0.0)
    return min((jobs for jobs, rate in rates.items() if rate >= _CLOSE * top), default=1)


def measured(
    config: RunConfig,
    place: Workplace,
    seconds: float = 20.0,
    until: float | None = None,
    alone: bool = False,
) -> dict[int, float]:
    """Training images a second, of all processes together, for 1, 2, 4, ... of them at once.

    Doubled until it does not pay, up to the number of processor cores. A complete measurement is
    kept beside the runs and read the next time the same machine trains the same kind of run.

    Args:
        config: a typical run.
        place: where.
        seconds: to train for, at each number of processes.
        until: the time (``time.monotonic``) after which no larger number is tried.
        alone: try one process only.
    """
    path = place.runs / "cache" / "packing.json"
    known = _known(path)
    key = _key(config, place) + (", alone" if alone else "")
    if key in known:
        return {int(jobs): rate for jobs, rate in known[key].items()}
    rates: dict[int, float] = {}
    for jobs in _doublings(1 if alone else os.cpu_count() or 1):
        if rates and until is not None and time.monotonic() > until:
            return rates
        rate = images_per_second(config, place, jobs, seconds, until)
        if rate is None:  # out of memory, most likely
            break
        rates[jobs] = rate
        if jobs > 1 and rate < _WORTH * rates[jobs // 2]:
            break
    if rates:
        write_json(path, {**known, key: rates})
    return rates


def faster(
    config: RunConfig, place: Workplace, seconds: float = 20.0, until: float | None = None
) -> Workplace:
    """``place``, with steps replayed as CUDA graphs where that works and is faster.

    Measured with one process each way, on CUDA and where replaying was not asked for.
    """
    if place.graph or not place.device.startswith("cuda"):
        return place
    replaying = replace(place, graph=True)
    rates = [
        measured(config, way, seconds, until, alone=True).get(1, 0.0) for way in (replaying, place)
    ]
    return replaying if rates[0] > rates[1] else place


def images_per_second(
    config: RunConfig,
    place: Workplace,
    jobs: int,
    seconds: float,
    until: float | None = None,
    threads: int | None = None,
) -> float | None:
    """What ``jobs`` processes train together; None if one of them fails or is not ready in time.

    Each has ``threads`` threads, by default its share of the processor's cores.
    """

    def patience() -> float:
        left = math.inf if until is None else until - time.monotonic()
        return min(_PATIENCE, max(_HURRIED, left))

    context = multiprocessing.get_context("spawn")
    threads = threads or share(jobs)
    workers: list[tuple[Any, Connection]] = []
    try:
        for _ in range(jobs):
            ours, theirs = context.Pipe()
            process = context.Process(target=_train, args=(theirs, config, place, threads, seconds))
            process.start()
            theirs.close()
            workers.append((process, ours))
        for _, connection in workers:  # all are warm
            if not connection.poll(patience()):
                return None
            connection.recv()
        for _, connection in workers:
            connection.send("go")
        total = 0.0
        for _, connection in workers:
            if not connection.poll(patience() + seconds):
                return None
            total += connection.recv()
        return total
    except (EOFError, OSError):
        return None
    finally:
        for process, connection in workers:
            process.kill()
            process.join()
            connection.close()


def _train(
    connection: Connection, config: RunConfig, place: Workplace, threads: int, seconds: float
) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    data = datasets.load(
        config.dataset, root=place.data, cache=place.runs / "cache", device=place.device
    )
    samples = min(_STEPS * config.batch_size, len(data.train))
    config = replace(config, train_size=samples, epochs=10**6)
    trainer = Trainer(
        config, data.prefix(samples), compile=place.compile, graph=place.graph, engine=place.engine
    )
    trainer.train_epoch()
    connection.send("warm")
    connection.recv()
    started = time.perf_counter()
    done = 0
    while time.perf_counter() - started < seconds:
        trainer.train_epoch()
        done += trainer.steps_per_epoch * config.batch_size
    connection.send(done / (time.perf_counter() - started))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _doublings(most: int) -> Iterator[int]:
    jobs = 1
    while jobs <= most:
        yield jobs
        jobs *= 2


def _key(config: RunConfig, place: Workplace) -> str:
    device = torch.device(place.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    speed = (
        name,
        f"{os.cpu_count()} cores",
        f"torch {torch.__version__}",
        config.model,
        config.dataset,
        f"batch {config.batch_size}",
        config.precision,
        "compiled" if place.compile else "eager",
        "replayed" if place.graph else "launched",
        *([f"engine {place.engine}"] if device.type == "cpu" else []),
        *(["shared by MPS"] if PIPES in os.environ else []),
    )
    return ", ".join(speed)


def _known(path: Path) -> dict[str, dict[str, float]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or damaged: it is measured again
        return {}
    return known if isinstance(known, dict) else {}
