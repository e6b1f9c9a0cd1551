"""What every benchmark trains: the paper's ResNet-32 under MEST(EM) masks on 32x32 images."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from paper_repro import data as datasets
from paper_repro.config import RunConfig
from paper_repro.data import Dataset, Split
from paper_repro.optim import OPTIMIZERS
from paper_repro.registry import Spec
from paper_repro.sparse import METHODS
from paper_repro.train import Trainer

__all__ = ["Stepper", "config", "images"]


def images(root: Path | None, device: torch.device, n: int) -> Dataset:
    """``n`` training images: CIFAR-10 where a folder is given or set, else noise of its shape."""
    if root is not None or os.environ.get("PAPER_REPRO_DATA"):
        return datasets.load("cifar10", root=root, device=device, train_size=n)
    generator = torch.Generator().manual_seed(0)

    def split(size: int) -> Split:
        pixels = torch.randint(256, (size, 32, 32, 3), generator=generator, dtype=torch.uint8)
        return Split(pixels, torch.randint(10, (size,), generator=generator)).to(device)

    return Dataset("noise", split(n), split(500), 10, (0.5,) * 3, (0.25,) * 3, pad=4, flip=True)


def config(
    optimizer: str,
    model: str = "resnet32x2",
    batch_size: int = 64,
    precision: str = "float32",
    *,
    method: Spec | None = None,
    seed: int = 0,
) -> RunConfig:
    """The paper's setting with one optimizer, by default with MEST(EM) at 90 % sparsity."""
    return RunConfig(
        profile="benchmark",
        dataset="cifar10",
        model=model,
        method=method or METHODS.spec("mest", sparsity=0.9),
        optimizer=OPTIMIZERS.spec(optimizer),
        seed=seed,
        epochs=160,
        batch_size=batch_size,
        precision=precision,
    )


class Stepper:
    """Calls one training step of a trainer after the other, from epoch to epoch."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._batches = iter(trainer.begin_epoch())

    def __call__(self) -> None:
        index = next(self._batches, None)
        if index is None:
            self._batches = iter(self.trainer.begin_epoch())
            index = next(self._batches)
        self.trainer.step(index)
