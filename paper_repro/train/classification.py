"""Image classification: what all of it shares, and that with all images in memory."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paper_repro import models
from paper_repro.config import RunConfig
from paper_repro.data import Augmenter, Dataset, Plan, Split
from paper_repro.errors import UserError
from paper_repro.measure.accuracy import evaluate, score
from paper_repro.measure.flops import layer_macs
from paper_repro.optim import Closure
from paper_repro.sparse.method import BatchRequest
from paper_repro.train import TASKS
from paper_repro.train.task import Batch, Task, check_model

__all__ = ["Classification", "ImageClassification"]


class ImageClassification(Task):
    """Cross-entropy and accuracy over images, wherever these are.

    An epoch's incomplete last batch is left out. Label smoothing is the training loss's alone.

    Args:
        config: the run.
        data: knows its name, train and test images, classes, channels and size.
        device: to train on.

    Raises:
        UserError: fewer training images than a batch has, or a network that classifies nothing.
    """

    unit = "images"
    score = "test_accuracy"
    divisible = True

    def __init__(self, config: RunConfig, data: Any, device: torch.device) -> None:
        check_model(config, "classification")
        self.config = config
        self.data = data
        self.device = device
        self.samples = len(data.train)
        self.steps_per_epoch = self.samples // config.batch_size
        if self.steps_per_epoch == 0:
            raise UserError(
                f"batch_size {config.batch_size} exceeds the {self.samples} training images"
            )
        self._loss_fn = functools.partial(F.cross_entropy, label_smoothing=config.label_smoothing)
        self._hits = torch.zeros((), device=self.device, dtype=torch.int64)

    @property
    def image(self) -> tuple[int, int, int]:
        return self.data.channels, self.data.size, self.data.size

    def build_model(self) -> nn.Module:
        model: nn.Module = models.build(
            self.config.model,
            classes=self.data.classes,
            channels=self.data.channels,
            seed=self.config.seed,
            init=self.config.init,
        )
        return model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def macs(self, model: nn.Module) -> dict[str, int]:
        return layer_macs(model, self.image)

    @property
    def loss_fn(self) -> Callable[..., Tensor]:
        return self._loss_fn

    @property
    def plain_loss_fn(self) -> Callable[..., Tensor]:
        return F.cross_entropy

    def count(self, closure: Closure) -> None:
        self._hits += (closure.outputs.argmax(1) == closure.target).sum()

    def training_metrics(self) -> dict[str, float]:
        seen = self.steps_per_epoch * self.config.batch_size
        return {"train_accuracy": 100.0 * int(self.ranks.total(self._hits)) / seen}

    def sums(self) -> dict[str, Tensor]:
        return {"hits": self._hits}

    def load_sums(self, sums: Mapping[str, Tensor]) -> None:
        self._hits.copy_(sums["hits"])

    def picks(self, labels: Tensor, request: BatchRequest, generator: torch.Generator) -> Tensor:
        """Which training images a scoring batch has, int64 on the labels' device."""
        order = torch.randperm(len(labels), generator=generator, device=self.device)
        order = order.to(labels.device)
        if request.per_class:
            picks = [order[labels[order] == c][: request.size] for c in range(self.data.classes)]
            return torch.cat(picks)
        return order[: request.size]

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        loss, accuracy = self.scores(model, "test")
        spare = self.data.spare
        if self.config.test_on != "wide" or spare is None:
            return {"test_loss": loss, "test_accuracy": accuracy}
        other_loss, other = self.scores(model, "spare")
        n, m = len(self.data.test), len(spare)
        return {
            "test_loss": (n * loss + m * other_loss) / (n + m),
            "test_accuracy": (n * accuracy + m * other) / (n + m),
            "official_test_accuracy": accuracy,
        }

    @abstractmethod
    def scores(self, model: nn.Module, split: str) -> tuple[float, float]:
        """Mean cross-entropy (nats) and accuracy (%) on ``test`` or ``spare``, over all ranks."""


_TEST_BATCH = 500  # images at once


@TASKS.register("classification")
class Classification(ImageClassification):
    """Classification of images that are on the device and cropped and flipped in whole batches.

    Args:
        config: the run.
        data: its images and labels, on the device to train on.

    Raises:
        UserError: fewer training images than a batch has.
    """

    replayable = True

    def __init__(self, config: RunConfig, data: Dataset) -> None:
        super().__init__(config, data, data.train.images.device)
        self.augmenter = Augmenter(data, config.augment)
        self._plan: Plan | None = None

    @property
    def normalise(self) -> Callable[[Tensor], Tensor]:
        return self.augmenter.normalise

    def test_images(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        rows = rows.to(self.device)
        return self.data.test.images[rows], self.data.test.labels[rows]

    def begin_epoch(self, generator: torch.Generator) -> Sequence[Tensor]:
        order = torch.randperm(self.samples, generator=generator, device=self.device)
        plan = self.augmenter.draw(self.samples, generator)
        if self._plan is None:
            self._plan = plan
        else:  # in place, where a recorded step reads it
            self._plan.copy_(plan)
        self._hits.zero_()
        size = self.config.batch_size
        batches = order[: self.steps_per_epoch * size].split(size)
        return tuple(self.ranks.share(batch) for batch in batches)

    def batch(self, index: Tensor) -> Batch:
        assert self._plan is not None  # drawn at the epoch's beginning
        return Batch(self.augmenter.batch(index, self._plan), self.data.train.labels[index], index)

    def scoring_batch(
        self, request: BatchRequest, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        labels = self.data.train.labels
        order = self.picks(labels, request, generator)
        return self.augmenter.normalise(self.data.train.images[order]), labels[order]

    def scores(self, model: nn.Module, split: str) -> tuple[float, float]:
        images: Split = getattr(self.data, split)
        if self.ranks.alone:
            return evaluate(model, images, self.augmenter.normalise)
        rows = torch.arange(len(images), device=self.device).split(_TEST_BATCH)
        batches = (
            (self.augmenter.normalise(images.images[some]), images.labels[some])
            for some in self.ranks.rounds(rows)
        )
        sums = score(model, batches, self.device)
        loss, correct = (self.ranks.total(value) for value in sums)
        return float(loss) / len(images), 100.0 * int(correct) / len(images)
