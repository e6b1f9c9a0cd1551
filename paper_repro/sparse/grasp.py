"""GraSP: pruning before training that preserves gradient flow (Wang, Zhang and Grosse 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.registry import Spec
from paper_repro.sparse import METHODS
from paper_repro.sparse.distribution import check_sparsity, prunable
from paper_repro.sparse.masks import Masks
from paper_repro.sparse.method import BatchRequest, SparseMethod
from paper_repro.sparse.scoring import LossFn, undisturbed
from paper_repro.sparse.select import keep_largest_globally

__all__ = ["GraSP", "hessian_gradient"]


@METHODS.register("grasp")
class GraSP(SparseMethod):
    r"""Remove the weights with the highest :math:`-w \odot (H g)` at initialisation.

    g and H are gradient and Hessian of the loss at logits / T with respect to all convolution and
    linear weights, on a class-balanced batch in training mode. The score is the first-order
    change of :math:`g^\top g` if the weight is removed; the ranking is global. Nothing keeps a
    layer from losing all of its weights.

    Scores are taken at the weights that are trained afterwards; the authors' code draws another
    classifier (Xavier) for the scoring and evaluates two halves of the batch apart.

    Args:
        model: the network at initialisation.
        optimizer: the optimizer that will train it.
        sparsity: pruned fraction of all prunable weights, in [0, 1).
        batch: images and labels to score on.
        loss_fn: of logits and labels.
        per_class: images of each class in one iteration (the authors': 10, CIFAR-100 at 98 %: 5).
        iterations: batches over which g and H are averaged, for a memory that cannot hold one
            large batch (CIFAR-100 at 98 %: 2).
        temperature: T.

    Raises:
        UserError: for options out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        *,
        sparsity: float,
        batch: tuple[Tensor, Tensor],
        loss_fn: LossFn = cross_entropy,
        per_class: int = 10,
        iterations: int = 1,
        temperature: float = 200.0,
    ) -> None:
        if per_class < 1 or iterations < 1 or not temperature > 0:
            raise UserError(
                "GraSP needs per_class >= 1, iterations >= 1 and temperature > 0, "
                f"not {per_class}, {iterations} and {temperature}"
            )
        super().__init__(model, optimizer)
        check_sparsity(sparsity)
        weights = prunable(model)
        images, labels = batch
        parts = [(images[i], labels[i]) for i in _balanced(labels, iterations)]
        flow = hessian_gradient(model, loss_fn, parts, temperature)
        # The highest -w Hg go, so the largest w Hg stay.
        scores = {name: w.detach() * flow[name] for name, w in weights.items()}
        total = sum(w.numel() for w in weights.values())
        self.masks = Masks(
            model, optimizer, keep_largest_globally(scores, round((1 - sparsity) * total))
        )

    @classmethod
    def batch_request(cls, spec: Spec) -> BatchRequest:
        return BatchRequest(size=spec["per_class"] * spec["iterations"], per_class=True)


def _balanced(labels: Tensor, parts: int) -> list[Tensor]:
    """Indices of ``labels`` dealt to ``parts`` so that each has its share of every class.

    Targets of several numbers each have no class and are dealt in turn.
    """
    if labels.ndim > 1:
        turn = torch.arange(len(labels), device=labels.device)
        return list(turn.tensor_split(min(parts, len(turn))))
    dealt = torch.empty_like(labels)
    for c in labels.unique():
        members = (labels == c).nonzero().squeeze(1)
        dealt[members] = torch.arange(len(members), device=labels.device) % parts
    indices = [(dealt == i).nonzero().squeeze(1) for i in range(parts)]
    return [i for i in indices if len(i)]


def hessian_gradient(
    model: nn.Module,
    loss_fn: LossFn,
    parts: list[tuple[Tensor, Tensor]],
    temperature: float = 1.0,
) -> dict[str, Tensor]:
    """H g for every prunable weight, by name; the loss is the mean over all samples of ``parts``.

    Each part is a forward pass of its own, with batch-norm statistics of its own.
    """
    weights = prunable(model)
    leaves = list(weights.values())
    samples = sum(len(labels) for _, labels in parts)

    def gradient(images: Tensor, labels: Tensor, create_graph: bool) -> tuple[Tensor, ...]:
        loss = loss_fn(model(images) / temperature, labels) * (len(labels) / samples)
        return torch.autograd.grad(loss, leaves, create_graph=create_graph)

    with undisturbed(model), torch.enable_grad():
        g = [torch.zeros_like(w) for w in leaves]
        for images, labels in parts:
            g = [a + b for a, b in zip(g, gradient(images, labels, False), strict=True)]
        flow = [torch.zeros_like(w) for w in leaves]
        for images, labels in parts:
            live = gradient(images, labels, True)
            inner = torch.stack([(a * b).sum() for a, b in zip(live, g, strict=True)]).sum()
            flow = [a + b for a, b in zip(flow, torch.autograd.grad(inner, leaves), strict=True)]
    return {name: h.detach() for name, h in zip(weights, flow, strict=True)}
