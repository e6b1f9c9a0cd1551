"""The project's training loop against a plain one, and what each difference gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.plain import PlainLoop
from benchmarks.setup import Stepper, config
from benchmarks.timing import interleaved, ratios, spread
from paper_repro.data import Dataset
from paper_repro.train import Trainer

__all__ = ["measure"]


def measure(
    data: Dataset,
    *,
    model: str = "resnet32x2",
    batch_size: int = 64,
    rounds: int = 20,
    warmup: int = 3,
    workers: int = 1,
) -> dict[str, Any]:
    """Images a second of each loop, and how much faster than the plain one it is."""
    device = data.train.images.device
    contenders: dict[str, Callable[[], None]] = {}
    switches: dict[str, Any] = {}
    size: dict[str, Any] = {"model": model, "batch_size": batch_size, "workers": workers}
    contenders["plain"] = PlainLoop(data, **size)
    for switch, label in (
        ("batched", "+ augmentation in batches"),
        ("channels_last", "+ channels-last"),
        ("foreach", "+ foreach optimizer and mask hooks"),
        ("deferred", "+ no reading back at every step"),
    ):
        switches[switch] = True
        contenders[label] = PlainLoop(data, **switches, **size)
    ours = {"ours": ("float32", False), "ours, bf16 autocast": ("bf16", False)}
    if device.type == "cuda":
        ours["ours, bf16 autocast, replayed"] = ("bf16", True)
    for label, (precision, graph) in ours.items():
        trainer = Trainer(
            config("s2sam", model, batch_size, precision), data, graph=graph, engine="dense"
        )
        contenders[label] = Stepper(trainer)
    seconds = interleaved(contenders, rounds, warmup, device)
    return {
        "model": model,
        "batch_size": batch_size,
        "rounds": rounds,
        "data": data.name,
        "images_per_second": {
            name: spread([batch_size / s for s in values]) for name, values in seconds.items()
        },
        "speedup": {name: ratios(seconds["plain"], values) for name, values in seconds.items()},
    }
