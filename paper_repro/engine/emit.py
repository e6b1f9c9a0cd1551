"""From a network, its masks and a flat vector to the programs of a training step."""

from __future__ import annotations

import ctypes
import itertools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from paper_repro.engine.layout import Layout
from paper_repro.engine.lower import Branch, MaxPool, Network, Unit
from paper_repro.engine.program import Kind, Mode, Program, at
from paper_repro.errors import UserError

__all__ = ["Buffers", "Emitter", "Size"]

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
        #: Behind the ReLU, with a border, by activation.
        self.behind = [self._padded(size) for size in self.sizes]
        #: Before batch norm, of a node's main convolution and of its shortcut's.
        self.before: dict[str, Tensor] = {}
        for node, size in zip(network.nodes, self.sizes[1:], strict=True):
            for branch in branches(node):
                self.before[branch.conv] = self._plain(size)
        last = self.sizes[-1]
        self.features = torch.zeros(self.blocks * self.block, last.channels)
        self.feature_gradient = torch.zeros_like(self.features)
        self._gradients: dict[Size, list[Tensor]] = defaultdict(list)
        self._padded_gradients: dict[Size, Tensor] = {}

    def _plain(self, size: Size) -> Tensor:
        shape = (self.blocks, size.channels, size.height, size.width, self.block)
        return torch.zeros(shape, dtype=self.dtype)

    def _padded(self, size: Size, slots: int = 1) -> Tensor:
        shape = (slots * self.blocks, size.channels, size.height + 2, size.width + 2, self.block)
        return torch.zeros(shape, dtype=self.dtype)

    def gradient(self, size: Size, used: list[Tensor]) -> Tensor:
        """A buffer for a gradient of an activation that is not among those in use."""
        for tensor in self._gradients[size]:
            if all(tensor is not other for other in used):
                return tensor
        self._gradients[size].append(self._plain(size))
        return self._gradients[size][-1]

    def padded_gradient(self, size: Size) -> Tensor:
        """The buffer for two gradients before batch norm: the main branch's, the shortcut's."""
        if size not in self._padded_gradients:
            buffer = self._padded(size, slots=2)
            if buffer.numel() >= 2**31:  # the patterns' offsets are int32
                raise UserError(f"a batch of {self.batch} is too large for the sparse engine")
            self._padded_gradients[size] = buffer
        return self._padded_gradients[size]


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


@dataclass
class _Norm:
    """Batch norm of one branch: its vectors, and partial sums of both directions."""

    scale: Tensor
    shift: Tensor
    mean: Tensor
    inverse: Tensor
    back: tuple[Tensor, Tensor, Tensor]
    stats: Tensor


@dataclass
class _Arrived:
    """What has come back to an activation so far: from convolutions, along a residual, or whole."""

    convolutions: list[tuple[Branch, int]] = field(default_factory=list)  # and the slot
    residual: Tensor | None = None
    whole: Tensor | None = None


