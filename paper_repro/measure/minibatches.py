"""The training loss of random minibatches, and its gradient, at weights given as one vector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.func import functional_call

from paper_repro.data import Augmenter, Dataset
from paper_repro.errors import UserError
from paper_repro.measure.trained import Trained
from paper_repro.sparse.scoring import undisturbed

__all__ = ["Batch", "Minibatches"]

Batch = tuple[Tensor, Tensor]


class Minibatches:
    """What an optimizer meets in training: augmented batches, batch norm by the batch's statistics.

    Attributes:
        weights: w, every trainable parameter in one float32 vector.
        active: bool, of the same shape: False where a weight is pruned.

    Args:
        trained: the network; it must see images.
        size: of a batch, drawn with replacement.
        seed: of the batches.

    Raises:
        UserError: the network sees no images or streamed ones, or a batch has fewer than 2.
    """

    def __init__(self, trained: Trained, size: int, seed: int) -> None:
        if trained.normalise is None:
            raise UserError("minibatches are drawn from images, and this network sees none")
        if not isinstance(trained.data, Dataset):
            raise UserError("minibatches are drawn from images in memory, and these are streamed")
        if size < 2:
            raise UserError(f"a minibatch needs at least 2 images, not {size}")
        self.trained, self.size = trained, size
        self.augmenter = Augmenter(trained.data)
        self.labels = trained.data.train.labels
        self.generator = torch.Generator(device=self.labels.device).manual_seed(seed)
        named = {n: p.detach() for n, p in trained.model.named_parameters() if p.requires_grad}
        self._shapes = {name: p.shape for name, p in named.items()}
        self.weights = torch.cat([p.flatten() for p in named.values()])
        whole = {n: torch.ones_like(p, dtype=torch.bool) for n, p in named.items()}
        self.active = torch.cat([trained.masks.get(n, whole[n]).flatten() for n in named])

    @contextmanager
    def training(self) -> Iterator[None]:
        """Inside, losses are those of training; afterwards the network is as it was."""
        with undisturbed(self.trained.model, training=True), torch.enable_grad():
            yield

    def draw(self, size: int | None = None) -> Batch:
        """Inputs and labels of a new batch."""
        n, device = len(self.labels), self.labels.device
        index = torch.randint(n, (size or self.size,), generator=self.generator, device=device)
        plan = self.augmenter.draw(n, self.generator)
        return self.augmenter.batch(index, plan), self.labels[index]

    def loss(self, at: Tensor, batch: Batch) -> Tensor:
        """Mean loss of a batch in nats at the weights ``at``; use within :meth:`training`."""
        inputs, labels = batch
        parts = at.split([shape.numel() for shape in self._shapes.values()])
        named = {
            name: part.view(shape)
            for part, (name, shape) in zip(parts, self._shapes.items(), strict=True)
        }
        outputs = functional_call(self.trained.model, named, (inputs,))
        found: Tensor = self.trained.loss_fn(outputs.float(), labels)
        return found

    def gradient(self, at: Tensor, batch: Batch) -> Tensor:
        """Gradient of :meth:`loss`, 0 at pruned weights."""
        here = at.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.loss(here, batch), here)
        return gradient * self.active
