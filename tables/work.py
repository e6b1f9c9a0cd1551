"""FLOPs of runs that need not have been trained."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import nn

from paper_repro.config import RunConfig
from paper_repro.measure.flops import inference_flops, layer_macs, planned_flops
from paper_repro.models import MODELS
from paper_repro.sparse import METHODS

__all__ = ["Work", "work"]

#: Training images, classes, and the shape of an image, so that nobody needs the data to count.
_DATA = {
    "cifar10": (50_000, 10, (3, 32, 32)),
    "cifar100": (50_000, 100, (3, 32, 32)),
    "digits": (1_437, 10, (1, 8, 8)),
    "imagenet": (1_281_167, 1000, (3, 224, 224)),
    "tinyimagenet20": (10_000, 20, (3, 64, 64)),
}


@dataclass(frozen=True)
class Work:
    """FLOPs of a run, by :mod:`paper_repro.measure.flops`.

    Attributes:
        training: of the whole training with one gradient a step, dense gradients at topology
            updates included.
        inference: of one image through the trained network.
        estimated: whether the layers' shares are a guess (:class:`paper_repro.sparse.Plan`).
    """

    training: float
    inference: float
    estimated: bool = False


@functools.cache
def _network(model: str, dataset: str) -> tuple[nn.Module, dict[str, int]]:
    _, classes, image = _DATA[dataset]
    with torch.device("meta"):  # shapes without numbers, in no time
        network = MODELS.build(MODELS.spec(model), classes=classes, channels=image[0])
    return network, layer_macs(network, image)


def work(config: RunConfig) -> Work | None:
    """What a run costs; None for methods whose layers' densities only training shows."""
    samples = _DATA[config.dataset][0]
    per_epoch = min(samples, config.train_size or samples) // config.batch_size
    model, macs = _network(config.model, config.dataset)
    spec = config.method
    plan = METHODS[spec.name].planned(spec, model, per_epoch * config.epochs, per_epoch)
    if plan is None:
        return None
    training = math.fsum(planned_flops(macs, plan, config.batch_size).values())
    return Work(training, inference_flops(macs, plan.final), plan.estimated)
