"""What a task answers, so that the training loop need not know images from sentences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from paper_repro.optim import Closure
from paper_repro.sparse.method import BatchRequest

__all__ = ["Batch", "Task"]


@dataclass(frozen=True)
class Batch:
    """One step's samples, along the first dimension.

    Attributes:
        inputs: what the model is called with.
        target: what its outputs are compared with.
        index: int64 [B], which samples of the training set these are.
    """

    inputs: Tensor
    target: Tensor
    index: Tensor


class Task(ABC):
    """A data set seen as something to train on: batches, a loss, and a score.

    A data set names its task in an attribute ``task``, and the trainer builds that one of
    ``paper_repro.train.TASKS`` as ``task(config, data)``. Sparse methods, optimizers and the loop
    take what it gives as it is. All randomness of an epoch is drawn in :meth:`begin_epoch` from the
    trainer's generator; a task holds no random state of its own, so that a run resumed at the
    beginning of an epoch ends bit-identical to one never stopped.

    Attributes:
        device: to train on.
        samples: in the training set.
        steps_per_epoch: full batches in it, at least 1.
    """

    #: What is counted by speeds and FLOPs: curves hold ``<unit>_per_second``.
    unit: ClassVar[str] = "samples"

    #: The metric among those of :meth:`evaluate` that records report, in % or points: more is
    #: better. A record's ``accuracy`` holds its last and its best value.
    score: ClassVar[str]

    #: Whether :meth:`batch` does the same operations on the same memory for every index tensor,
    #: without waiting for the device, so that a CUDA graph may hold it.
    replayable: ClassVar[bool] = False

    device: torch.device
    samples: int
    steps_per_epoch: int

    @property
    def image(self) -> tuple[int, int, int] | None:
        """Channels, height and width of a sample, if it is an image."""
        return None

    @property
    def normalise(self) -> Callable[[Tensor], Tensor] | None:
        """uint8 images [B, H, W, C] to the model's input; None where it sees no images."""
        return None

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The config's network with its initial weights, on ``device``."""

    @abstractmethod
    def macs(self, model: nn.Module) -> dict[str, int]:
        """Multiply-accumulates of one sample's dense forward pass, by the weight's name."""

    @property
    @abstractmethod
    def loss_fn(self) -> Callable[..., Tensor]:
        """The training loss ``loss_fn(outputs, target, reduction=...)``, as Closure has it.

        The reduction "none" gives one loss a sample, shape [B], however many outputs a sample has.
        """

    @property
    @abstractmethod
    def plain_loss_fn(self) -> Callable[..., Tensor]:
        """The loss without what only helps training (label smoothing): masks are scored by it."""

    @abstractmethod
    def begin_epoch(self, generator: torch.Generator) -> Iterable[Tensor]:
        """Draw the epoch's order and augmentation; each step's sample indices, int64 [B]."""

    @abstractmethod
    def batch(self, index: Tensor) -> Batch:
        """The samples ``index`` as this epoch's plan has them."""

    @abstractmethod
    def count(self, closure: Closure) -> None:
        """Add a step's outputs to the epoch's sums, on the device and without waiting for it."""

    @abstractmethod
    def training_metrics(self) -> dict[str, float]:
        """What :meth:`count` summed up since :meth:`begin_epoch`, beside the loss."""

    @abstractmethod
    def scoring_batch(
        self, request: BatchRequest, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Inputs and targets of random training samples as they are, without augmentation."""

    @abstractmethod
    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """``test_loss`` and the other metrics, ``score`` among them, of ``model`` as it stands."""

    def closure(self, batch: Batch, forward: Callable[[Tensor], Tensor], **options: Any) -> Closure:
        """What ``optimizer.step`` gets; ``options`` are the trainer's: optimizer and context."""
        return Closure(
            forward,
            batch.inputs,
            batch.target,
            loss_fn=self.loss_fn,
            index=batch.index,
            samples=self.samples,
            **options,
        )
