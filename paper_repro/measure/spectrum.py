"""The spectral density of a trained network's Hessian, by Lanczos quadrature."""

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

__all__ = ["spectrum"]

_POINTS = 201  # of the density's curve
_KAPPA = 3.0  # width of a node's bump, as curvlinops has it by default (Papyan 2020)
_MARGIN = 0.05  # beyond the outermost nodes, of their distance


@MEASURES.register("spectrum")
def spectrum(
    trained: Trained,
    *,
    nodes: int = 30,
    repeats: int = 3,
    samples: int = 500,
    seed: int = 0,
) -> dict[str, Any]:
    r"""The density :math:`p(\lambda) = \frac1d \sum_i \delta(\lambda - \lambda_i)`, smoothed.

    Of the Hessian of the training loss in evaluation mode over all active parameters: pruned
    weights take no part, else their rows would be d zeros. Lanczos quadrature (Papyan 2020) by
    ``curvlinops`` with Hessian-vector products of this package.

    Args:
        trained: the network.
        nodes: Lanczos steps of one quadrature, each one Hessian-vector product.
        repeats: quadratures, each from a random vector, that are averaged.
        samples: training samples that the loss is taken over.
        seed: of the samples and the vectors.

    Returns:
        ``largest`` and ``smallest``: the outermost Ritz values, which lie within the spectrum and
        next to its ends; ``trace`` and ``trace_std`` over the quadratures; ``dimension``: d;
        ``grid`` and ``density``: the smoothed curve. Where the Hessian is not finite, null, without
        a curve.

    Raises:
        UserError: too few nodes or repeats, or more nodes than dimensions.
    """
    from curvlinops.papyan2020traces import spectrum as library

    landscape = Landscape(trained, samples, seed)
    active = {
        n: trained.masks[n] if n in trained.masks else torch.ones_like(w, dtype=torch.bool)
        for n, w in landscape.weights.items()
    }
    d = sum(int(mask.sum()) for mask in active.values())
    if repeats < 2 or not 2 <= nodes <= d:
        raise UserError(f"a spectrum needs 2 repeats and 2 to {d} nodes, not {repeats} and {nodes}")
    operator = _hessian(landscape, active, d)

    def quadrature(name: str) -> dict[str, list[float]]:
        devices = [operator.device] if operator.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed * 1_000_003 + int(name))
            try:
                values, vectors = library.fast_lanczos(operator, nodes)
            except _NotFinite:
                return {"nodes": [math.nan], "weights": [math.nan]}
        return {"nodes": values.tolist(), "weights": vectors[0].square().tolist()}

    names = [str(i) for i in range(repeats)]
    found = trained.parts.each(names, quadrature, desc="Hessian spectrum").values()
    if any(value is None for q in found for value in (*q["nodes"], *q["weights"])):
        return {"largest": None, "smallest": None, "trace": None, "trace_std": None, "dimension": d}
    low, high = (end(v for q in found for v in q["nodes"]) for end in (min, max))
    curves = [
        library.lanczos_approximate_spectrum_from_iter(
            (torch.tensor(q["nodes"]), torch.tensor(q["weights"]).sqrt()[None]),
            (low, high),
            _POINTS,
            _KAPPA,
            _MARGIN,
        )
        for q in found
    ]
    traces = [
        d * math.fsum(v * w for v, w in zip(q["nodes"], q["weights"], strict=True)) for q in found
    ]
    return {
        "largest": high,
        "smallest": low,
        "trace": mean(traces),
        "trace_std": deviation(traces),
        "dimension": d,
        "grid": curves[0][0].tolist(),
        "density": torch.stack([density for _, density in curves]).mean(0).tolist(),
    }


class _NotFinite(ArithmeticError):
    """A product with the Hessian is not finite; the library's solver would fail on it."""


def _hessian(landscape: Landscape, active: dict[str, Tensor], d: int) -> Any:
    """The Hessian over the active parameters, d x d, as the library takes it."""
    from curvlinops._torch_base import PyTorchLinearOperator

    first = next(iter(landscape.weights.values()))

    class Hessian(PyTorchLinearOperator):  # type: ignore[misc]
        SELF_ADJOINT = True
        device, dtype = first.device, first.dtype

        def __init__(self) -> None:
            super().__init__([(d,)], [(d,)])

        def _matmat(self, X: list[Tensor]) -> list[Tensor]:
            return [torch.stack([self._one(v) for v in X[0].unbind(1)], 1)]

        def _one(self, v: Tensor) -> Tensor:
            parts = v.split([int(mask.sum()) for mask in active.values()])
            spread = {}
            for (name, mask), part in zip(active.items(), parts, strict=True):
                spread[name] = torch.zeros_like(landscape.weights[name])
                spread[name][mask] = part
            product = landscape.curvature(spread)
            found = torch.cat([product[name][mask] for name, mask in active.items()])
            if not bool(found.isfinite().all()):
                raise _NotFinite
            return found

    return Hessian()
