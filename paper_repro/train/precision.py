"""What a run's precision means on a device, and what the device really computes in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["arithmetic", "autocast", "float32_as"]


def arithmetic(precision: str, device: torch.device) -> str:
    """What convolutions and matrix products of a run with ``precision`` compute in on a device.

    It is the precision, but that ``tf32`` is ``float32`` where there is no TF32: on CPUs, on NVIDIA
    GPUs before Ampere, and on AMD's.
    """
    return "float32" if precision == "tf32" and not _has_tf32(device) else precision


def _has_tf32(device: torch.device) -> bool:
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def autocast(arithmetic: str, device: torch.device) -> torch.autocast:
    """The context of a forward pass: bfloat16 autocast for ``bf16``, else nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=arithmetic == "bf16")


@contextlib.contextmanager
def float32_as(arithmetic: str, device: torch.device) -> Iterator[None]:
    """Inside, float32 operators on CUDA use TF32 if ``arithmetic`` is ``tf32``, and else do not.

    PyTorch's own default is in between: TF32 in convolutions, not in matrix products. The settings
    are global, so that whatever computes for a run (its backward passes too) belongs inside, and
    they are put back afterwards. Elsewhere than on CUDA nothing is set.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    places: tuple[Any, ...] = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "tf32" if arithmetic == "tf32" else "ieee"
        yield
    finally:
        for place, setting in zip(places, before, strict=True):
            place.fp32_precision = setting
