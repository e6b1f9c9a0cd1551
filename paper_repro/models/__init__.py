"""Networks, one family per file, built by name with a seed of their own."""

from __future__ import annotations

import torch
from torch import nn

from paper_repro.errors import UserError
from paper_repro.models.init import INITS
from paper_repro.registry import Registry, Spec

__all__ = ["MODELS", "build"]

MODELS: Registry = Registry(
    "model", "paper_repro.models", runtime=frozenset({"classes", "channels"})
)


def build(
    model: Spec | str, *, classes: int, channels: int = 3, seed: int, init: str = "fan_in"
) -> nn.Module:
    """A freshly initialised network on the CPU, in training mode.

    The weights are a function of ``seed`` alone (drawn on the CPU, so equal on every device), and
    no global random state is used or moved.

    Args:
        model: a registered name, or a spec with the model's options.
        classes: size of the output; of a Transformer, its vocabulary.
        channels: channels of the input images, if it has images.
        seed: of the initial weights.
        init: how they are drawn, one of :data:`paper_repro.models.init.INITS`.

    Raises:
        UserError: for an unknown model, option or init.
    """
    if init not in INITS:
        raise UserError(f"unknown init {init!r}; known are {', '.join(INITS)}")
    spec = MODELS.spec(model) if isinstance(model, str) else model
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would seed the accelerators too, which the fork does not restore.
        torch.default_generator.manual_seed(seed)
        network: nn.Module = MODELS.build(spec, classes=classes, channels=channels)
        if init != getattr(network, "drawn_as", "fan_in"):  # which it has drawn already
            torch.default_generator.manual_seed(seed)
            INITS[init](network)
    return network
