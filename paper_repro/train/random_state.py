"""The random state that a resumed run goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from paper_repro.generators import go_on

__all__ = ["restore", "states", "taken_on"]


def states(generator: torch.Generator) -> dict[str, Any]:
    """Of the run's generator and of torch's own, which models draw from while they run."""
    device = generator.device
    return {
        "device_type": device.type,
        "generator": generator.get_state(),
        "global_generator": torch.get_rng_state(),
        "cuda_generator": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def taken_on(state: Mapping[str, Any]) -> str:
    """The kind of device that :func:`states` were taken on."""
    older = "cpu" if state.get("cuda_generator") is None else "cuda"
    return str(state.get("device_type", older))


def restore(state: Mapping[str, Any], generator: torch.Generator) -> None:
    """Go on from :func:`states`, which may have been taken on another kind of device."""
    go_on(generator, state["generator"])
    torch.set_rng_state(state["global_generator"].cpu())
    if state["cuda_generator"] is not None and generator.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_generator"].cpu(), generator.device)
