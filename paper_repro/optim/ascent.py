"""Moving parameters for a while: what the wrappers that look elsewhere within a step share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from paper_repro.optim.base import moved, radius_over_norm

__all__ = ["ascend", "copies", "displaced", "global_dot"]


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies of tensors, made by one foreach operation."""
    new = [torch.empty_like(t) for t in tensors]
    if new:
        torch._foreach_copy_(new, list(tensors))
    return new


@contextlib.contextmanager
def displaced(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Inside, parameters may be moved; afterwards, or if it fails, they are back exactly.

    Yields their values before, which must not be written to: the one buffer that this costs.
    """
    with torch.no_grad():
        saved = copies(parameters)
    try:
        yield saved
    finally:
        if saved:
            with torch.no_grad():
                torch._foreach_copy_(list(parameters), saved)
        moved()


@torch.no_grad()
def ascend(
    groups: Sequence[dict[str, Any]], directions: Mapping[Tensor, Tensor], norm: Tensor
) -> None:
    """Move each parameter p that has a direction d by ρ d / norm, ρ being its group's."""
    for group in groups:
        moving = [p for p in group["params"] if p in directions] if group["rho"] else []
        if moving:
            scale = radius_over_norm(group["rho"], norm, moving[0].dtype)
            steps = torch._foreach_mul([directions[p] for p in moving], scale)
            torch._foreach_add_(moving, steps)


def global_dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Inner product over all tensors together: 0-dim float64, by foreach operations.

    There is no foreach sum, but Σ x = 2 Σ max(x, 0) - Σ |x|, and those two are 1-norms.
    """
    if not one:
        return torch.zeros((), dtype=torch.float64)
    wide = torch.float32 if one[0].device.type == "mps" else torch.float64
    products = torch._foreach_mul(list(one), list(other))
    whole = torch._foreach_norm(products, 1, dtype=wide)
    torch._foreach_clamp_min_(products, 0.0)
    positive = torch._foreach_norm(products, 1, dtype=wide)
    return 2.0 * torch.stack(list(positive)).sum() - torch.stack(list(whole)).sum()
