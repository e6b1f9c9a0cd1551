"""Random generators that go on from a checkpoint."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

__all__ = ["beside", "go_on"]


def beside(generator: torch.Generator, tensor: Tensor) -> torch.Generator:
    """A generator that draws on the tensor's device: this one, or one that goes on from it."""
    if generator.device.type == tensor.device.type:
        return generator
    there = torch.Generator(device=tensor.device)
    go_on(there, generator.get_state())
    return there


def go_on(generator: torch.Generator, state: Tensor) -> None:
    """Let a generator draw on from the state (bytes) of one, of whatever kind of device.

    It takes a state of its own kind as it is. Another kind's, which is of another size, seeds it:
    it then draws other numbers than that one would have, but always the same from the same state.
    """
    state = state.cpu()
    if state.shape == generator.get_state().shape:
        generator.set_state(state)
        return
    digest = hashlib.sha256(state.numpy().tobytes()).digest()
    generator.manual_seed(int.from_bytes(digest[:8], "little"))
