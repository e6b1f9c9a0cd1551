"""Analytic cost of a sparse network.

Only convolutions and linear layers are counted, as in the sparse-training literature (RigL, MEST):
a multiply-accumulate (MAC) is two FLOPs, and a pruned weight costs nothing. Batch norm,
activations, pooling and the index arithmetic of a sparse format are left out.
:mod:`paper_repro.measure.micronet` counts as RigL's published table does, which differs by
fractions of a percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from paper_repro.sparse.plan import Plan

__all__ = [
    "dense_gradient_flops",
    "inference_flops",
    "layer_flops",
    "layer_macs",
    "planned_flops",
    "training_flops",
]


def layer_macs(model: nn.Module, input_shape: Sequence[int] | Any) -> dict[str, int]:
    """Dense MACs of one input, by the name of the weight that they multiply with.

    Found by a dry run without numbers (on torch's meta device) in evaluation mode: parameters,
    buffers, modes and random states stay as they are, and it costs no time.

    Args:
        model: its Conv1d/2d/3d and Linear layers are counted, grouped convolutions rightly, a
            layer that is used twice twice.
        input_shape: of one image without the batch, (C, H, W); or, for a model that is called with
            something else, that input itself, a batch of one on the meta device.
    """
    macs: dict[str, int] = {}
    handles = []
    modes = [(module, module.training) for module in model.modules()]

    def counter(name: str) -> Any:
        def count(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # Each weight is used once at every position of the output.
            positions = output.numel() // output.shape[-1 if isinstance(module, nn.Linear) else 1]
            macs[name] = macs.get(name, 0) + module.weight.numel() * positions

        return count

    try:
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
                weight = f"{name}.weight" if name else "weight"
                handles.append(module.register_forward_hook(counter(weight)))
        model.eval()
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        blank = {name: torch.empty_like(t, device="meta") for name, t in tensors.items()}
        dtype = next((t.dtype for t in blank.values() if t.is_floating_point()), None)
        image = isinstance(input_shape, tuple | list)
        one = torch.empty(1, *input_shape, device="meta", dtype=dtype) if image else input_shape
        with torch.no_grad():
            torch.func.functional_call(model, blank, (one,))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    return macs


def inference_flops(macs: Mapping[str, int], density: Mapping[str, float]) -> float:
    """FLOPs of one image's forward pass: 2 Σ_l MACs_l density_l.

    Args:
        macs: from :func:`layer_macs`.
        density: fraction of nonzero weights by parameter name; a layer that is not named is dense.

    Raises:
        KeyError: if ``density`` names a parameter that ``macs`` does not have.
    """
    return sum(layer_flops(macs, density).values())


def layer_flops(macs: Mapping[str, int], density: Mapping[str, float]) -> dict[str, float]:
    """:func:`inference_flops` of each layer, by its weight's name."""
    unknown = sorted(set(density) - set(macs))
    if unknown:
        raise KeyError(f"no MACs are known for {unknown[0]!r}")
    return {name: 2.0 * count * density.get(name, 1.0) for name, count in macs.items()}


def training_flops(
    macs: Mapping[str, int], density: Mapping[str, float], gradients: float = 1.0
) -> float:
    """FLOPs of one image's training step: 3 x the forward pass for each gradient taken.

    A backward pass costs twice the forward pass, once for the gradient by the activations and once
    for that by the weights (RigL, appendix H). Dense gradients at a topology change are not
    included.

    Args:
        macs: from :func:`layer_macs`.
        density: as in :func:`inference_flops`.
        gradients: per step: 1 for SGD and S2-SAM, 2 for SAM.
    """
    return 3.0 * gradients * inference_flops(macs, density)


def dense_gradient_flops(macs: Mapping[str, int], density: Mapping[str, float]) -> float:
    """FLOPs of one image that a gradient by all weights costs beyond that by the active ones.

    2 Σ_l MACs_l (1 - density_l): what RigL, GraNet and Chase pay at a topology update, so that such
    a step is 2 f_S + f_D and not 3 f_S (RigL, appendix H; f: a forward pass, sparse and dense).
    """
    return inference_flops(macs, {}) - inference_flops(macs, density)


def planned_flops(
    macs: Mapping[str, int], plan: Plan, batch_size: int, gradients: float = 1.0
) -> dict[str, float]:
    """FLOPs of a whole training by the layer's name, integrated over its topologies.

    Σ_stages batch (steps · 3 gradients · f_S + dense gradients · (f_D - f_S)).

    Args:
        macs: from :func:`layer_macs`.
        plan: of the training, from :meth:`paper_repro.sparse.SparseMethod.planned`; a longer
            training has a longer plan.
        batch_size: images a step.
        gradients: per step: 1 for SGD and S2-SAM, 2 for SAM.
    """
    total = dict.fromkeys(macs, 0.0)
    dense = layer_flops(macs, {})
    for stage in plan.stages:
        sparse = layer_flops(macs, stage.density)
        for name, flops in sparse.items():
            extra = stage.dense_gradients * (dense[name] - flops)
            total[name] += batch_size * (3.0 * gradients * stage.steps * flops + extra)
    return total
