"""Look at a model's gradients without leaving a trace on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from paper_repro.sparse.distribution import prunable

__all__ = ["LossFn", "undisturbed", "weight_gradients"]

LossFn = Callable[[Tensor, Tensor], Tensor]


@contextlib.contextmanager
def undisturbed(model: nn.Module, training: bool = True) -> Iterator[None]:
    """Inside, run the model in training mode, or in evaluation mode, as you like.

    Afterwards its buffers (batch-norm statistics), each module's mode, its gradients and the
    global random state are as they were.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    gradients = {p: p.grad for p in model.parameters()}
    devices = [p.device for p in model.parameters() if p.device.type == "cuda"][:1]
    try:
        # Fused attention has no second derivative.
        with torch.random.fork_rng(devices=devices), sdpa_kernel(SDPBackend.MATH):
            model.train(training)
            yield
    finally:
        with torch.no_grad():
            for name, b in model.named_buffers():
                b.copy_(buffers[name])
        for module, mode in modes.items():
            module.training = mode
        for p, gradient in gradients.items():
            p.grad = gradient


def weight_gradients(
    model: nn.Module, loss_fn: LossFn, batch: tuple[Tensor, Tensor], training: bool = True
) -> dict[str, Tensor]:
    """Gradient of the batch's loss with respect to every prunable weight, by name.

    Not in ``training`` mode, batch norm normalises by its running statistics.
    """
    weights = prunable(model)
    images, labels = batch
    with undisturbed(model, training), torch.enable_grad():
        gradients = torch.autograd.grad(loss_fn(model(images), labels), list(weights.values()))
    return dict(zip(weights, gradients, strict=True))
