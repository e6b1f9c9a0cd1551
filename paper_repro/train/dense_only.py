"""Which runs only PyTorch can train, whatever their network and masks are."""

from __future__ import annotations

from paper_repro.config import RunConfig
from paper_repro.train.ranks import Ranks
from paper_repro.train.task import Task

__all__ = ["only_dense"]


def only_dense(config: RunConfig, task: Task, ranks: Ranks, compiled: bool) -> str | None:
    """Why the sparse engine cannot train a run, as half a sentence; None where it may.

    What it asks of network, optimizer and method is :func:`paper_repro.engine.engines.obstacle`'s.
    """
    if task.image is None:
        return "it trains on images only"
    if compiled:
        return "the model is to be compiled"
    if config.base != "sgd":
        return f"the run trains with {config.base}"
    if config.average > 1:
        return "the run averages its last weights"
    if config.precision == "bf16":
        return "the run asks for bfloat16 autocast"
    if not ranks.alone:
        return "several ranks train together"
    return None
