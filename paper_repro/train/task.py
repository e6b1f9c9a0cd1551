"""What a task answers, so that the training loop need not know images from sentences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.models import MODELS
from paper_repro.optim import Closure
from paper_repro.sparse.method import BatchRequest
from paper_repro.train.ranks import ALONE, Ranks

__all__ = ["Batch", "Task", "check_model"]


def check_model(config: RunConfig, task: str) -> None:
    """Refuse a network that is made for another task than the data set's.

    Raises:
        UserError: it is; the networks that would do are named. A model says what it is for in an
            attribute ``task``; those that say nothing classify images.
    """

    def made_for(model: str) -> str:
        return str(getattr(MODELS[model], "task", "classification"))

    if made_for(config.model) != task:
        fitting = ", ".join(name for name in MODELS if made_for(name) == task)
        raise UserError(
            f"{config.model} is made for {made_for(config.model)}, but {config.dataset} is there "
            f"for {task}; networks for it are {fitting}"
        )


@dataclass(frozen=True)
class Batch:
    """One step's samples, along the first dimension.

    Attributes:
        inputs: what the model is called with: a tensor, or what is indexed by samples like one.
        target: what its outputs are compared with.
        index: int64 [B], which samples of the training set these are.
    """

    inputs: Any
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
        config: the run.
        device: to train on.
        samples: in the training set.
        steps_per_epoch: batches of an epoch, at least 1.
    """

    #: What is counted by speeds and FLOPs, and what :meth:`macs` is of: curves hold
    #: ``<unit>_per_second``.
    unit: ClassVar[str] = "samples"

    #: The metric among those of :meth:`evaluate` that records report, in % or points: more is
    #: better. A record's ``accuracy`` holds its last and its best value.
    score: ClassVar[str]

    #: Whether :meth:`batch` does the same operations on the same memory for every index tensor,
    #: without waiting for the device, so that a CUDA graph may hold it.
    replayable: ClassVar[bool] = False

    #: Whether the task divides batches and test samples among :attr:`ranks`.
    divisible: ClassVar[bool] = False

    #: The processes that train the run together; the trainer sets it before it asks for batches.
    ranks: Ranks = ALONE

    config: RunConfig
    device: torch.device
    samples: int
    steps_per_epoch: int

    @property
    def units_per_epoch(self) -> int:
        """How many of ``unit`` an epoch trains on; full batches of samples, unless overridden."""
        return self.steps_per_epoch * self.config.batch_size

    @property
    def image(self) -> tuple[int, int, int] | None:
        """Channels, height and width of a sample, if it is an image."""
        return None

    @property
    def normalise(self) -> Callable[[Tensor], Tensor] | None:
        """uint8 images [B, H, W, C] to the model's input; None where it sees no images."""
        return None

    def test_images(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Test images by their numbers, as ``normalise`` takes them, and their labels.

        A task that has ``normalise`` has these too.
        """
        raise NotImplementedError(f"{type(self).__name__} has no images")

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The config's network with its initial weights, on ``device``."""

    @abstractmethod
    def macs(self, model: nn.Module) -> dict[str, int]:
        """Multiply-accumulates of one ``unit``'s dense forward pass, by the weight's name."""

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
        """Draw the epoch's order and augmentation; each step's sample indices, int64 [B].

        Of several ranks each draws the same and gives the indices of its own share.
        """

    @abstractmethod
    def batch(self, index: Tensor) -> Batch:
        """The samples ``index`` as this epoch's plan has them."""

    @abstractmethod
    def count(self, closure: Closure) -> None:
        """Add a step's outputs to the epoch's sums, on the device and without waiting for it."""

    @abstractmethod
    def training_metrics(self) -> dict[str, float]:
        """What :meth:`count` summed up since :meth:`begin_epoch`, beside the loss, over ranks."""

    def sums(self) -> dict[str, Tensor] | None:
        """What :meth:`count` has summed up so far, for a checkpoint in the middle of an epoch.

        A task that has it also takes it back (:meth:`load_sums`) after :meth:`begin_epoch`, whose
        result can then be sliced; None where a run can only be resumed at an epoch's beginning.
        """
        return None

    def load_sums(self, sums: Mapping[str, Tensor]) -> None:
        """Go on counting from :meth:`sums`; a task without them is never asked to."""
        raise NotImplementedError(f"{type(self).__name__} begins with whole epochs only")

    @abstractmethod
    def scoring_batch(
        self, request: BatchRequest, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Inputs and targets of random training samples as they are, without augmentation."""

    @abstractmethod
    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """``test_loss`` and the other metrics, ``score`` among them, of ``model`` as it stands."""

    def facts(self) -> dict[str, Any]:
        """What a record should say beside the metrics: how they were measured."""
        return {}

    def files(self) -> Mapping[str, str]:
        """Texts by file name, of the last evaluation, that a run's folder should keep."""
        return {}

    def closure(self, batch: Batch, forward: Callable[[Any], Tensor], **options: Any) -> Closure:
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
