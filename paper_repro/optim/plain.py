"""SGD as textbooks have it: the last lines of every optimizer's plain reference."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["PlainSGD"]


class PlainSGD:
    """v = μ v + g + λ w, then w - η v, on lists of tensors; v starts as g + λ w, as PyTorch's.

    Args:
        lr: η.
        momentum: μ.
        weight_decay: λ.
    """

    def __init__(self, lr: float, momentum: float, weight_decay: float) -> None:
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.velocity: list[Tensor] | None = None

    def step(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        """The weights after a step from ``weights``, which are left alone."""
        pairs = zip(weights, gradients, strict=True)
        decayed = [g + self.weight_decay * w for w, g in pairs]
        if self.velocity is None:
            self.velocity = decayed
        else:
            before = zip(self.velocity, decayed, strict=True)
            self.velocity = [self.momentum * v + d for v, d in before]
        return [w - self.lr * v for w, v in zip(weights, self.velocity, strict=True)]
