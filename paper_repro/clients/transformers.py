"""transformers' Trainer: save at the weights w, train at u."""

from __future__ import annotations

from typing import Any

from paper_repro.errors import UserError
from paper_repro.optim import unwrapped

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise UserError("this callback is for transformers: pip install transformers") from error

__all__ = ["AtWeights"]


class AtWeights(TrainerCallback):  # type: ignore[misc]
    """Puts the optimizer into evaluation mode before the Trainer saves, and back for training.

    The Trainer itself does so before it evaluates, but not before it saves: without this callback
    a checkpoint of :class:`paper_repro.optim.S2SAM` holds u = w + ε. With it the model's file holds
    w, and a training resumed from the checkpoint is bit-identical to one never stopped. Give the
    Trainer the optimizer, with the sparse method attached, as ``optimizers=(optimizer, None)``.
    """

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        _switch(kwargs.get("optimizer"), "train")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        last = control.should_training_stop or state.global_step >= state.max_steps
        if last or control.should_save or control.should_evaluate:
            _switch(kwargs.get("optimizer"), "eval")

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_step_end(args, state, control, **kwargs)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        _switch(kwargs.get("optimizer"), "eval")


def _switch(optimizer: Any, mode: str) -> None:
    change = getattr(unwrapped(optimizer), mode, None)
    if callable(change):
        change()
