"""What is chosen by measurement: processes at once, and whether compiling pays."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.setup import Stepper
from benchmarks.timing import interleaved, ratios, spread, synchronise
from paper_repro import data as datasets
from paper_repro.config import RunConfig
from paper_repro.experiment.packing import images_per_second
from paper_repro.experiment.profiles import profile
from paper_repro.experiment.runs import Workplace
from paper_repro.optim import OPTIMIZERS
from paper_repro.train import Trainer

__all__ = ["compiled", "packing"]


def _typical(name: str) -> RunConfig:
    size = profile(name)
    method = size.method("mest", sparsity=0.9)
    return size.config("cifar10", "resnet32x2", method, OPTIMIZERS.spec("s2sam"), seed=0)


def packing(root: Path | None, device: torch.device, quick: bool) -> dict[str, Any]:
    """Images a second of 1, 2, 4, ... training processes together, in turns, for each profile."""
    results: dict[str, Any] = {}
    counts = (1, 2) if device.type == "cpu" else (1, 2, 4, 8)
    turns, seconds = (1, 0.3) if quick else (5, 15.0)
    with tempfile.TemporaryDirectory() as scratch:
        graph = device.type == "cuda"
        place = Workplace(data=root, runs=Path(scratch), device=str(device), graph=graph)
        for name in ("smoke",) if quick else ("smoke", "cpu"):
            config = _typical(name)
            rates: dict[int, list[float]] = {jobs: [] for jobs in counts}
            for turn in range(turns):
                for jobs in counts if turn % 2 == 0 else reversed(counts):
                    rate = images_per_second(config, place, jobs, seconds)
                    if rate is not None:
                        rates[jobs].append(rate)
            results[name] = {
                f"{jobs} processes": spread(values) for jobs, values in rates.items() if values
            }
            results[name]["2 processes over 1"] = ratios(rates[2], rates[1])
    return results


def compiled(root: Path | None, device: torch.device, quick: bool, rounds: int) -> dict[str, Any]:
    """The cpu profile's step with and without ``torch.compile``, and what compiling takes."""
    config = _typical("smoke" if quick else "cpu")
    data = datasets.load(config.dataset, root=root, device=device)
    data = data.prefix(min(len(data.train), 200 * config.batch_size))
    config = replace(config, train_size=len(data.train))
    steps = {}
    first = {}
    for name, compile in (("eager", False), ("compiled", True)):
        steps[name] = Stepper(Trainer(config, data, compile=compile, engine="dense"))
        synchronise(device)
        started = time.perf_counter()
        steps[name]()
        synchronise(device)
        first[name] = time.perf_counter() - started
    seconds = interleaved(steps, rounds, 5, device)
    return {
        "model": config.model,
        "precision": config.precision,
        "first_step_s": first,
        "step_ms": {name: spread([1e3 * s for s in values]) for name, values in seconds.items()},
        "eager/compiled": ratios(seconds["eager"], seconds["compiled"]),
    }
