"""Accuracy and loss of a model on a split."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paper_repro.data import Split

__all__ = ["evaluate", "score"]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    split: Split,
    normalise: Callable[[Tensor], Tensor],
    batch_size: int = 500,
) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy (%) in evaluation mode; modes are put back.

    Args:
        model: standing at the weights to evaluate.
        split: uint8 images and labels.
        normalise: uint8 [B, H, W, C] to the model's input.
        batch_size: images at once.
    """
    batches = zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True)
    normalised = ((normalise(images), labels) for images, labels in batches)
    loss, correct = score(model, normalised, split.labels.device)
    return float(loss) / len(split), 100.0 * int(correct) / len(split)


@torch.no_grad()
def score(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy (nats) and number of hits in evaluation mode; modes are put back.

    Args:
        model: standing at the weights to evaluate.
        batches: inputs and labels, on ``device``.
        device: where the sums are kept; nothing waits for it.
    """
    modes = {module: module.training for module in model.modules()}
    loss = torch.zeros((), device=device)
    correct = torch.zeros((), device=device, dtype=torch.int64)
    model.eval()
    try:
        for inputs, labels in batches:
            logits = model(inputs).float()
            loss += F.cross_entropy(logits, labels, reduction="sum")
            correct += (logits.argmax(1) == labels).sum()
    finally:
        for module, training in modes.items():
            module.training = training
    return loss, correct
