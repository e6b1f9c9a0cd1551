"""The program of a backward pass."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from paper_repro.engine.bound import Bound
from paper_repro.engine.buffers import Size, branches
from paper_repro.engine.forward import activate
from paper_repro.engine.lower import Branch, MaxPool, Unit
from paper_repro.engine.program import Kind, Mode, Program, at

__all__ = ["backward"]


def backward(bound: Bound, dense: Mapping[str, Tensor] | None = None) -> Program:
    """From the gradient by the features to that by every parameter but the classifier's.

    Args:
        bound: the network.
        dense: tensors to fill with the gradients by all positions of masked layers, whose active
            positions are then not in the flat gradient.
    """
    return _Backward(bound, dense or {}).program()


@dataclass
class _Arrived:
    """What has come back to an activation so far: from convolutions, along a residual, or whole.

    Of a convolution it is the gradient behind its batch norm, and the slot for that before it.
    """

    convolutions: list[tuple[Branch, int, Tensor]] = field(default_factory=list)
    residual: Tensor | None = None
    whole: Tensor | None = None

    def held(self) -> list[Tensor]:
        """Buffers that must not be written to yet."""
        rest = [t for t in (self.residual, self.whole) if t is not None]
        return rest + [dz for _, _, dz in self.convolutions]


class _Backward:
    """A backward program in the making."""

    def __init__(self, bound: Bound, dense: Mapping[str, Tensor]) -> None:
        self.bound = bound
        self.buffers = bound.buffers
        self.dense = dense
        self.ops = Program()
        #: Indices of weights and where they go, for each backward pattern.
        self.gathers: list[tuple[Tensor, Tensor]] = []
        #: Sizes, sources and destination of each sum over blocks.
        self.sums: list[tuple[list[int], list[int], int]] = []

    def program(self) -> Program:
        """From the gradient by the features to that by every parameter but the classifier's."""
        b = self.buffers
        arrived: dict[int, _Arrived] = defaultdict(_Arrived)
        for i in reversed(range(len(self.bound.nodes))):
            node, here = self.bound.nodes[i], arrived.pop(i + 1, _Arrived())
            size = b.sizes[i + 1]
            used = [t for a in arrived.values() for t in a.held()] + here.held()
            if isinstance(node, MaxPool):
                assert here.residual is None  # pooled activations have one reader
                pooled = b.gradient(size, used)
                self._input_gradient(i + 1, here, pooled, relu=False)
                arrived[node.source].whole = self._unpool(node, pooled, used)
                continue
            if i + 1 == len(self.bound.nodes):
                dz = b.gradient(size, used)
                self.ops.add(
                    Kind.POOL_BACK,
                    [size.channels, size.height, size.width],
                    [at(b.feature_gradient)],
                    o=at(dz),
                    a=at(b.behind[i + 1]),
                    y=at(b.before[node.main.conv]),
                    stats=at(self.bound.norms[node.main.conv].stats),
                )
            elif here.whole is not None:
                dz = here.whole
            else:
                # In place of the residual where there is one: each of its entries is read just
                # before the same entry is written, and memory traffic is what this step waits for.
                dz = here.residual if here.residual is not None else b.gradient(size, used)
                self._input_gradient(i + 1, here, dz, relu=True)
            if node.shortcut is not None:
                self.ops.add(
                    Kind.DOT,
                    [size.channels, size.height, size.width],
                    x=at(dz),
                    y=at(b.before[node.shortcut.conv]),
                    stats=at(self.bound.norms[node.shortcut.conv].stats),
                )
            for slot, branch in enumerate(branches(node)):
                self._norm_coefficients(branch, size)
                arrived[branch.source].convolutions.append((branch, slot, dz))
            if node.residual is not None:
                arrived[node.residual].residual = dz
        self._through_norms(arrived[0])
        return self._complete()

    def _unpool(self, node: MaxPool, pooled: Tensor, used: list[Tensor]) -> Tensor:
        """The gradient by the pooled activation, before its ReLU."""
        b = self.buffers
        source, producer = b.sizes[node.source], self.bound.nodes[node.source - 1]
        assert isinstance(producer, Unit)
        whole = b.gradient(source, used)
        self.ops.add(
            Kind.MAXPOOL_BACK,
            [source.channels, source.height, source.width],
            x=at(pooled),
            o=at(whole),
            a=at(b.behind[node.source]),
            y=at(b.before[producer.main.conv]),
            stats=at(self.bound.norms[producer.main.conv].stats),
        )
        return whole

    def _complete(self) -> Program:
        """Weights into the patterns' order before, and sums over blocks after all else."""
        before, after = Program(), Program()
        for index, values in self.gathers:
            weights = at(self.bound.weights)
            before.add(Kind.GATHER, [len(index)], [weights], off=at(index), w=at(values))
        for n, f, out in self.sums:
            after.add(Kind.WGRAD_SUM, n, f, w=out)
        return before + self.ops + after

    def _norm_coefficients(self, branch: Branch, size: Size) -> None:
        """The gradients by a batch norm's own parameters, and what takes one through it."""
        norm = self.bound.norms[branch.conv]
        self.ops.add(
            Kind.COEF_BACK,
            [branch.outputs, size.pixels],
            [
                self.bound.vector(f"{branch.norm}.weight", self.bound.weights),
                at(norm.mean),
                at(norm.inverse),
                self.bound.vector(f"{branch.norm}.weight", self.bound.gradients),
                self.bound.vector(f"{branch.norm}.bias", self.bound.gradients),
                *(at(v) for v in norm.back),
            ],
            stats=at(norm.stats),
        )

    def _through_norms(self, here: _Arrived) -> None:
        """Through the batch norms of all readers of an activation, and to their weights."""
        b = self.buffers
        for branch, slot, dz in here.convolutions:
            source = b.sizes[branch.source]
            size = Size(
                branch.outputs, source.height // branch.stride, source.width // branch.stride
            )
            padded = b.padded_gradient(size)
            start = slot * padded.numel() // 2
            self.ops.add(
                Kind.NORM_BACK,
                [size.channels, size.height, size.width, 1],
                [at(v) for v in self.bound.norms[branch.conv].back],
                x=at(dz),
                y=at(b.before[branch.conv]),
                o=at(padded, start),
            )
            self._weight_gradient(branch, size, padded, start)

    def _weight_gradient(
        self,
        branch: Branch,
        size: Size,
        padded: Tensor,
        start: int,
    ) -> None:
        b = self.buffers
        name = f"{branch.conv}.weight"
        ptr, off = self.bound.forward_patterns[branch.conv]
        out = self.bound.vector(name, self.bound.gradients)
        if name in self.dense:
            every = self.bound.keep(torch.arange(self.dense[name].numel(), dtype=torch.int32))
            ptr, off = self.bound.forward_pattern(branch, every)
            out = at(self.dense[name])
            if len(every) * b.lanes > self.bound.partial.shape[1]:
                self.bound.scratch(len(every))
        source = b.sizes[branch.source]
        row, source_row = (size.width + 2) * b.block, (source.width + 2) * b.block
        per_block = self.bound.keep(torch.zeros(b.blocks * len(off), dtype=torch.float32))
        self.ops.add(
            Kind.WGRAD,
            [
                0,
                branch.outputs,
                size.height,
                size.width,
                source.channels * (source.height + 2) * source_row,
                branch.stride * source_row,
                branch.stride,
                size.channels * (size.height + 2) * row,
                (size.height + 2) * row,
                row,
                int(branch.source in b.passing),
                1,
                self.bound.partial.shape[1],
            ],
            [at(per_block)],
            x=at(b.behind[branch.source]),
            y=at(padded, start + row + b.block),
            ptr=at(ptr),
            off=at(off),
            stats=at(self.bound.partial),
        )
        self.sums.append(([len(off)], [at(per_block)], out))

    def _input_gradient(
        self,
        activation: int,
        here: _Arrived,
        dz: Tensor,
        relu: bool,
    ) -> None:
        """The gradient by an activation from all its readers, before its ReLU if ``relu``."""
        b = self.buffers
        if activation in b.passing:
            passed = self.bound.nodes[activation - 1]
            assert isinstance(passed, Unit)
            activate(self.bound, self.ops, activation, passed)
        self._through_norms(here)
        readers = [branch for branch, _, _ in here.convolutions]
        size, block = b.sizes[activation], b.block
        stride = readers[0].stride
        out = b.sizes[activation]
        reader = Size(readers[0].outputs, out.height // stride, out.width // stride)
        padded = b.padded_gradient(reader)
        base = [slot * padded.numel() // 2 for _, slot, _ in here.convolutions]
        row = (reader.width + 2) * block
        producer = self.bound.nodes[activation - 1]
        extra: dict[str, int] = {}
        if relu:
            assert isinstance(producer, Unit)
            extra = {"stats": at(self.bound.norms[producer.main.conv].stats)}
        for number, (r, c) in enumerate(itertools.product(range(stride), repeat=2)):
            ptr, off, index = self.bound.backward_pattern(readers, base, r, c)
            values = self.bound.keep(torch.zeros(len(index), dtype=torch.float32))
            self.gathers.append((index, values))
            shift = (r * size.width + c) * block
            border = (size.width + 2) * block
            if relu:
                assert isinstance(producer, Unit)
                extra["a"] = at(b.behind[activation], (1 + r) * border + (1 + c) * block)
                extra["y"] = at(b.before[producer.main.conv], shift)
            if here.residual is not None:
                extra["r"] = at(here.residual, shift)
            self.ops.add(
                Kind.CONV,
                [
                    Mode.RELU_BACK if relu else Mode.STORE,
                    size.channels,
                    size.height // stride,
                    size.width // stride,
                    reader.channels * (reader.height + 2) * row,
                    row,
                    1,
                    size.channels * size.pixels * block,
                    size.pixels * block,
                    stride * size.width * block,
                    stride * block,
                    size.channels * (size.height + 2) * border,
                    (size.height + 2) * border,
                    stride * border,
                    stride * block,
                    int(number > 0),
                    1,
                    int(activation in b.passing),
                ],
                (),
                x=at(padded),
                o=at(dz, shift),
                ptr=at(ptr),
                off=at(off),
                w=at(values),
                **extra,
            )
