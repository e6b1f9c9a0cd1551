"""Worst- and average-case adaptive sharpness of a trained network."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from paper_repro.errors import UserError
from paper_repro.measure import MEASURES
from paper_repro.measure.landscape import Landscape
from paper_repro.measure.means import deviation, mean
from paper_repro.measure.trained import Trained

__all__ = ["sharpness"]

Vector = dict[str, Tensor]


@MEASURES.register("sharpness")
def sharpness(
    trained: Trained,
    *,
    rho: float = 0.5,
    sigma: float = 0.1,
    steps: int = 20,
    draws: int = 10,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    r"""How far the training loss rises around w, in units of each weight's own size.

    Both are invariant to rescalings of the weights that leave the network's function as it is
    (Kwon et al. 2021; Andriushchenko et al., arXiv 2302.07011), and move active weights alone:
    the step of a pruned weight is scaled by its size, 0. With v the step in those units,

    .. math:: S_{max} = \max_{\|v\|_2 \le \rho} L(w + |w| v) - L(w), \qquad
              S_{avg} = E_{v \sim N(0, \sigma^2)}\, L(w + |w| v) - L(w)

    The maximum is searched by projected gradient ascent, so that what is given is a lower bound.

    Args:
        trained: the network; the loss is cross-entropy in evaluation mode.
        rho: radius ρ of the worst case.
        sigma: relative standard deviation σ of each weight in the average case.
        steps: gradients of the search.
        draws: of v in the average case.
        samples: training samples that the loss is taken over.
        seed: of the samples and the draws.

    Returns:
        ``loss``: L(w) in nats; ``worst`` and ``average``: the two in nats; ``average_std``: over
        the draws; ``draws``. What is not finite is null, and so is ``worst`` where the search
        meets such a loss or gradient.

    Raises:
        UserError: a radius that is not above 0, or no steps or draws.
    """
    if not (rho > 0 and sigma > 0):
        raise UserError(f"sharpness needs rho and sigma above 0, not {rho} and {sigma}")
    if steps < 1 or draws < 2:
        raise UserError("sharpness needs at least 1 step and 2 draws")
    landscape = Landscape(trained, samples, seed)
    base = landscape.loss()
    sizes = {name: w.abs() for name, w in landscape.weights.items()}

    def average(name: str) -> float:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + int(name))
        drawn = {
            n: torch.randn(s.shape, generator=generator).to(s.device) * (sigma * s)
            for n, s in sizes.items()
        }
        return landscape.loss(drawn) - base

    def worst(_: str) -> float:
        return _ascend(landscape, sizes, rho, steps) - base

    parts = trained.parts
    found = parts.each([str(i) for i in range(draws)], average, desc="average sharpness")
    rises = list(found.values())
    highest = parts.each(["worst"], worst, desc="worst sharpness")["worst"]
    return {
        "loss": base,
        "worst": highest,
        "average": mean(rises),
        "average_std": deviation(rises),
        "draws": draws,
    }


def _ascend(landscape: Landscape, sizes: Vector, rho: float, steps: int) -> float:
    """The highest loss found within the ball; NaN if a loss or gradient there is not finite.

    The step length falls along a line from ρ to ρ / steps: the first one crosses to the border
    along the gradient, which is already what ASAM would do.
    """
    v = {name: torch.zeros_like(size) for name, size in sizes.items()}
    best = -math.inf
    for step in range(steps):
        loss, gradient = landscape.gradient({n: sizes[n] * x for n, x in v.items()})
        best = max(best, loss)
        uphill = {n: sizes[n] * g for n, g in gradient.items()}
        length = _norm(uphill)
        if not (math.isfinite(loss) and math.isfinite(length)):
            return math.nan  # max() would pass over a NaN
        if length == 0:
            return best
        pace = rho * (1 - step / steps) / length
        v = {n: x + pace * uphill[n] for n, x in v.items()}
        out = max(1.0, _norm(v) / rho)
        v = {n: x / out for n, x in v.items()}
    last = landscape.loss({n: sizes[n] * x for n, x in v.items()})
    return max(best, last) if math.isfinite(last) else math.nan


def _norm(vector: Vector) -> float:
    return math.sqrt(sum(float(x.square().sum()) for x in vector.values()))
