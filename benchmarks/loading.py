"""Images a second of the loader alone, by its worker processes, and of a training step."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import spread, synchronise
from paper_repro import data as datasets
from paper_repro.config import RunConfig
from paper_repro.data.loader import Loader
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS
from paper_repro.train import Trainer

__all__ = ["measure"]


def measure(
    root: Path | None,
    device: torch.device,
    *,
    dataset: str = "tinyimagenet20",
    model: str = "resnet20",
    batch_size: int = 64,
    batches: int = 20,
    workers: tuple[int, ...] = (0, 1, 2),
    rounds: int = 5,
) -> dict[str, Any]:
    """Images a second: a device is kept busy by the workers that load more than a step takes.

    The loader's numbers include decoding, cropping and mirroring, not the copy to the device. The
    step is a dense one of S2-SAM with a batch that is there already.
    """
    data = datasets.load(dataset, root=root, device=device)
    config = RunConfig(
        profile="paper",
        dataset=dataset,
        model=model,
        method=METHODS.spec("dense"),
        optimizer=OPTIMIZERS.spec("s2sam"),
        seed=0,
        epochs=10**6,
        batch_size=batch_size,
    )
    images = batches * batch_size
    order = torch.arange(images).split(batch_size)
    loaders = {n: Loader(replace(data, workers=n), True, n) for n in workers}
    rates: dict[str, list[float]] = {}
    trainer = Trainer(config, data, engine="dense")
    index = next(iter(trainer.begin_epoch()))
    ready = trainer.task.batch(index)
    for round_ in range(rounds + 1):  # the first starts the processes and is left out
        for count, loader in loaders.items():
            started = time.perf_counter()
            for _ in loader.batches("train", order, round_):
                pass
            rate = images / (time.perf_counter() - started)
            rates.setdefault(f"loader, {count} workers", []).append(rate)
        synchronise(device)
        started = time.perf_counter()
        for _ in range(3):
            trainer.optimizer.step(
                trainer.task.closure(ready, trainer.model, optimizer=trainer.optimizer)
            )
        synchronise(device)
        rate = 3 * batch_size / (time.perf_counter() - started)
        rates.setdefault(f"{model}'s step", []).append(rate)
    return {f"{name}, images/s": spread(values[1:]) for name, values in rates.items()}
