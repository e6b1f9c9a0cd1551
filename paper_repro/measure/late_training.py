"""What training goes on to do at a constant step: spread of u against w, and its law."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paper_repro.errors import UserError
from paper_repro.measure import MEASURES
from paper_repro.measure.means import deviation, mean
from paper_repro.measure.minibatches import Minibatches
from paper_repro.measure.trained import Trained

__all__ = ["Moment", "late_training", "law", "spread_of", "steps_of"]

RULES = ("sgd", "sam", "s2sam")


@dataclass(frozen=True)
class Moment:
    """One step: the weights w and u = w + ε before it, the gradient at u, the buffer after it."""

    w: Tensor
    u: Tensor
    g: Tensor
    buffer: Tensor


def steps_of(
    batches: Minibatches,
    steps: int,
    *,
    rule: str,
    lr: float,
    momentum: float,
    weight_decay: float,
    rho: float,
    normalize: bool = True,
) -> Iterator[Moment]:
    """Train a copy of the weights on: heavy-ball momentum, a constant step, masks as they are.

    ε is ρ g / ‖g‖, or ρ g where not ``normalize``, with g the previous step's gradient (S2-SAM) or
    this minibatch's at w (SAM). Use within ``batches.training()``.
    """
    w = batches.weights.clone()
    buffer, previous = torch.zeros_like(w), torch.zeros_like(w)
    for _ in range(steps):
        images = batches.draw()
        ascent = batches.gradient(w, images) if rule == "sam" else previous
        scale = rho / float(ascent.norm().clamp_min(1e-30)) if normalize else rho
        u = w if rule == "sgd" else w + scale * ascent
        g = batches.gradient(u, images)
        buffer = momentum * buffer + g + weight_decay * w
        yield Moment(w, u, g, buffer)
        w = w - lr * buffer
        previous = g


def law(
    rho: float, lr: float, momentum: float, square: float, buffer: float, length: float | None
) -> float:
    r"""E‖u‖² - E‖w‖² where w is stationary.

    Not normalised (``length`` None) it is exact:
    :math:`\rho^2 G - \rho\eta(G - \beta(1+\beta)M)`, :math:`G = E\|g\|^2`, :math:`M` the
    momentum buffer's; normalised it is the same with :math:`\rho / E\|g\|` for ρ and :math:`\rho^2`
    for the first term, but for the gradient length's covariances. At β = 0: ρ(ρ - η)G.
    """
    pulled = rho * lr * (square - momentum * (1 + momentum) * buffer)
    if length is None:
        return rho**2 * square - pulled
    return rho**2 - pulled / length if length > 0 else rho**2


def spread_of(moments: Iterator[Moment] | list[Moment], origin: Tensor) -> dict[str, float]:
    """Variances of w and u about their own means, and mean squares of gradient and buffer.

    Sums are of distances from ``origin``, in float64: the difference of the variances is far
    smaller than the squares of the weights.
    """
    n, sums = 0, {"w": torch.zeros_like(origin, dtype=torch.float64)}
    sums["u"] = sums["w"].clone()
    squares = dict.fromkeys(("w", "u", "g", "buffer", "length"), 0.0)
    for moment in moments:
        n += 1
        for name in ("w", "u"):
            away = (getattr(moment, name) - origin).double()
            sums[name] += away
            squares[name] += float(away @ away)
        squares["length"] += float(moment.g.double().norm())
        for name in ("g", "buffer"):
            value = getattr(moment, name).double()
            squares[name] += float(value @ value)
    if not n:
        raise ValueError("no steps to take variances over")
    means = {name: value / n for name, value in squares.items()}
    variance = {x: means[x] - float((sums[x] / n) @ (sums[x] / n)) for x in ("w", "u")}
    return {
        "variance_w": variance["w"],
        "variance_u": variance["u"],
        "length": means["length"],
        "square": means["g"],
        "buffer": means["buffer"],
    }


@MEASURES.register("late_training")
def late_training(
    trained: Trained,
    *,
    rule: str = "s2sam",
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    rho: float = 0.05,
    normalize: bool = True,
    steps: int = 100,
    discard: int = 50,
    batch: int = 64,
    repeats: int = 2,
    seed: int = 0,
) -> dict[str, Any]:
    r"""The sign of the smoothing law on a trained network that trains on at a constant step.

    A copy of the weights takes ``discard`` steps, then ``steps`` more over which the variances of u
    and w about their means are taken, summed over the active weights. Masks stay as they are, batch
    norm uses the batch's statistics, and nothing is kept.

    Args:
        trained: the network.
        rule: "sgd", "sam" or "s2sam".
        lr: constant step η.
        momentum: β, heavy ball.
        weight_decay: λ, on w.
        rho: radius ρ; for the perturbation ρ g where not ``normalize``.
        normalize: whether ε is ρ g / ‖g‖.
        steps: that count.
        discard: steps before them.
        batch: images in a minibatch.
        repeats: independent continuations.
        seed: of their minibatches.

    Returns:
        Means over the continuations of ``spread``: Var u - Var w in squared weights;
        ``spread_std``: over them; ``law``: what :func:`law` predicts for S2-SAM, else None;
        ``variance_w``; ``length``: mean ‖g‖; ``square`` and ``buffer``: mean squares of gradient
        and momentum buffer; ``reach``: :math:`\rho/(\eta\,E\|g\|)`, or ρ/η where not
        ``normalize``; ``repeats``. What is not finite, where a continuation diverges, is null.

    Raises:
        UserError: an unknown rule, or a number out of range.
    """
    if rule not in RULES:
        raise UserError(f"unknown rule {rule!r}; known are {', '.join(RULES)}")
    if not (lr > 0 and rho >= 0 and 0 <= momentum < 1 and weight_decay >= 0):
        raise UserError(
            "late_training needs lr above 0, rho and weight_decay of at least 0 and momentum in "
            f"[0, 1), not {lr}, {rho}, {weight_decay} and {momentum}"
        )
    if steps < 2 or discard < 0 or repeats < 2:
        raise UserError("late_training needs at least 2 steps and 2 repeats, and no negative count")

    def measure(name: str) -> dict[str, float]:
        batches = Minibatches(trained, batch, seed * 1_000_003 + int(name))
        with batches.training():
            moments = steps_of(
                batches,
                discard + steps,
                rule=rule,
                lr=lr,
                momentum=momentum,
                weight_decay=weight_decay,
                rho=rho,
                normalize=normalize,
            )
            for _ in range(discard):
                next(moments)
            return spread_of(moments, batches.weights)

    names = [str(i) for i in range(repeats)]
    found = list(trained.parts.each(names, measure, desc="late training").values())
    sides = [(one["variance_u"], one["variance_w"]) for one in found]
    spreads = [None if None in side else side[0] - side[1] for side in sides]
    means = {
        name: mean([one[name] for one in found])
        for name in ("variance_w", "length", "square", "buffer")
    }
    return {
        "spread": mean(spreads),
        "spread_std": deviation(spreads),
        "law": _predicted(rho, lr, momentum, means, normalize) if rule == "s2sam" else None,
        **means,
        "reach": _reach(rho, lr, means["length"] if normalize else 1.0),
        "repeats": repeats,
    }


def _predicted(
    rho: float, lr: float, momentum: float, means: Mapping[str, float | None], normalize: bool
) -> float | None:
    square, buffer, length = (means[name] for name in ("square", "buffer", "length"))
    if square is None or buffer is None or length is None:
        return None
    return law(rho, lr, momentum, square, buffer, length if normalize else None)


def _reach(rho: float, lr: float, length: float | None) -> float | None:
    return rho / (lr * length) if length else None
