"""What a record says of a run that has ended."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from paper_repro.measure.compaction import compaction
from paper_repro.measure.flops import inference_flops
from paper_repro.train import Trainer
from paper_repro.train.precision import autocast, float32_as

__all__ = ["outcome"]


def outcome(trainer: Trainer, reason: str | None) -> dict[str, Any]:
    """The body of a run's record, but for its environment.

    Args:
        trainer: after the run's last epoch.
        reason: why it ended before, if it did.
    """
    masks = trainer.method.masks
    curve = trainer.curve
    # Some methods are denser than asked until late in the training: their best epoch is the best
    # of those in which the network was as sparse as in the end.
    score, unit = trainer.task.score, trainer.task.unit
    facts = trainer.task.facts()
    scored = [line for line in curve if score in line]
    final = [line[score] for line in scored if line["sparsity"] == scored[-1]["sparsity"]]
    seconds = sum(line["seconds"] for line in curve)
    units = len(curve) * trainer.task.units_per_epoch
    device = trainer.device
    if device.type == "cuda":
        memory = {"device_peak_bytes": torch.cuda.max_memory_allocated(device)}
    else:  # of the whole process, which may have trained other runs before
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        memory = {"process_peak_bytes": peak * (1 if sys.platform == "darwin" else 1024)}
    return {
        "reason": reason,
        **({} if score == "test_accuracy" else {"score": score}),
        **({"task_facts": facts} if facts else {}),
        "accuracy": {
            "last": scored[-1][score] if scored else None,
            "best": max(final, default=None),
        },
        "sparsity": {
            "asked": trainer.config.sparsity,
            "masked_layers": masks.sparsity(),
            "overall": masks.sparsity(overall=True),
            "missed": trainer.method.missed(trainer.config.sparsity),
        },
        "layer_densities": masks.densities(),
        "method_facts": trainer.method.facts(),
        "flops": _flops(trainer),
        **_compaction(trainer, reason),
        "speed": {
            "seconds": seconds,
            f"{unit}_per_second": units / seconds if seconds else None,
            # Means over the run, whose ρ may have been 0 for a part of it.
            "gradients_per_step": _mean(curve, "gradients_per_step", trainer.cost()[0]),
            "forwards_per_step": _mean(curve, "forwards_per_step", trainer.cost()[1]),
        },
        "memory": memory,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "curve": curve,
    }


def _mean(curve: Sequence[Mapping[str, Any]], name: str, otherwise: float) -> float:
    """Over the epochs, those of which a checkpoint does not say it counted with ``otherwise``."""
    return math.fsum(line.get(name, otherwise) for line in curve) / max(1, len(curve))


def _flops(trainer: Trainer) -> dict[str, float]:
    """``training`` takes each epoch at its last masks; what dense gradients for topology updates
    cost beyond that is beside it (since the first records, which do not say)."""
    return {
        "inference": inference_flops(trainer.work.macs, trainer.method.masks.densities()),
        "inference_dense": inference_flops(trainer.work.macs, {}),
        "training": trainer.work.training,
        "training_dense_gradients": trainer.work.dense_gradients,
    }


def _compaction(trainer: Trainer, reason: str | None) -> dict[str, Any]:
    """What a network without its removed channels gains, if the method removed some."""
    image = trainer.task.image
    if reason is not None or image is None or not trainer.method.structured:
        return {}
    how, device = trainer.arithmetic, trainer.device
    masks, size = trainer.method.masks.state_dict(), min(64, trainer.config.batch_size)
    with float32_as(how, device), autocast(how, device):
        return {"compaction": compaction(trainer.model, masks, image, size)}
