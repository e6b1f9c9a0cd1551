"""The largest Hessian eigenvalue of a trained network, over the active and over all weights."""

from __future__ import annotations

from typing import Any

import torch

from paper_repro.errors import UserError
from paper_repro.measure import MEASURES
from paper_repro.measure.diagnostics import largest_eigenvalue
from paper_repro.measure.minibatches import Minibatches
from paper_repro.measure.trained import Trained

__all__ = ["curvature"]


@MEASURES.register("curvature")
def curvature(
    trained: Trained, *, samples: int = 256, iterations: int = 10, seed: int = 0
) -> dict[str, Any]:
    r"""Largest eigenvalue h_max of the training loss's Hessian at w, by power iteration.

    The loss is that of one large augmented batch with batch norm by its statistics: the function
    that the optimizer descends on. Stability speaks of :math:`\eta h` and :math:`\rho h`; an
    optimizer that leaves pruned weights at 0 meets the Hessian of the active ones alone.

    Args:
        trained: the network.
        samples: images in the batch.
        iterations: Hessian-vector products; the value grows towards the eigenvalue.
        seed: of the batch and the iteration's start.

    Returns:
        ``active``: h_max over the active weights, in nats per squared weight; ``all``: over all
        weights, the pruned ones too.

    Raises:
        UserError: no iterations, or the network sees no images.
    """
    if iterations < 1:
        raise UserError("curvature needs at least 1 iteration")

    def measure(which: str) -> float:
        batches = Minibatches(trained, samples, seed)
        generator = torch.Generator(device=batches.weights.device).manual_seed(seed)
        factors = batches.active if which == "active" else torch.ones_like(batches.active)
        with batches.training():
            batch = batches.draw()
            return largest_eigenvalue(
                lambda at: batches.loss(at[0], batch),
                [batches.weights],
                [factors.float()],
                generator,
                iterations,
            )

    return trained.parts.each(("active", "all"), measure, desc="largest eigenvalue")
