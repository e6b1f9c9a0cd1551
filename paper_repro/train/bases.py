"""What takes the steps inside every optimizer: SGD, or Adam for Transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from paper_repro.config import RunConfig

__all__ = ["base_optimizer"]


def base_optimizer(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The base that a config names (``RunConfig.base``), with its settings, over all parameters."""
    shared: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.base == "adam":
        betas = (config.momentum, 0.98)
        return torch.optim.Adam(model.parameters(), betas=betas, eps=1e-9, **shared)
    return torch.optim.SGD(model.parameters(), momentum=config.momentum, **shared)
