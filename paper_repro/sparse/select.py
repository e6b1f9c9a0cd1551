"""Exact selection: k positions, always k, ties and all."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["keep_in_groups", "keep_largest", "keep_largest_globally", "keep_random"]


def keep_largest(score: Tensor, k: int, among: Tensor | None = None) -> Tensor:
    """Boolean mask of exactly ``k`` positions with the largest score; the first wins a tie.

    Args:
        score: any shape.
        k: how many.
        among: boolean mask of the positions that may be chosen (all, if not given).

    Raises:
        ValueError: fewer than ``k`` positions may be chosen.
    """
    flat = score.detach().flatten()
    if flat.dtype != torch.float64:
        flat = flat.float()
    allowed = torch.ones_like(flat, dtype=torch.bool) if among is None else among.flatten()
    candidates = allowed.nonzero().squeeze(1)
    if not 0 <= k <= candidates.numel():
        raise ValueError(f"cannot choose {k} of {candidates.numel()} positions")
    # A stable sort, unlike topk, settles ties the same way on every device.
    order = torch.sort(flat[candidates], descending=True, stable=True).indices[:k]
    chosen = torch.zeros_like(allowed)
    chosen[candidates[order]] = True
    return chosen.view_as(score)


def keep_random(shape: torch.Size, k: int, generator: torch.Generator, among: Tensor) -> Tensor:
    """Boolean mask of exactly ``k`` positions chosen uniformly at random among the allowed ones."""
    draw = torch.rand(shape, generator=generator, device=generator.device)
    return keep_largest(draw.to(among.device), k, among)


def keep_largest_globally(
    scores: Mapping[str, Tensor], k: int, among: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """As :func:`keep_largest`, the ``k`` largest over all layers together."""
    flat = torch.cat([s.detach().flatten() for s in scores.values()])
    allowed = None if among is None else torch.cat([among[name].flatten() for name in scores])
    chosen = keep_largest(flat, k, allowed)
    parts = chosen.split([s.numel() for s in scores.values()])
    return {name: part.view_as(scores[name]) for name, part in zip(scores, parts, strict=True)}


def keep_in_groups(score: Tensor, n: int, m: int) -> Tensor:
    """Boolean mask of the n largest of every m successive scores along dimension 1 (``n:m``).

    Args:
        score: [outputs, inputs, ...], inputs a multiple of m; the first wins a tie.
        n: how many of each group.
        m: a group's size.
    """
    last = score.detach().movedim(1, -1)
    groups = last.reshape(-1, m)
    order = torch.sort(groups, dim=1, descending=True, stable=True).indices[:, :n]
    chosen = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order, True)
    return chosen.view(last.shape).movedim(-1, 1).contiguous()
