"""What skipping the zeros saves: whole training steps of each engine, data included."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.setup import Stepper, config
from benchmarks.timing import interleaved, ratios, spread
from paper_repro.data import Dataset
from paper_repro.experiment.packing import images_per_second
from paper_repro.experiment.runs import Workplace
from paper_repro.optim import OPTIMIZERS
from paper_repro.registry import Spec
from paper_repro.sparse import METHODS
from paper_repro.train import Trainer

__all__ = ["CONTENDERS", "measure", "together"]

#: Name: optimizer, precision of the run, engine.
CONTENDERS: dict[str, tuple[Spec, str, str]] = {
    "dense float32": (OPTIMIZERS.spec("s2sam"), "float32", "dense"),
    "dense bf16": (OPTIMIZERS.spec("s2sam"), "bf16", "dense"),
    "sparse": (OPTIMIZERS.spec("s2sam"), "float32", "sparse"),
    "sparse, SGD": (OPTIMIZERS.spec("sgd"), "float32", "sparse"),
    "sparse, SAM": (OPTIMIZERS.spec("sam"), "float32", "sparse"),
    "sparse-bf16": (OPTIMIZERS.spec("s2sam"), "float32", "sparse-bf16"),
    # The released code perturbs pruned weights too: the network it takes gradients of is dense.
    "dense perturbation": (
        OPTIMIZERS.spec(
            "released",
            stale_perturbation=False,
            after_step="keep",
            adaptive=False,
            mask_after_step=False,
            frozen_bias=False,
            dense_perturbation=True,
        ),
        "float32",
        "auto",
    ),
}


def measure(
    data: Dataset,
    *,
    model: str = "resnet32x2",
    batch_size: int = 64,
    sparsities: Sequence[float] = (0.9, 0.95, 0.98),
    rounds: int = 12,
    warmup: int = 2,
) -> dict[str, Any]:
    """Milliseconds of an S2-SAM step, images a second, and ratios round by round."""
    results: dict[str, Any] = {"model": model, "batch_size": batch_size, "rounds": rounds}
    for sparsity in sparsities:
        steps = {}
        engines = {}
        for name, (optimizer, precision, engine) in CONTENDERS.items():
            run = replace(
                config("s2sam", model, batch_size, precision),
                optimizer=optimizer,
                method=METHODS.spec("mest", sparsity=sparsity),
            )
            trainer = Trainer(run, data, engine=engine)
            engines[name] = trainer.engine
            steps[name] = Stepper(trainer)
        seconds = interleaved(steps, rounds, warmup, torch.device("cpu"))
        results[f"{sparsity:.0%}"] = {
            "engine": engines,
            "step_ms": {n: spread([1e3 * s for s in v]) for n, v in seconds.items()},
            "images_per_second": {
                n: spread([batch_size / s for s in v]) for n, v in seconds.items()
            },
            "speedup": {
                f"{fast} over {slow}": ratios(seconds[slow], seconds[fast])
                for fast in ("sparse", "sparse-bf16")
                for slow in ("dense float32", "dense bf16")
            },
            "S2-SAM over SGD": ratios(seconds["sparse"], seconds["sparse, SGD"]),
            "SAM over SGD": ratios(seconds["sparse, SAM"], seconds["sparse, SGD"]),
            "dense perturbation over S2-SAM": ratios(
                seconds["dense perturbation"], seconds["sparse"]
            ),
        }
    return results


def together(
    root: Path | None,
    *,
    model: str = "resnet32x2",
    sparsity: float = 0.98,
    turns: int = 3,
    seconds: float = 10.0,
) -> dict[str, Any]:
    """Images a second of one and of two processes with a thread each, in turns."""
    run = replace(config("s2sam", model), method=METHODS.spec("mest", sparsity=sparsity))
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as scratch:
        place = Workplace(data=root, runs=Path(scratch), engine="sparse")
        for turn in range(turns):
            for jobs in (1, 2) if turn % 2 == 0 else (2, 1):
                rate = images_per_second(run, place, jobs, seconds, threads=1)
                if rate is not None:
                    rates[jobs].append(rate)
    return {
        "sparsity": sparsity,
        **{f"{jobs} processes": spread(values) for jobs, values in rates.items() if values},
        "2 processes over 1": ratios(rates[2], rates[1]),
    }
