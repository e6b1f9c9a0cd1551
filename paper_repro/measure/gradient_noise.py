"""How much of a minibatch gradient is noise, and where a perturbation along it leads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from paper_repro.errors import UserError
from paper_repro.measure import MEASURES
from paper_repro.measure.minibatches import Minibatches
from paper_repro.measure.trained import Trained

__all__ = ["gradient_noise", "mean_square"]


def mean_square(vectors: Tensor) -> float:
    """Unbiased estimate of :math:`\\|E v\\|^2` from independent rows, shape [n, dim].

    It leaves out each row's product with itself, so it may be negative.
    """
    n = len(vectors)
    total = vectors.double().sum(0)
    squares = vectors.double().square().sum()
    return float((total @ total - squares) / (n * (n - 1)))


@MEASURES.register("gradient_noise")
def gradient_noise(
    trained: Trained, *, rho: float = 0.05, batch: int = 64, batches: int = 32, seed: int = 0
) -> dict[str, Any]:
    r"""The gradient's noise, and the drift that SAM's and S2-SAM's perturbations make of it, at w.

    With g_i the gradient of minibatch i at w over the active weights, and i, j independent,

    .. math:: d_{SAM} = E[g_i(w + \rho\, g_i/\|g_i\|) - g_i(w)], \qquad
              d_{S2} = E[g_i(w + \rho\, g_j/\|g_j\|) - g_i(w)]

    are what each adds to the mean gradient. To first order in ρ, SAM's is the gradient of
    :math:`\rho E\|g_i\|`, noise included, and S2-SAM's is :math:`\rho \nabla^2 F\, E[g/\|g\|]`.

    Args:
        trained: the network.
        rho: radius ρ, in the units of a weight.
        batch: images in a minibatch.
        batches: how many, each used for three gradients.
        seed: of the minibatches.

    Returns:
        ``norm``: mean of :math:`\|g_i\|`; ``square``: mean of its square; ``signal``: unbiased
        estimate of :math:`\|E g_i\|^2`; ``noise_share``: 1 - signal / square; ``sam`` and
        ``s2sam``: unbiased estimates of the squared length of each drift; ``sam_along`` and
        ``s2sam_along``: mean over minibatches of the drift's component along :math:`g_i` itself;
        ``batches``.

    Raises:
        UserError: a radius that is not above 0, fewer than 4 minibatches, or no images.
    """
    if not rho > 0:
        raise UserError(f"gradient_noise needs rho above 0, not {rho}")
    if batches < 4:
        raise UserError(f"gradient_noise needs at least 4 minibatches, not {batches}")

    def measure(_: str) -> dict[str, float]:
        source = Minibatches(trained, batch, seed)
        w, previous = source.weights, None
        plain, sam, s2sam = [], [], []
        with source.training():
            for _i in range(batches + 1):  # the first one only gives a direction
                images = source.draw()
                g = source.gradient(w, images)
                unit = g / g.norm().clamp_min(1e-30)
                if previous is not None:
                    plain.append(g)
                    sam.append(source.gradient(w + rho * unit, images) - g)
                    s2sam.append(source.gradient(w + rho * previous, images) - g)
                previous = unit
        rows, ours, theirs = (torch.stack(x) for x in (plain, s2sam, sam))
        squares = rows.double().square().sum(1)
        square, signal = float(squares.mean()), mean_square(rows)
        units = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-30)
        return {
            "norm": float(squares.sqrt().mean()),
            "square": square,
            "signal": signal,
            "noise_share": 0.0 if square == 0 else 1 - signal / square,
            "sam": mean_square(theirs),
            "s2sam": _even_and_odd(ours),
            "sam_along": float((theirs * units).sum(1).mean()),
            "s2sam_along": float((ours * units).sum(1).mean()),
            "batches": len(rows),
        }

    found: dict[str, Any] = trained.parts.each(("all",), measure, desc="gradient noise")["all"]
    return found


def _even_and_odd(vectors: Tensor) -> float:
    """Unbiased as :func:`mean_square`, for rows of which neighbours share a minibatch."""
    n = len(vectors)
    rows = vectors.double()
    total = rows.sum(0)
    close = rows.square().sum() + 2 * (rows[1:] * rows[:-1]).sum()
    pairs = n * n - n - 2 * (n - 1)
    return float((total @ total - close) / pairs)
