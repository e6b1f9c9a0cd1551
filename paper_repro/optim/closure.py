"""What a training loop hands to ``optimizer.step``: one batch's loss, in more ways than one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.errors import UserError

__all__ = ["Closure", "given", "needed"]


class Closure:
    """The loss of one batch: called without arguments, a closure as every PyTorch optimizer knows.

    A call zeroes the gradients, runs forward and backward at the parameters of the moment and
    returns the loss, of the whole batch or of some of its samples. Some optimizers also ask for
    every sample's loss without gradients (ESAM, ZO-SAM) or add a term of the outputs (SAF)::

        for index in batches:
            closure = Closure(model, images[index], labels[index], optimizer, index=index)
            optimizer.step(closure)
            total += closure.loss

    Args:
        forward: the model, or what runs it.
        inputs: of the batch, samples along the first dimension: a tensor, or what is indexed like
            one.
        target: labels, in the same order.
        optimizer: whose gradients a call zeroes (to None).
        loss_fn: ``loss_fn(outputs, target, reduction=...)`` with reductions "mean" and "none", as
            the losses in ``torch.nn.functional``.
        index: of each sample within the training set; SAF needs it.
        samples: of the whole training set; SAF needs it.
        context: makes the context in which the model runs, such as autocast.

    Attributes:
        loss: the first call's mean loss, without added terms and detached; set by it.
        outputs: the first call's, in float32 or wider and detached; set by it.
    """

    def __init__(
        self,
        forward: Callable[[Any], Tensor],
        inputs: Any,
        target: Tensor,
        optimizer: Optimizer,
        *,
        loss_fn: Callable[..., Tensor] = F.cross_entropy,
        index: Tensor | None = None,
        samples: int = 0,
        context: Callable[[], Any] = contextlib.nullcontext,
    ) -> None:
        self.forward = forward
        self.inputs = inputs
        self.target = target
        self.optimizer = optimizer
        self.loss_fn = loss_fn
        self.index = index
        self.samples = samples
        self.context = context
        self.called = False
        self.loss: Tensor
        self.outputs: Tensor
        #: Called with the outputs (and with gradients on); what they return is added to the loss.
        self.terms: list[Callable[[Tensor], Tensor]] = []

    def __call__(self, subset: Tensor | None = None) -> Tensor:
        """Gradients and loss of the batch, or of the samples at the positions ``subset``."""
        self.optimizer.zero_grad(set_to_none=True)
        outputs = self._outputs(self.inputs if subset is None else self.inputs[subset])
        target = self.target if subset is None else self.target[subset]
        loss = self.loss_fn(outputs, target, reduction="mean")
        if not self.called:  # extra passes of the same step are not the training loss
            self.called, self.loss, self.outputs = True, loss.detach(), outputs.detach()
        for term in self.terms:
            loss = loss + term(outputs)
        loss.backward()
        return loss

    @torch.no_grad()
    def sample_losses(self, outputs: Tensor | None = None) -> Tensor:
        """Every sample's loss, shape (batch,): of ``outputs``, or of a forward pass of its own."""
        outputs = self._outputs(self.inputs) if outputs is None else outputs
        return self.loss_fn(outputs, self.target, reduction="none")

    def _outputs(self, inputs: Any) -> Tensor:
        with self.context():
            outputs = self.forward(inputs)
        return outputs if outputs.dtype == torch.float64 else outputs.float()


def needed(closure: Callable[[], Any] | None, name: str, why: str) -> Closure:
    """``closure`` itself if it is a :class:`Closure`.

    Raises:
        UserError: it is another one, or none; ``why`` optimizer ``name`` needs it is said.
    """
    if not isinstance(closure, Closure):
        raise UserError(f"{name}.step needs a paper_repro.optim.Closure, because {why}")
    return closure


def given(closure: Callable[[], Any] | None, name: str, when: str = "a step") -> Callable[[], Any]:
    """``closure`` itself, where any will do but there must be one.

    Raises:
        UserError: there is none; that optimizer ``name`` takes two gradients ``when`` is said.
    """
    if closure is None:
        raise UserError(
            f"{name}.step needs a closure that zeroes the gradients, runs forward and backward, "
            f"and returns the loss, because it takes two gradients {when}"
        )
    return closure
