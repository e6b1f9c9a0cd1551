"""The loss surface around a trained network, and its roughness Ra (Figures 1 and 3)."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from paper_repro.errors import UserError
from paper_repro.measure import MEASURES
from paper_repro.measure.landscape import Landscape
from paper_repro.measure.means import deviation, mean
from paper_repro.measure.trained import Trained
from paper_repro.sparse.distribution import prunable

__all__ = ["direction", "roughness", "surface"]

Vector = dict[str, Tensor]


@MEASURES.register("surface")
def surface(
    trained: Trained,
    *,
    points: int = 21,
    span: float = 1.0,
    directions: int = 5,
    samples: int = 500,
    restrict: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    r"""Heights L(w + a d_1 + b d_2) for a, b in [-span, span], after Li et al. (2018).

    d_1 and d_2 are Gaussian, each filter rescaled to the norm of the weights' filter. Only the
    weights of convolutions and linear layers move, not batch norm nor biases; the loss is
    cross-entropy over training samples without augmentation, in evaluation mode, so that batch norm
    keeps its statistics. Of a sparse network only active weights move (``restrict``): the surface
    of a network that is dense again is another network's. The directions are drawn from the seed
    alone, so that networks of one architecture are seen along the same ones, up to their masks.

    Ra is the heights' mean absolute deviation, :math:`\mathrm{mean}|h - \bar h|`. It depends on
    the span, the grid and the scale of cross-entropy: compare those of one setting.

    Args:
        trained: the network.
        points: along each axis, odd, so that w is one of them.
        span: of both axes, in units of the filters' norms.
        directions: pairs of directions.
        samples: training samples that the loss is taken over.
        restrict: whether the directions are 0 at pruned weights.
        seed: of the directions and the samples.

    Returns:
        ``ra``: in nats, the mean over the pairs; ``ra_std``: over them; ``ra_each``; ``loss``:
        L(w); ``axis``: the values of a and of b; ``heights``: of the first pair, rows by a. A
        height that is not finite is null, and so is Ra then.

    Raises:
        UserError: an even or too small grid, fewer than two pairs, or a span that is not above 0.
    """
    if points < 3 or points % 2 == 0:
        raise UserError(f"a surface needs an odd number of points, 3 or more, not {points}")
    if directions < 2 or not span > 0:
        raise UserError("a surface needs at least 2 directions and a span above 0")
    landscape = Landscape(trained, samples, seed)
    masks = trained.masks if restrict else {}
    weights = {n: landscape.weights[n] for n in prunable(trained.model) if n in landscape.weights}
    axis = [span * (2 * i / (points - 1) - 1) for i in range(points)]
    _say_cost(landscape, directions * points * points)
    pairs: dict[int, tuple[Vector, Vector]] = {}

    def row(name: str) -> list[float]:
        pair, i = (int(part) for part in name.split("/"))
        if pair not in pairs:
            pairs.clear()  # rows come pair by pair, and a pair is as large as two networks
            pairs[pair] = (
                direction(weights, masks, (seed, pair, 0)),
                direction(weights, masks, (seed, pair, 1)),
            )
        d1, d2 = pairs[pair]
        return [landscape.loss({n: axis[i] * d1[n] + b * d2[n] for n in weights}) for b in axis]

    names = [f"{pair}/{i}" for pair in range(directions) for i in range(points)]
    rows = trained.parts.each(names, row, desc="loss surface")
    grids = [[rows[f"{pair}/{i}"] for i in range(points)] for pair in range(directions)]
    each = [roughness(grid) for grid in grids]
    return {
        "ra": mean(each),
        "ra_std": deviation(each),
        "ra_each": each,
        "loss": landscape.loss(),
        "axis": axis,
        "heights": grids[0],
    }


def roughness(heights: list[list[float | None]]) -> float | None:
    """Ra of a grid of heights; None if one of them is not finite."""
    flat = [h for row in heights for h in row if h is not None]
    if len(flat) < sum(len(row) for row in heights):
        return None
    mean = math.fsum(flat) / len(flat)
    return math.fsum(abs(h - mean) for h in flat) / len(flat)


def direction(
    weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], seed: tuple[int, ...]
) -> Vector:
    """A filter-normalised random direction, 0 where a mask is.

    Args:
        weights: by name; the first dimension of each counts its filters.
        masks: boolean, by name.
        seed: whole numbers that name the direction.
    """
    number = 0
    for part in seed:
        number = (number * 1_000_003 + part + 1) % 2**63
    generator = torch.Generator().manual_seed(number)  # the CPU's, which is the same everywhere
    found = {}
    for name, w in weights.items():
        d = torch.randn(w.shape, generator=generator).to(w.device)
        if name in masks:
            d = d * masks[name]
        size = [-1] + [1] * (w.ndim - 1)
        own, wanted = (x.flatten(1).norm(dim=1).reshape(size) for x in (d, w))
        found[name] = torch.where(own > 0, d * wanted / own.clamp_min(1e-30), 0.0)
    return found


def _say_cost(landscape: Landscape, evaluations: int) -> None:
    landscape.loss()  # the first one is slower
    started = time.perf_counter()
    landscape.loss()
    seconds = evaluations * (time.perf_counter() - started)
    print(
        f"a surface of {evaluations} points, {landscape.samples} samples each: "
        f"about {seconds:.0f} s",
        file=sys.stderr,
    )