class Emitter:
    """Builds the programs for one layout; the addresses in them hold until the next layout.

    Args:
        network: to run.
        model: its module, for batch norm's running statistics.
        buffers: the activations.
        layout: of the flat vectors.
        weights: the flat vector of parameters, float32.
        gradients: one of the same layout for their gradients.
        dense: for masked layers, where to put gradients at all positions.
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
        self.consumers: dict[int, list[Branch]] = defaultdict(list)
        for branch in self.all:
            self.consumers[branch.source].append(branch)
        self.kept: list[Tensor] = []  # alive as long as the programs
        self.nonzeros = {b.conv: self._nonzeros(b) for b in self.all}
        self.forward_patterns = {
            b.conv: self._forward_pattern(b, self.nonzeros[b.conv]) for b in self.all
        }
        self.norms = {b.conv: self._norm(b) for b in self.all}
        longest = max(len(n) for n in self.nonzeros.values())
        self._scratch(longest)

    def _scratch(self, longest: int) -> None:
        b = self.buffers
        threads = min(b.threads, b.blocks)
        self.partial = self._keep(torch.zeros(threads * longest * b.lanes))
        self.per_block = self._keep(torch.zeros(b.blocks * longest))

    def _keep(self, tensor: Tensor) -> Tensor:
        self.kept.append(tensor)
        return tensor

    def _norm(self, branch: Branch) -> _Norm:
        c, b = branch.outputs, self.buffers

        def vector() -> Tensor:
            return self._keep(torch.zeros(c))

        return _Norm(
            vector(),
            vector(),
            vector(),
            vector(),
            (vector(), vector(), vector()),
            self._keep(torch.zeros(b.blocks, c, 2, b.lanes)),
        )

    def _nonzeros(self, branch: Branch) -> Tensor:
        name = f"{branch.conv}.weight"
        active = self.layout.active.get(name)
        if active is None:
            active = torch.arange(self.layout.shapes[name].numel())
        return self._keep(active.to(torch.int32))

    def _numbers(self, branch: Branch, base: int = 0) -> list[int]:
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

    def _forward_pattern(self, branch: Branch, nonzeros: Tensor) -> tuple[Tensor, Tensor]:
        ptr = self._keep(torch.zeros(branch.outputs + 1, dtype=torch.int32))
        off = self._keep(torch.zeros(len(nonzeros), dtype=torch.int32))
        numbers = (ctypes.c_int64 * 9)(*self._numbers(branch))
        self.library.engine_forward_pattern(
            ctypes.c_void_p(at(nonzeros)),
            ctypes.c_int64(len(nonzeros)),
            numbers,
            ctypes.c_void_p(at(ptr)),
            ctypes.c_void_p(at(off)),
        )
        return ptr, off

    def _backward_pattern(
        self, arrived: list[tuple[Branch, int]], base: list[int], row: int, column: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, offsets and weight indices of the gradient by an activation's pixels."""
        nonzeros = [self.nonzeros[branch.conv] for branch, _ in arrived]
        room = sum(len(n) for n in nonzeros)
        ptr = torch.zeros(arrived[0][0].inputs + 1, dtype=torch.int32)
        off = torch.zeros(room, dtype=torch.int32)
        index = torch.zeros(room, dtype=torch.int32)
        count = len(arrived)
        numbers = list(
            itertools.chain.from_iterable(
                self._numbers(branch, b) for (branch, _), b in zip(arrived, base, strict=True)
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
        return self._keep(ptr), self._keep(off[:used].clone()), self._keep(index[:used].clone())

    def _vector(self, name: str, which: Tensor) -> int:
        return at(which, self.slices[name].start)

    # Forward

    def forward(self, train: bool) -> Program:
        """Images (an address to be set in the first operation) to features."""
        program, b = Program(), self.buffers
        image = b.sizes[0]
        program.add(
            Kind.IMAGES, [image.channels, image.height, image.width, 0, 0, 0, 0], o=at(b.behind[0])
        )
        for i, node in enumerate(self.nodes):
            size = b.sizes[i + 1]
            if isinstance(node, MaxPool):
                source = b.sizes[node.source]
                program.add(
                    Kind.MAXPOOL,
                    [source.channels, source.height, source.width],
                    a=at(b.behind[node.source]),
                    o=at(b.behind[i + 1]),
                )
                continue
            for branch in branches(node):
                self._convolve(program, branch, size, train)
            main, extra = self.norms[node.main.conv], {}
            f = [at(main.scale), at(main.shift)]
            if node.shortcut is not None:
                short = self.norms[node.shortcut.conv]
                f += [at(short.scale), at(short.shift)]
                extra["y"] = at(b.before[node.shortcut.conv])
            if node.residual is not None:
                extra["r"] = at(b.behind[node.residual])
            program.add(
                Kind.NORM_RELU,
                [size.channels, size.height, size.width],
                f,
                x=at(b.before[node.main.conv]),
                a=at(b.behind[i + 1]),
                **extra,
            )
        last = b.sizes[-1]
        program.add(
            Kind.POOL,
            [last.channels, last.height, last.width],
            [at(b.features)],
            a=at(b.behind[-1]),
        )
        return program

    def _convolve(self, program: Program, branch: Branch, size: Size, train: bool) -> None:
        b, norm = self.buffers, self.norms[branch.conv]
        source, block = b.sizes[branch.source], b.block
        ptr, off = self.forward_patterns[branch.conv]
        row = (source.width + 2) * block
        program.add(
            Kind.CONV,
            [
                Mode.STATS if train else Mode.STORE,
                branch.outputs,
                size.height,
                size.width,
                source.channels * (source.height + 2) * row,
                branch.stride * row,
                branch.stride,
                size.channels * size.pixels * block,
                size.pixels * block,
                size.width * block,
                block,
            ],
            x=at(b.behind[branch.source]),
            o=at(b.before[branch.conv]),
            ptr=at(ptr),
            off=at(off),
            w=self._vector(f"{branch.conv}.weight", self.weights),
            stats=at(norm.stats),
        )
        module = self.model.get_submodule(branch.norm)
        program.add(
            Kind.COEF_TRAIN if train else Kind.COEF_EVAL,
            [branch.outputs, size.pixels],
            [
                self._vector(f"{branch.norm}.weight", self.weights),
                self._vector(f"{branch.norm}.bias", self.weights),
                at(norm.scale),
                at(norm.shift),
                at(norm.mean),
                at(norm.inverse),
                at(module.running_mean),  # type: ignore[arg-type]
                at(module.running_var),  # type: ignore[arg-type]
            ],
            stats=at(norm.stats),
        )

    # Backward

    def backward(self, dense: Mapping[str, Tensor] | None = None) -> Program:
        """Gradient by the features to the gradient by every parameter but the classifier's.

        Args:
            dense: tensors to fill with the gradients by all positions of masked layers, whose
                active positions are then not in the flat gradient.
        """
        program, b = Program(), self.buffers
        arrived: dict[int, _Arrived] = defaultdict(_Arrived)
        gathers: list[tuple[Tensor, Tensor]] = []
        for i in reversed(range(len(self.nodes))):
            node, here = self.nodes[i], arrived[i + 1]
            size = b.sizes[i + 1]
            used = [a.residual for a in arrived.values() if a.residual is not None]
            if isinstance(node, MaxPool):
                assert here.residual is None  # pooled activations have one reader
                dz = b.gradient(size, used)
                self._input_gradient(program, i + 1, here, dz, gathers, relu=False)
                source = b.sizes[node.source]
                whole = b.gradient(source, used)
                norm = self.norms[self.nodes[node.source - 1].main.conv]  # type: ignore[union-attr]
                producer = self.nodes[node.source - 1]
                assert isinstance(producer, Unit)
                program.add(
                    Kind.MAXPOOL_BACK,
                    [source.channels, source.height, source.width],
                    x=at(dz),
                    o=at(whole),
                    a=at(b.behind[node.source]),
                    y=at(b.before[producer.main.conv]),
                    stats=at(norm.stats),
                )
                arrived[node.source].whole = whole
                continue
            if i + 1 == len(self.nodes):
                dz = b.gradient(size, used)
                program.add(
                    Kind.POOL_BACK,
                    [size.channels, size.height, size.width],
                    [at(b.feature_gradient)],
                    o=at(dz),
                    a=at(b.behind[i + 1]),
                    y=at(b.before[node.main.conv]),
                    stats=at(self.norms[node.main.conv].stats),
                )
            elif here.whole is not None:
                dz = here.whole
            else:
                # In place of the residual where there is one: each of its entries is read just
                # before the same entry is written, and memory traffic is what this step waits for.
                dz = here.residual if here.residual is not None else b.gradient(size, used)
                self._input_gradient(program, i + 1, here, dz, gathers, relu=True)
            here.residual = None  # it has been read
            if node.shortcut is not None:
                short = self.norms[node.shortcut.conv]
                program.add(
                    Kind.DOT,
                    [size.channels, size.height, size.width],
                    x=at(dz),
                    y=at(b.before[node.shortcut.conv]),
                    stats=at(short.stats),
                )
            for slot, branch in enumerate(branches(node)):
                self._branch_gradient(program, branch, size, dz, slot, dense)
                arrived[branch.source].convolutions.append((branch, slot))
            if node.residual is not None:
                arrived[node.residual].residual = dz
        return self._with_gathers(program, gathers)

    def _with_gathers(self, program: Program, gathers: list[tuple[Tensor, Tensor]]) -> Program:
        whole = Program()
        for index, values in gathers:
            whole.add(Kind.GATHER, [len(index)], [at(self.weights)], off=at(index), w=at(values))
        return whole + program

    def _branch_gradient(
        self,
        program: Program,
        branch: Branch,
        size: Size,
        dz: Tensor,
        slot: int,
        dense: Mapping[str, Tensor] | None,
    ) -> None:
        """Through a branch's batch norm, and to its weights."""
        b, norm = self.buffers, self.norms[branch.conv]
        padded = b.padded_gradient(size)
        start = slot * padded.numel() // 2
        row = (size.width + 2) * b.block
        program.add(
            Kind.COEF_BACK,
            [branch.outputs, size.pixels],
            [
                self._vector(f"{branch.norm}.weight", self.weights),
                at(norm.mean),
                at(norm.inverse),
                self._vector(f"{branch.norm}.weight", self.gradients),
                self._vector(f"{branch.norm}.bias", self.gradients),
                *(at(v) for v in norm.back),
            ],
            stats=at(norm.stats),
        )
        program.add(
            Kind.NORM_BACK,
            [size.channels, size.height, size.width],
            [at(v) for v in norm.back],
            x=at(dz),
            y=at(b.before[branch.conv]),
            o=at(padded, start),
        )
        name = f"{branch.conv}.weight"
        ptr, off = self.forward_patterns[branch.conv]
        out = self._vector(name, self.gradients)
        if dense is not None and name in dense:
            every = self._keep(torch.arange(dense[name].numel(), dtype=torch.int32))
            ptr, off = self._forward_pattern(branch, every)
            out = at(dense[name])
            if len(every) * b.blocks > len(self.per_block):
                self._scratch(len(every))
        source = b.sizes[branch.source]
        source_row = (source.width + 2) * b.block
        program.add(
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
            ],
            [at(self.per_block)],
            x=at(b.behind[branch.source]),
            y=at(padded, start + row + b.block),
            ptr=at(ptr),
            off=at(off),
            w=out,
            stats=at(self.partial),
        )

    def _input_gradient(
        self,
        program: Program,
        activation: int,
        here: _Arrived,
        dz: Tensor,
        gathers: list[tuple[Tensor, Tensor]],
        relu: bool,
    ) -> None:
        """The gradient by an activation from all its readers, before its ReLU if ``relu``."""
        b = self.buffers
        size, block = b.sizes[activation], b.block
        stride = here.convolutions[0][0].stride
        out = b.sizes[activation]
        reader = Size(here.convolutions[0][0].outputs, out.height // stride, out.width // stride)
        padded = b.padded_gradient(reader)
        base = [slot * padded.numel() // 2 for _, slot in here.convolutions]
        row = (reader.width + 2) * block
        producer = self.nodes[activation - 1]
        extra: dict[str, int] = {}
        if relu:
            assert isinstance(producer, Unit)
            extra = {"stats": at(self.norms[producer.main.conv].stats)}
        for number, (r, c) in enumerate(itertools.product(range(stride), repeat=2)):
            ptr, off, index = self._backward_pattern(here.convolutions, base, r, c)
            values = self._keep(torch.zeros(len(index)))
            gathers.append((index, values))
            shift = (r * size.width + c) * block
            border = (size.width + 2) * block
            if relu:
                assert isinstance(producer, Unit)
                extra["a"] = at(b.behind[activation], (1 + r) * border + (1 + c) * block)
                extra["y"] = at(b.before[producer.main.conv], shift)
            if here.residual is not None:
                extra["r"] = at(here.residual, shift)
            program.add(
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
                ],
                (),
                x=at(padded),
                o=at(dz, shift),
                ptr=at(ptr),
                off=at(off),
                w=at(values),
                **extra,
            )
