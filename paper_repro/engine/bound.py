"""A network bound to its weights: patterns, batch norms, and where everything lies in memory."""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paper_repro.engine.buffers import Buffers, branches
from paper_repro.engine.layout import Layout
from paper_repro.engine.lower import Branch, Network
from paper_repro.engine.program import at

__all__ = ["Bound", "Norm"]


@dataclass
class Norm:
    """Batch norm of one branch: its vectors, and partial sums of both directions."""

    scale: Tensor
    shift: Tensor
    mean: Tensor
    inverse: Tensor
    back: tuple[Tensor, Tensor, Tensor]
    stats: Tensor


class Bound:
    """What the programs of one layout have in common: patterns, batch norms, and addresses.

    They hold until the next layout.

    Args:
        network: to run.
        model: its module, for batch norm's running statistics.
        buffers: the activations.
        layout: of the flat vectors.
        weights: the flat vector of parameters, float32.
        gradients: one of the same layout for their gradients.
        library: the kernels.
    """

    def __init__(
        self,
        network: Network,
        model: nn.Module,
        buffers: Buffers,
        layout: Layout,
        weights: Tensor,
        gradients: Tensor,
        library: ctypes.CDLL,
    ) -> None:
        self.network = network
        self.model = model
        self.buffers = buffers
        self.layout = layout
        self.weights = weights
        self.gradients = gradients
        self.library = library
        self.slices = layout.slices
        self.nodes = network.nodes
        self.all = [b for node in self.nodes for b in branches(node)]
        self.kept: list[Tensor] = []  # alive as long as the programs
        self.nonzeros = {b.conv: self.find_nonzeros(b) for b in self.all}
        self.forward_patterns = {
            b.conv: self.forward_pattern(b, self.nonzeros[b.conv]) for b in self.all
        }
        self.norms = {b.conv: self.norm(b) for b in self.all}
        longest = max(len(n) for n in self.nonzeros.values())
        self.scratch(longest)

    def scratch(self, longest: int) -> None:
        """Sums under way of the gradients by as many weights as ``longest``, for each thread."""
        b = self.buffers
        self.partial = self.keep(
            torch.zeros(min(b.threads, b.blocks), longest * b.lanes, dtype=torch.float32)
        )

    def keep(self, tensor: Tensor) -> Tensor:
        self.kept.append(tensor)
        return tensor

    def norm(self, branch: Branch) -> Norm:
        c, b = branch.outputs, self.buffers

        def vector() -> Tensor:
            return self.keep(torch.zeros(c, dtype=torch.float32))

        return Norm(
            vector(),
            vector(),
            vector(),
            vector(),
            (vector(), vector(), vector()),
            self.keep(torch.zeros(b.blocks, c, 2, b.lanes, dtype=torch.float32)),
        )

    def find_nonzeros(self, branch: Branch) -> Tensor:
        name = f"{branch.conv}.weight"
        active = self.layout.active.get(name)
        if active is None:
            active = torch.arange(self.layout.shapes[name].numel())
        return self.keep(active.to(torch.int32))

    def numbers(self, branch: Branch, base: int = 0) -> list[int]:
        size = self.buffers.sizes[branch.source]
        first = self.slices[f"{branch.conv}.weight"].start
        return [
            branch.inputs,
            branch.outputs,
            branch.kernel,
            branch.stride,
            size.height,
            size.width,
            self.buffers.block,
            base,
            first,
        ]

    def forward_pattern(self, branch: Branch, nonzeros: Tensor) -> tuple[Tensor, Tensor]:
        ptr = self.keep(torch.zeros(branch.outputs + 1, dtype=torch.int32))
        off = self.keep(torch.zeros(len(nonzeros), dtype=torch.int32))
        numbers = (ctypes.c_int64 * 9)(*self.numbers(branch))
        self.library.engine_forward_pattern(
            ctypes.c_void_p(at(nonzeros)),
            ctypes.c_int64(len(nonzeros)),
            numbers,
            ctypes.c_void_p(at(ptr)),
            ctypes.c_void_p(at(off)),
        )
        return ptr, off

    def backward_pattern(
        self, arrived: list[Branch], base: list[int], row: int, column: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, offsets and weight indices of the gradient by an activation's pixels."""
        nonzeros = [self.nonzeros[branch.conv] for branch in arrived]
        room = sum(len(n) for n in nonzeros)
        ptr = torch.zeros(arrived[0].inputs + 1, dtype=torch.int32)
        off = torch.zeros(room, dtype=torch.int32)
        index = torch.zeros(room, dtype=torch.int32)
        count = len(arrived)
        numbers = list(
            itertools.chain.from_iterable(
                self.numbers(branch, b) for branch, b in zip(arrived, base, strict=True)
            )
        )
        used = self.library.engine_backward_pattern(
            ctypes.c_int64(count),
            (ctypes.c_void_p * count)(*(at(n) for n in nonzeros)),
            (ctypes.c_int64 * count)(*(len(n) for n in nonzeros)),
            (ctypes.c_int64 * (9 * count))(*numbers),
            ctypes.c_int64(row),
            ctypes.c_int64(column),
            ctypes.c_void_p(at(ptr)),
            ctypes.c_void_p(at(off)),
            ctypes.c_void_p(at(index)),
        )
        return self.keep(ptr), self.keep(off[:used].clone()), self.keep(index[:used].clone())

    def vector(self, name: str, which: Tensor) -> int:
        return at(which, self.slices[name].start)
