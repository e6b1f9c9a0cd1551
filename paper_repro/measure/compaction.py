"""What removing dead channels for real gains: FLOPs, parameters, images a second."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from paper_repro.measure.flops import inference_flops, layer_macs
from paper_repro.sparse.compact import compact
from paper_repro.sparse.masks import Masks

__all__ = ["compaction"]

_PATIENCE = 2.0


@torch.no_grad()
def compaction(
    model: nn.Module,
    masks: Masks | Mapping[str, Tensor],
    image: tuple[int, int, int],
    batch_size: int = 64,
    rounds: int = 5,
    seconds: float = _PATIENCE,
) -> dict[str, Any]:
    """Compact a trained network (:func:`paper_repro.sparse.compact`) and compare it with itself.

    Both are run densely in evaluation mode on the same random images, in turn after one pass each
    to warm up, and the fastest pass of each counts: what a neighbour on the machine takes, takes it
    from the others. FLOPs are those of the dense arithmetic that is really done, zeros within the
    remaining channels included.

    Args:
        model: at the weights w; it is left alone.
        masks: of its weights.
        image: channels, height and width.
        batch_size: images a pass.
        rounds: passes of each that are timed at least,
        seconds: and for how long it goes on, up to ten times as many.

    Returns:
        ``flops_before`` and ``flops_after`` (an image), ``parameters_before``, ``_after`` and
        ``_ratio``, ``images_per_second_before`` and ``_after``, ``speedup``, ``batch_size``,
        ``rounds``, and ``output_difference``: the largest difference of an output, relative to the
        largest output.

    Raises:
        UserError: the model's channels cannot be traced.
    """
    small = compact(model, masks).eval()
    training = {module: module.training for module in model.modules()}
    model.eval()
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)  # its own: training draws the same without this
    inputs = torch.randn(batch_size, *image, generator=generator).to(device)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    networks = {"before": model, "after": small}
    try:
        taken: dict[str, list[float]] = {name: [] for name in networks}
        outputs = {name: network(inputs) for name, network in networks.items()}
        end = time.perf_counter() + seconds
        for done in range(10 * rounds):
            if done >= rounds and time.perf_counter() > end:
                break
            for name, network in networks.items():
                taken[name].append(_timed(network, inputs))
    finally:
        for module, mode in training.items():
            module.training = mode
    fastest = {name: min(times) for name, times in taken.items()}
    parameters = {n: sum(p.numel() for p in m.parameters()) for n, m in networks.items()}
    largest = max(float(outputs["before"].abs().max()), 1e-12)
    return {
        **{f"flops_{n}": inference_flops(layer_macs(m, image), {}) for n, m in networks.items()},
        **{f"parameters_{name}": count for name, count in parameters.items()},
        "parameters_ratio": parameters["after"] / parameters["before"],
        **{f"images_per_second_{name}": batch_size / fastest[name] for name in networks},
        "speedup": fastest["before"] / fastest["after"],
        "batch_size": batch_size,
        "rounds": len(taken["after"]),
        "output_difference": float((outputs["after"] - outputs["before"]).abs().max()) / largest,
    }


def _timed(network: nn.Module, inputs: Tensor) -> float:
    wait = torch.cuda.synchronize if inputs.is_cuda else (lambda: None)
    wait()
    started = time.perf_counter()
    network(inputs)
    wait()
    return time.perf_counter() - started
