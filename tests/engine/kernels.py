"""Single kernels, called as a network's program calls them, and what rounding allows them.

A sum of n products in float32 is off by at most gamma(n) times the sum of their absolute values
(Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), in whatever order it is taken
and with or without fused operations.
"""

import ctypes
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from paper_repro.engine.build import library, supported
from paper_repro.engine.program import Call, Program, at

UNIT = 2.0**-24  # of float32
#: Relative error of storing an activation: half the distance of two neighbours.
STORING = {torch.float32: 0.0, torch.bfloat16: 2.0**-8}
BLOCK = {torch.float32: 16, torch.bfloat16: 32}
SMALLEST = 1e-37  # below it float32 rounds absolutely


def gamma(n):
    return n * UNIT / (1 - n * UNIT)


@dataclass(frozen=True)
class Machine:
    """An instruction set with a storage of activations."""

    isa: str
    dtype: torch.dtype

    @property
    def library(self):
        return library(self.isa)

    @property
    def block(self):
        return BLOCK[self.dtype]

    @property
    def lanes(self):
        return self.library.engine_lanes()

    @property
    def vectors(self):
        """Registers a block of images takes."""
        return self.block // self.lanes

    def blocks(self, batch):
        return -(-batch // self.block)

    def empty(self, batch, channels, height, width, border):
        """An activation nobody has written to: NaN, but for a border of zeros."""
        shape = (self.blocks(batch), channels, height, width, self.block)
        inside = torch.full(shape, torch.nan, dtype=self.dtype)
        return F.pad(inside, (0, 0, 1, 1, 1, 1)) if border else inside

    def put(self, x, border):
        """[B, C, H, W] in the kernels' layout; lanes without an image hold 0."""
        b, c, h, w = x.shape
        whole = torch.zeros(self.blocks(b) * self.block, c, h, w, dtype=self.dtype)
        whole[:b] = x.to(self.dtype)
        inside = whole.view(-1, self.block, c, h, w).permute(0, 2, 3, 4, 1)
        return (F.pad(inside, (0, 0, 1, 1, 1, 1)) if border else inside).contiguous()

    def get(self, held, batch, border):
        """The inverse in float64, after a look at what must be zero."""
        if border:
            frame = held.clone()
            frame[:, :, 1:-1, 1:-1] = 0
            assert not frame.any(), "the border was written to"
            held = held[:, :, 1:-1, 1:-1]
        whole = held.permute(0, 4, 1, 2, 3).flatten(0, 1).double()
        assert not whole[batch:].any(), "a lane without an image is not 0"
        return whole[:batch].clone()

    def stats(self, batch, channels):
        return torch.full((self.blocks(batch), channels, 2, self.lanes), torch.nan)

    def run(self, kind, n, f=(), *, batch, threads=1, momentum=0.0, eps=1e-5, **tensors):
        """One operation; a pointer is a tensor, or a tensor and the element it starts at."""
        self.run_all([(kind, n, f, tensors)], batch, threads, momentum, eps)

    def run_all(self, operations, batch, threads=1, momentum=0.0, eps=1e-5):
        """Operations in order, as a program: kind, sizes, vectors, pointers."""
        program = Program()
        for kind, n, f, tensors in operations:
            pair = {k: v if isinstance(v, tuple) else (v, 0) for k, v in tensors.items()}
            program.add(kind, n, [at(v) for v in f], **{k: at(*v) for k, v in pair.items()})
        call = Call(batch, self.blocks(batch), threads, momentum, eps)
        program.run(self.library, int(self.dtype == torch.bfloat16), call)


def machines():
    """Every instruction set of this processor with each storage."""
    return st.builds(Machine, st.sampled_from(supported()), st.sampled_from(list(BLOCK)))


MASKS = ("some", "few", "rows", "one", "none", "all")


def make_mask(kind, shape, g):
    """``rows`` has empty and full ones."""
    if kind == "rows":
        return (torch.rand(shape[0], generator=g) < 0.5).view(-1, 1, 1, 1).expand(shape).clone()
    share = {"some": 0.4, "few": 0.05, "all": 2.0}.get(kind, -1.0)
    mask = torch.rand(shape, generator=g) < share
    if kind == "one":
        mask.view(-1)[int(torch.randint(mask.numel(), (), generator=g))] = True
    return mask


@dataclass
class Layer:
    """A masked convolution: [K, C, k, k]."""

    weight: torch.Tensor
    mask: torch.Tensor
    stride: int

    @property
    def kernel(self):
        return self.weight.shape[2]

    @property
    def positions(self):
        return self.mask.flatten().nonzero().squeeze(1).int()

    def numbers(self, machine, height, width, base=0, first=0):
        k, c = self.weight.shape[:2]
        return [c, k, self.kernel, self.stride, height, width, machine.block, base, first]

    def apply(self, x, weight=None):
        """By PyTorch, in float64."""
        masked = (self.weight if weight is None else weight) * self.mask
        return F.conv2d(x, masked.double(), stride=self.stride, padding=self.kernel // 2)


def forward_pattern(machine, layer, height, width, positions=None):
    positions = layer.positions if positions is None else positions
    ptr = torch.zeros(layer.weight.shape[0] + 1, dtype=torch.int32)
    off = torch.zeros(len(positions), dtype=torch.int32)
    machine.library.engine_forward_pattern(
        ctypes.c_void_p(at(positions)),
        ctypes.c_int64(len(positions)),
        (ctypes.c_int64 * 9)(*layer.numbers(machine, height, width)),
        ctypes.c_void_p(at(ptr)),
        ctypes.c_void_p(at(off)),
    )
    return ptr, off


def backward_pattern(machine, layers, height, width, base, row, column):
    """The pattern of layers that read one activation; weights are counted through all layers."""
    positions = [layer.positions for layer in layers]
    sizes = [len(p) for p in positions]
    ptr = torch.zeros(layers[0].weight.shape[1] + 1, dtype=torch.int32)
    off, index = (torch.zeros(sum(sizes), dtype=torch.int32) for _ in range(2))
    numbers = []
    for i, layer in enumerate(layers):
        numbers += layer.numbers(machine, height, width, base[i], sum(sizes[:i]))
    count = len(layers)
    used = machine.library.engine_backward_pattern(
        ctypes.c_int64(count),
        (ctypes.c_void_p * count)(*(at(p) for p in positions)),
        (ctypes.c_int64 * count)(*sizes),
        (ctypes.c_int64 * (9 * count))(*numbers),
        ctypes.c_int64(row),
        ctypes.c_int64(column),
        ctypes.c_void_p(at(ptr)),
        ctypes.c_void_p(at(off)),
        ctypes.c_void_p(at(index)),
    )
    return ptr, off[:used].clone(), index[:used].clone()


def close(found, expected, bound, dtype=torch.float32):
    """Within the bound of the arithmetic, and then of storing the result."""
    room = bound + STORING[dtype] * (expected.abs() + bound) + SMALLEST
    error = (found - expected).abs()
    assert (error <= room).all(), f"off by {(error / room).max():.3g} times what rounding allows"


def close_sums(stats, values, errors, others=None, other_bound=0.0, vectors=1):
    """Sums of z, and of z·y (y = z by default), a channel: float32 in each lane, then float64.

    ``errors`` are what each z may be off by itself.
    """
    pixels = values.shape[2] * values.shape[3]
    steps = gamma(2 * pixels * vectors + 3)  # every lane of every block adds up so many at most
    found = stats.double().sum((0, 3))
    y = values if others is None else others
    sizes = values.abs() + errors
    second = errors * y.abs() if others is not None else errors * (2 * values.abs() + errors)
    both = sizes * (y.abs() if others is not None else sizes)
    over = (0, 2, 3)
    close(found[:, 0], values.sum(over), errors.sum(over) + steps * sizes.sum(over))
    close(found[:, 1], (values * y).sum(over), second.sum(over) + steps * both.sum(over))
