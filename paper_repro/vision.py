"""The one place that imports torchvision.

torchvision's wheels on the public index are CUDA builds. Next to a CPU-only torch their compiled
library does not load, and the import dies on "operator torchvision::nms does not exist", because
it attaches a shape function to two operators of that library. Datasets, transforms and models need
none of it: declaring the two operators is enough. A torchvision whose library loads is imported
as it is, and nothing is declared.

Import this module where torchvision is needed, not at the top of a file: the digits need none.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

__all__ = ["torchvision", "transforms"]

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # a declaration lives as long as its Library


def _import() -> ModuleType:
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error) or "does not exist" not in str(error):
            raise
    # Modules of the attempt that failed hold half-made registrations: start from nothing.
    for name in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    _declared.append(library)
    for schema in _OPERATORS:
        library.define(schema)
    return importlib.import_module("torchvision")


torchvision = _import()


def transforms() -> ModuleType:
    """torchvision's transforms, version 2, which it imports only when asked."""
    return importlib.import_module("torchvision.transforms.v2")
