"""The memory of activations and their gradients."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from paper_repro.engine.lower import Branch, MaxPool, Network, Unit
from paper_repro.errors import UserError

__all__ = ["Buffers", "Size", "branches"]

_BLOCK = {torch.float32: 16, torch.bfloat16: 32}


@dataclass(frozen=True)
class Size:
    """Channels, height and width of an activation."""

    channels: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width


class Buffers:
    """The memory of activations and gradients, for a batch of at most ``batch`` images.

    Allocated once, zero at first: the borders stay zero for good.

    Args:
        network: whose.
        image: channels, height and width of its input.
        batch: images.
        dtype: of the activations, float32 or bfloat16.
        lanes: floats in the kernels' vectors.
        threads: at most.
    """

    def __init__(
        self,
        network: Network,
        image: Size,
        batch: int,
        dtype: torch.dtype,
        lanes: int,
        threads: int,
    ) -> None:
        self.dtype = dtype
        self.block = _BLOCK[dtype]
        self.blocks = -(-batch // self.block)
        self.batch = batch
        self.lanes = lanes
        self.threads = threads
        self.sizes = [image]
        for node in network.nodes:
            self.sizes.append(_behind(node, self.sizes))
        #: Activations that are made again where the backward pass needs them, rather than kept.
        self.passing = _passing(network)
        #: Behind the ReLU, with a border, by activation: of the whole batch, or of those that pass
        #: one block for each thread.
        shared: dict[Size, Tensor] = {}
        self.behind: list[Tensor] = []
        for i, size in enumerate(self.sizes):
            if i in self.passing and size not in shared:
                shared[size] = self._padded(size, min(threads, self.blocks))
            self.behind.append(shared[size] if i in self.passing else self._padded(size))
        #: Before batch norm, of a node's main convolution and of its shortcut's.
        self.before: dict[str, Tensor] = {}
        for node, size in zip(network.nodes, self.sizes[1:], strict=True):
            for branch in branches(node):
                self.before[branch.conv] = self._plain(size)
        last = self.sizes[-1]
        self.features = torch.zeros(self.blocks * self.block, last.channels, dtype=torch.float32)
        self.feature_gradient = torch.zeros_like(self.features)
        self._gradients: dict[Size, list[Tensor]] = defaultdict(list)
        self._padded_gradients: dict[Size, Tensor] = {}

    def _plain(self, size: Size) -> Tensor:
        shape = (self.blocks, size.channels, size.height, size.width, self.block)
        return torch.zeros(shape, dtype=self.dtype)

    def _padded(self, size: Size, blocks: int | None = None) -> Tensor:
        shape = (blocks or self.blocks, size.channels, size.height + 2, size.width + 2, self.block)
        return torch.zeros(shape, dtype=self.dtype)

    def gradient(self, size: Size, used: list[Tensor]) -> Tensor:
        """A buffer for a gradient of an activation that is not among those in use."""
        for tensor in self._gradients[size]:
            if all(tensor is not other for other in used):
                return tensor
        self._gradients[size].append(self._plain(size))
        return self._gradients[size][-1]

    def padded_gradient(self, size: Size) -> Tensor:
        """Two gradients before batch norm, the main branch's and the shortcut's, for each thread.

        They live only while a thread works on one block.
        """
        if size not in self._padded_gradients:
            threads = min(self.threads, self.blocks)
            shape = (2 * threads, size.channels, size.height + 2, size.width + 2, self.block)
            if math.prod(shape) >= 2**31:  # the patterns' offsets are int32
                raise UserError(f"a batch of {self.batch} is too large for the sparse engine")
            self._padded_gradients[size] = torch.zeros(shape, dtype=self.dtype)
        return self._padded_gradients[size]


def _passing(network: Network) -> frozenset[int]:
    """Activations that one convolution reads and nothing else.

    Their ReLU's input is kept anyway, and to make them from it again costs less than to wait for
    the memory that would hold them.
    """
    readers: dict[int, int] = defaultdict(int)
    kept = {0, len(network.nodes)}
    for i, node in enumerate(network.nodes):
        for branch in branches(node):
            readers[branch.source] += 1
        if isinstance(node, MaxPool):
            kept |= {node.source, i + 1}
        elif node.residual is not None:
            kept.add(node.residual)
    return frozenset(i for i, count in readers.items() if count == 1 and i not in kept)


def branches(node: Unit | MaxPool) -> list[Branch]:
    """The convolutions of a node."""
    if isinstance(node, MaxPool):
        return []
    return [node.main] if node.shortcut is None else [node.main, node.shortcut]


def _behind(node: Unit | MaxPool, sizes: list[Size]) -> Size:
    if isinstance(node, MaxPool):
        size = sizes[node.source]
        return Size(size.channels, size.height // 2, size.width // 2)
    size, stride = sizes[node.main.source], node.main.stride
    return Size(node.main.outputs, size.height // stride, size.width // stride)
