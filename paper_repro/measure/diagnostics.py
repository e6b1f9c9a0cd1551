"""What a perturbation sees: directions, loss rises and curvature at the weights of the moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from paper_repro.measure.effective_perturbation import ROUNDINGS, effective_perturbation
from paper_repro.optim import exact
from paper_repro.sparse import Masks
from paper_repro.sparse.scoring import undisturbed

__all__ = ["churn", "diagnose", "largest_eigenvalue"]

Vector = list[Tensor]


def diagnose(
    model: nn.Module,
    optimizer: Optimizer,
    masks: Masks,
    batch: tuple[Tensor, Tensor],
    generator: torch.Generator,
    rho: float = 0.05,
    iterations: int = 10,
    loss_fn: Callable[..., Tensor] = cross_entropy,
    standing: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    r"""Compare, on one batch and at the exact weights w, where S2-SAM and SAM would look.

    S2-SAM's direction is the gradient that the last step left in ``p.grad`` (taken on another
    batch, and under S2-SAM at the perturbed weights); SAM's is this batch's gradient at w; the
    random one is Gaussian over the active weights. Each is scaled to length ρ. Where the network
    drops units at random, all of it is measured with the same ones dropped. The model, its
    buffers and gradients, and every random state but ``generator``'s are left as they are.

    Args:
        model: in any mode, its parameters at w or perturbed.
        optimizer: that trains it.
        masks: whose pruned positions take no part.
        batch: inputs and targets.
        generator: of the random direction and the power iteration's start, on the model's device.
        rho: the length ρ, in the units of a weight.
        iterations: of the power method.
        standing: ε that the network trains at, by parameter, where the optimizer does not hold the
            parameters themselves (see ``paper_repro.engine``).
        loss_fn: ``loss_fn(outputs, targets)``.

    Returns:
        ``cosine``: of S2-SAM's and SAM's direction. ``rise_s2sam``, ``rise_sam``,
        ``rise_random``: :math:`L(w + \rho d) - L(w)` in nats along each direction. ``sharpness``:
        the Hessian's largest eigenvalue over the active weights. ``effective``: by precision but
        float32, where all of it does, how much of the training's perturbation arrives in the
        forward pass, as :func:`paper_repro.measure.effective_perturbation.effective_perturbation`
        has it: ``changed``, ``cosine`` and ``ratio`` over all weights, and ``layers``, each one's
        ``changed``. The perturbation is the one that the parameters stand at, if they do; else
        SAM's, with this batch's gradient. What a number that is not finite goes into is NaN.
    """
    inputs, targets = batch
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    factors = _factors(named, masks)
    weights = [exact(optimizer, p).detach().clone() for p in named.values()]
    previous = [
        torch.zeros_like(p) if p.grad is None else p.grad.detach() * f
        for p, f in zip(named.values(), factors, strict=True)
    ]

    devices = [w.device for w in weights if w.device.type == "cuda"][:1]

    def loss(at: Sequence[Tensor]) -> Tensor:
        # One function: dropout draws the same in every call, from the random state that it finds.
        with torch.random.fork_rng(devices=devices):
            outputs = functional_call(model, dict(zip(named, at, strict=True)), (inputs,))
        return loss_fn(outputs, targets)

    with undisturbed(model), torch.enable_grad():
        here = [w.requires_grad_(True) for w in weights]
        base = loss(here)
        gradient = _masked(torch.autograd.grad(base, here), factors)
        random = _masked(_gaussian(weights, generator), factors)
        with torch.no_grad():
            rises = {
                f"rise_{name}": float(loss(_shifted(weights, direction, rho)) - base)
                for name, direction in (
                    ("s2sam", previous),
                    ("sam", gradient),
                    ("random", random),
                )
            }
        sharpness = largest_eigenvalue(loss, weights, factors, generator, iterations)
    if standing is not None and any(e.any() for e in standing.values()):
        ascent: Mapping[str, Tensor] = standing
    else:
        zeros = [torch.zeros_like(g) for g in gradient]
        ascent = dict(zip(named, _shifted(zeros, gradient, rho), strict=True))
    effective = {
        name: _effective(model, optimizer, masks, ascent, name)
        for name in ROUNDINGS
        if name != "float32"
    }
    norms = _norm(previous) * _norm(gradient)
    cosine = float(_ratio(_dot(previous, gradient), norms))
    return {"cosine": cosine, **rises, "sharpness": sharpness, "effective": effective}


def _effective(
    model: nn.Module,
    optimizer: Optimizer,
    masks: Masks,
    ascent: Mapping[str, Tensor],
    precision: str,
) -> dict[str, Any]:
    stands = any(not torch.equal(exact(optimizer, p), p) for p in model.parameters())
    found = effective_perturbation(
        model,
        optimizer,
        epsilon=None if stands else ascent,
        masks=masks,
        precision=precision,
    )
    overall = found.overall
    return {
        "changed": overall.changed,
        "cosine": overall.cosine,
        "ratio": overall.ratio,
        "layers": {name: share.changed for name, share in found.layers.items()},
    }


def largest_eigenvalue(
    loss: Callable[[Sequence[Tensor]], Tensor],
    weights: Sequence[Tensor],
    factors: Sequence[Tensor],
    generator: torch.Generator,
    iterations: int,
) -> float:
    """The Hessian's largest eigenvalue, by power iteration (converges to it from below).

    Where the eigenvalue of largest magnitude is negative, a second iteration on the Hessian
    shifted by it finds the largest.

    Args:
        loss: of a list of weights.
        weights: where.
        factors: 1 at active and 0 at pruned positions, one tensor a weight.
        generator: of the start vector.
        iterations: Hessian-vector products of one iteration; each costs about two gradients.

    Returns:
        the eigenvalue; NaN where a product with the Hessian is not finite.
    """
    here = [w.detach().requires_grad_(True) for w in weights]
    gradient = torch.autograd.grad(loss(here), here, create_graph=True)

    def dominant(shift: float) -> float:
        v = _masked(_gaussian(here, generator), factors)
        eigenvalue = 0.0
        for _ in range(iterations):
            size = _norm(v)
            if size == 0:
                return 0.0
            if not math.isfinite(size):
                return math.nan
            v = [x / size for x in v]
            product = torch.autograd.grad(gradient, here, grad_outputs=v, retain_graph=True)
            hv = [h - shift * x for h, x in zip(_masked(product, factors), v, strict=True)]
            eigenvalue = float(_dot(v, hv))
            v = hv
        return eigenvalue

    first = dominant(0.0)
    return first + dominant(first) if first < 0 else first


def churn(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """Fraction of the active positions that are new: |after and not before| / |after|."""
    active = sum(int(mask.count_nonzero()) for mask in after.values())
    new = sum(int((mask & ~before[name]).count_nonzero()) for name, mask in after.items())
    return new / active if active else 0.0


def _factors(named: Mapping[str, Tensor], masks: Masks) -> Vector:
    return [
        masks[name].to(p.dtype) if name in masks else torch.ones_like(p)
        for name, p in named.items()
    ]


def _masked(vector: Sequence[Tensor], factors: Sequence[Tensor]) -> Vector:
    return [v * f for v, f in zip(vector, factors, strict=True)]


def _gaussian(like: Sequence[Tensor], generator: torch.Generator) -> Vector:
    return [torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype) for x in like]


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def _norm(vector: Sequence[Tensor]) -> float:
    return float(_dot(vector, vector).sqrt())


def _ratio(part: float | Tensor, whole: float) -> float | Tensor:
    """``part / whole``; 0 for a whole of 0, and NaN for one that is not finite."""
    if not math.isfinite(whole):  # by infinity it would be 0, as if there were nothing
        return math.nan
    return part / whole if whole > 0 else 0.0


def _shifted(weights: Sequence[Tensor], direction: Sequence[Tensor], length: float) -> Vector:
    scale = _ratio(length, _norm(direction))
    return [w + scale * d for w, d in zip(weights, direction, strict=True)]
