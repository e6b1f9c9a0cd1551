"""RigL's published FLOPs and sizes of ResNet-50, and what this package counts for the same rows."""

from __future__ import annotations

import functools

import torch
from torch import nn

from paper_repro.experiment.profiles import Profile
from paper_repro.measure import micronet
from paper_repro.measure.flops import layer_macs
from paper_repro.models import MODELS
from paper_repro.sparse import layer_counts
from paper_repro.sparse.plan import densities
from tables import TABLES
from tables.base import Number, Row, Table
from tables.published import RIGL_RESNET50

__all__ = ["counts", "rigl_counts"]

_IMAGE = (3, 224, 224)
#: Their steps of 4,096 images.
_STEPS, _BATCH = 32_000, 4096


@functools.cache
def _resnet50() -> nn.Module:
    with torch.device("meta"):  # shapes without numbers
        return MODELS.build(MODELS.spec("resnet50"), classes=1000, channels=3)


@functools.cache
def _macs() -> dict[str, int]:
    return layer_macs(_resnet50(), _IMAGE)


@functools.cache
def counts(distribution: str, sparsity: float) -> dict[str, float]:
    """Inference and training FLOPs relative to dense, and megabytes, by RigL's convention.

    ``training 5x`` is five times as long a training, relative to a dense one of the usual length.
    """
    model = _resnet50()
    kept = layer_counts(model, sparsity, distribution)
    count = functools.partial(micronet.inference, model, _IMAGE, padded_stem=3, macs=_macs())
    dense, sparse = count({}), count(densities(model, kept))
    step = micronet.rigl_training(sparse, dense) if sparsity else 3 * sparse
    return {
        "inference": sparse / dense,
        "training 1x": step / (3 * dense),
        "training 5x": 5 * step / (3 * dense),
        "size": micronet.size(model, kept) / 1e6,
        "inference FLOPs": sparse,
        "training FLOPs": step * _STEPS * _BATCH,
    }


@TABLES.register("flops")
def rigl_counts(profile: Profile) -> Table:
    """The same in every profile: nothing is trained."""
    columns = ("inference", "training 1x", "training 5x", "size")
    rows = []
    for (distribution, sparsity), published in RIGL_RESNET50.items():
        own = counts(distribution, sparsity)
        entries = tuple(
            Number(own[column], theirs, digits=3 if column == "size" else 2)
            for column, theirs in zip(columns, published, strict=True)
        )
        rows.append(Row((distribution, f"{sparsity:.1%}"), entries))
    dense = counts("uniform-rigl", 0.0)
    return Table(
        name="flops",
        title="FLOPs of ResNet-50 on ImageNet relative to dense, and size in MB, against RigL's",
        headers=("distribution", "sparsity", *columns),
        rows=tuple(rows),
        notes=(
            f"Dense: {dense['inference FLOPs']:.1e} an image, {dense['training FLOPs']:.1e} for "
            f"{_STEPS:,} steps of {_BATCH:,} images, {dense['size']:.3f} MB. Published: the README "
            "of google-research/rigl, not the paper.",
            "Their count: two FLOPs a multiply-accumulate and one a ReLU, batch norm folded into a "
            "bias, the first convolution's output 115 x 115 because its padding is counted twice, "
            "and (3 f_S ΔT + 2 f_S + f_D) / (ΔT + 1) a training step, ΔT = 100, f_S and f_D being "
            "a sparse and a dense forward pass.",
            "Two of their digits differ. Training 1x of ERK at 90 % is printed as 0.24, which its "
            "own 5x, 1.23, contradicts: a fifth of it is 0.25. The size of uniform at 80 % is "
            "printed as 23.685, which is that of Erdős-Rényi without the kernel's dimensions.",
        ),
    )
