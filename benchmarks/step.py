"""What S2-SAM and SAM cost: whole training steps, the optimizer's step alone, and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.memory import peak_bytes
from benchmarks.setup import Stepper, config
from benchmarks.timing import interleaved, ratios, spread
from paper_repro.data import Dataset
from paper_repro.train import Trainer

__all__ = ["OPTIMIZERS", "measure"]

OPTIMIZERS = ("sgd", "s2sam", "sam")


def measure(
    data: Dataset,
    *,
    model: str = "resnet32x2",
    batch_size: int = 64,
    precision: str = "float32",
    graph: bool = False,
    rounds: int = 40,
    warmup: int = 5,
) -> dict[str, Any]:
    """Times in milliseconds, ratios round by round, and memory in bytes and parameter sizes.

    With ``graph`` only whole steps are measured, each replayed as one CUDA graph.
    """
    device = data.train.images.device
    trainers = {
        name: Trainer(config(name, model, batch_size, precision), data, graph=graph, engine="dense")
        for name in OPTIMIZERS
    }
    steps = {name: Stepper(trainer) for name, trainer in trainers.items()}
    whole = interleaved(steps, rounds, warmup, device)
    results: dict[str, Any] = {
        "model": model,
        "batch_size": batch_size,
        "precision": precision,
        "rounds": rounds,
        "step_ms": {name: spread([1e3 * s for s in seconds]) for name, seconds in whole.items()},
        "step_ratio": _ratios(whole),
    }
    if graph:
        return results
    parameter_bytes = sum(p.numel() * p.element_size() for p in _parameters(trainers["sgd"]))
    memory = {}
    for name, trainer in trainers.items():
        memory[name] = {
            "state": _state_bytes(trainer),
            "peak": peak_bytes(steps[name], device) + _state_bytes(trainer),
        }
    bare = interleaved(
        {name: _bare_step(trainer) for name, trainer in trainers.items()}, rounds, warmup, device
    )
    return {
        **results,
        "parameter_bytes": parameter_bytes,
        "optimizer_ms": {
            name: spread([1e3 * s for s in seconds]) for name, seconds in bare.items()
        },
        "memory_bytes": memory,
        "extra_buffers": {
            name: {
                kind: (memory[name][kind] - memory["sgd"][kind]) / parameter_bytes
                for kind in ("state", "peak")
            }
            for name in OPTIMIZERS[1:]
        },
    }


def _ratios(seconds: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "s2sam/sgd": ratios(seconds["s2sam"], seconds["sgd"]),
        "sam/sgd": ratios(seconds["sam"], seconds["sgd"]),
        "sam/s2sam": ratios(seconds["sam"], seconds["s2sam"]),
    }


def _parameters(trainer: Trainer) -> list[Tensor]:
    return list(trainer.model.parameters())


def _state_bytes(trainer: Trainer) -> int:
    state = trainer.optimizer.state
    return sum(
        x.numel() * x.element_size()
        for values in state.values()
        for x in values.values()
        if isinstance(x, Tensor)
    )


def _bare_step(trainer: Trainer) -> Callable[[], object]:
    """The optimizer's work in a step, around gradients that are simply there."""
    optimizer = trainer.optimizer
    for p in _parameters(trainer):
        p.grad = 1e-3 * torch.randn_like(p)
    trainer.method.masks.apply()
    base_step = _without_topology(trainer)
    if hasattr(optimizer, "first_step"):  # SAM's two passes, driven by hand

        def both() -> None:
            optimizer.first_step()
            base_step()

        return both
    return base_step


def _without_topology(trainer: Trainer) -> Callable[[], object]:
    trainer.method.detach()  # puts the optimizer's own step back
    return trainer.optimizer.step  # type: ignore[return-value]
