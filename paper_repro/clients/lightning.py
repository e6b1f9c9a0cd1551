"""Lightning: evaluate and checkpoint at the weights w, train at u."""

from __future__ import annotations

from typing import Any

from paper_repro.errors import UserError
from paper_repro.optim import unwrapped

try:
    from lightning.pytorch import Callback
    from lightning.pytorch.callbacks import ModelCheckpoint
except ImportError as error:
    raise UserError("this callback is for Lightning: pip install lightning") from error

__all__ = ["AtWeights"]


class AtWeights(Callback):
    """Puts the optimizers into evaluation mode wherever weights are read, and back for training.

    Under :class:`paper_repro.optim.S2SAM` parameters stand at u = w + ε between steps. With this
    callback validation and tests see w, checkpoints hold w as the model's state, and a training
    that goes on from one is bit-identical to one never stopped. ::

        Trainer(callbacks=[AtWeights(), ModelCheckpoint(...)])

    Also for schedule-free optimizers; others have no modes and are left alone. Lightning runs
    checkpoint callbacks last, so they find the parameters at w.
    """

    def on_train_batch_start(self, trainer: Any, *_: Any, **__: Any) -> None:
        _switch(trainer, "train")

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        if any(_by_steps(c) for c in trainer.checkpoint_callbacks):
            _switch(trainer, "eval")

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        _switch(trainer, "eval")

    def on_validation_start(self, trainer: Any, *_: Any) -> None:
        _switch(trainer, "eval")

    def on_test_start(self, trainer: Any, *_: Any) -> None:
        _switch(trainer, "eval")

    def on_predict_start(self, trainer: Any, *_: Any) -> None:
        _switch(trainer, "eval")

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        _switch(trainer, "eval")

    def on_exception(self, trainer: Any, *_: Any) -> None:
        _switch(trainer, "eval")


def _switch(trainer: Any, mode: str) -> None:
    for optimizer in trainer.optimizers:
        change = getattr(unwrapped(optimizer), mode, None)
        if callable(change):
            change()


def _by_steps(callback: Any) -> bool:
    """Whether a checkpoint can be due after a batch."""
    if not isinstance(callback, ModelCheckpoint):
        return True  # one's own: who knows
    return bool(callback._every_n_train_steps or callback._train_time_interval)
