"""FLOPs and sizes as RigL's published table counts them (by the MicroNet challenge's rules).

Beside two FLOPs a multiply-accumulate, each number that a layer puts out costs one more, its ReLU;
batch norm is folded into a bias, whose addition makes up for the sum of n products having n - 1.
In storage a weight takes 32 bits if it is active, a layer that is not dense takes one bit a weight
for its mask, and every output channel has a bias.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from paper_repro.measure.flops import layer_flops, layer_macs
from paper_repro.sparse.distribution import prunable

__all__ = ["inference", "rigl_training", "size"]


def inference(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    density: Mapping[str, float],
    *,
    padded_stem: int = 0,
    macs: Mapping[str, int] | None = None,
) -> float:
    """FLOPs of one image's forward pass.

    Args:
        model: the network; only shapes are read.
        input_shape: of one image, (C, H, W).
        density: active fraction by weight name; what is not named is dense.
        padded_stem: pixels by which the first convolution's output is counted wider and higher
            than it is. RigL's count of ResNet-50 pads the image twice, so 115 x 115 for
            112 x 112: 3.
        macs: :func:`paper_repro.measure.flops.layer_macs` of the two, where it is known already.
    """
    macs, weights = macs or layer_macs(model, input_shape), prunable(model)
    flops = layer_flops(macs, density)
    # A layer's outputs are its MACs over those that one output takes.
    outputs = {name: count // weights[name][0].numel() for name, count in macs.items()}
    stem = next(iter(macs))
    side = (outputs[stem] // weights[stem].shape[0]) ** 0.5
    wider = {stem: ((side + padded_stem) / side) ** 2}
    return sum(wider.get(name, 1.0) * (flops[name] + outputs[name]) for name in macs)


def rigl_training(sparse: float, dense: float, delta_t: int = 100) -> float:
    """RigL's FLOPs of a training step an image, (3 f_S ΔT + 2 f_S + f_D) / (ΔT + 1).

    Their appendix H: of ΔT + 1 steps one takes the gradient by all weights. It is the average over
    a training that updates its topology to the end, where their trainings stop at 75 %.

    Args:
        sparse: f_S, FLOPs of a forward pass.
        dense: f_D, those of the dense network's.
        delta_t: ΔT, steps between updates.
    """
    return (3 * sparse * delta_t + 2 * sparse + dense) / (delta_t + 1)


def size(model: nn.Module, counts: Mapping[str, int]) -> float:
    """Bytes in which a sparse network is stored: 4 an active weight, masks, and biases.

    Args:
        model: the network; only shapes are read.
        counts: active weights of every prunable layer (:func:`paper_repro.sparse.layer_counts`).
    """
    bits = 0
    for name, weight in prunable(model).items():
        bits += 32 * (counts[name] + weight.shape[0])
        bits += weight.numel() if counts[name] < weight.numel() else 0
    return bits / 8
