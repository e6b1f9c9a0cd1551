"""Batch norm, pooling and images against float64, to what float32 may be off by."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from kernels import BLOCK, STORING, Machine, close, close_sums, gamma, machines

from paper_repro.engine.build import supported
from paper_repro.engine.program import Kind

EPS = 1e-5


@st.composite
def activations(draw, even=False):
    """A machine, a generator and the shape of a batch."""
    size = st.integers(1, 9)
    h, w = draw(size), draw(size)
    shape = (
        draw(st.integers(1, 70)),
        draw(st.integers(1, 5)),
        *((2 * h, 2 * w) if even else (h, w)),
    )
    return draw(machines()), torch.Generator().manual_seed(draw(st.integers(0, 2**31))), shape


def drawn(machine, shape, g):
    """What a kernel can be given: random, in the storage's precision."""
    return torch.randn(shape, generator=g).to(machine.dtype).double()


def vectors(count, channels, g):
    return [torch.randn(channels, generator=g) for _ in range(count)]


def wide(v):
    return v.double().view(-1, 1, 1)


FORMATS = {
    "contiguous": lambda x: x.contiguous(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "a slice": lambda x: torch.cat([x, x, x], 3)[..., x.shape[3] : 2 * x.shape[3]],
    "every other": lambda x: x.repeat_interleave(2, 0)[::2],
    "one image many times": lambda x: x[:1].expand(x.shape),
    "uint8 channels last, made float": lambda x: (
        (x * 40).to(torch.uint8).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).float()
    ),
}


@given(activations(), st.sampled_from(sorted(FORMATS)))
def test_images_of_any_memory_format(drawing, name):
    machine, g, shape = drawing
    x = FORMATS[name](torch.randn(shape, generator=g))
    out = machine.empty(*shape, border=True)
    machine.run(Kind.IMAGES, [*shape[1:], *x.stride()], x=x, o=out, batch=len(x))
    # PyTorch rounds to bfloat16 to nearest, ties to even, too.
    assert torch.equal(machine.get(out, len(x), border=True), x.to(machine.dtype).double())


@pytest.mark.parametrize("dtype", list(BLOCK))
@pytest.mark.parametrize("isa", supported())
def test_rounding_of_special_values(isa, dtype):
    machine = Machine(isa, dtype)
    half = 2.0**-8
    values = [0.0, -0.0, 1 + half, 1 + 3 * half, -1 - half, 3.4e38, -3.4e38, 1e-30]
    values += [torch.inf, -torch.inf, torch.nan, 65504.0, 1 / 3]
    x = torch.tensor(values).view(-1, 1, 1, 1)
    out = machine.empty(len(x), 1, 1, 1, border=True)
    machine.run(Kind.IMAGES, [1, 1, 1, *x.stride()], x=x, o=out, batch=len(x))
    plain = machine.empty(len(x), 1, 1, 1, border=True)
    # Through registers: relu(1 x + 0), where x has no border.
    held = out[:, :, 1:-1, 1:-1].contiguous()
    f = [torch.ones(1), torch.zeros(1)]
    machine.run(Kind.NORM_RELU, [1, 1, 1], f, x=held, a=plain, batch=len(x))
    expected = x.to(dtype).flatten()
    found = out[:, :, 1, 1].flatten()[: len(x)]
    assert torch.equal(found.nan_to_num(7.0), expected.nan_to_num(7.0))
    found = plain[:, :, 1, 1].flatten()[: len(x)]
    assert torch.equal(found.nan_to_num(7.0), expected.relu().nan_to_num(7.0))


@given(activations(), st.booleans(), st.booleans())
def test_norm_relu(drawing, shortcut, residual):
    machine, g, shape = drawing
    x, y, r = (drawn(machine, shape, g) for _ in range(3))
    f = vectors(4, shape[1], g)
    s, t, s2, t2 = map(wide, f)
    expected, size = x * s + t, x.abs() * s.abs() + t.abs()
    extra = {}
    if shortcut:
        expected, size = expected + y * s2 + t2, size + y.abs() * s2.abs() + t2.abs()
        extra["y"] = machine.put(y, border=False)
    if residual:
        expected, size = expected + r, size + r.abs()
        extra["r"] = machine.put(r, border=True)
    out = machine.empty(*shape, border=True)
    machine.run(
        Kind.NORM_RELU,
        shape[1:],
        f if shortcut else f[:2],
        x=machine.put(x, border=False),
        a=out,
        batch=len(x),
        **extra,
    )
    close(machine.get(out, len(x), border=True), expected.relu(), gamma(6) * size, machine.dtype)


@given(activations())
def test_norm_back(drawing):
    machine, g, shape = drawing
    whole = [drawn(machine, shape, g) for _ in range(2)]
    f = vectors(3, shape[1], g)
    a, b, d = map(wide, f)
    for x, y in zip(*(v.split(machine.block) for v in whole), strict=True):
        # A thread has one buffer for all of its blocks, so one block at a time.
        out = machine.empty(*x.shape, border=True)
        held = {"x": machine.put(x, border=False), "y": machine.put(y, border=False)}
        machine.run(Kind.NORM_BACK, shape[1:], f, o=out, batch=len(x), **held)
        size = x.abs() * a.abs() + y.abs() * b.abs() + d.abs()
        expected = x * a + y * b + d
        close(machine.get(out, len(x), border=True), expected, gamma(4) * size, machine.dtype)


@given(activations())
def test_dot(drawing):
    machine, g, shape = drawing
    x, y = (drawn(machine, shape, g) for _ in range(2))
    stats = machine.stats(shape[0], shape[1])
    held = {"x": machine.put(x, border=False), "y": machine.put(y, border=False)}
    machine.run(Kind.DOT, shape[1:], stats=stats, batch=len(x), **held)
    close_sums(stats, x, torch.zeros_like(x), y, vectors=machine.vectors)


def sums_of(machine, x, y):
    """Statistics as a convolution would leave them, of x and x·y."""
    stats = machine.stats(x.shape[0], x.shape[1])
    held = {"x": machine.put(x, border=False), "y": machine.put(y, border=False)}
    machine.run(Kind.DOT, x.shape[1:], stats=stats, batch=len(x), **held)
    return stats


@given(activations(), st.floats(0.0, 0.9))
def test_batch_norm_as_a_whole(drawing, momentum):
    """Forward with running statistics and backward, composed of its kernels."""
    machine, g, shape = drawing
    batch, channels, h, w = shape
    if batch * h * w == 1:
        return
    x, above = (drawn(machine, shape, g) for _ in range(2))
    weight, bias = vectors(2, channels, g)
    scale, shift, mean, inverse, *back = (torch.full((channels,), torch.nan) for _ in range(7))
    running = [torch.zeros(channels), torch.ones(channels)]
    machine.run(
        Kind.COEF_TRAIN,
        [channels, h * w],
        [weight, bias, scale, shift, mean, inverse, *running],
        stats=sums_of(machine, x, x),
        batch=batch,
        momentum=momentum,
        eps=EPS,
    )
    variable = x.clone().requires_grad_()
    gamma_, beta = (v.double().requires_grad_() for v in (weight, bias))
    expected_running = [torch.zeros(channels).double(), torch.ones(channels).double()]
    z = F.batch_norm(variable, *expected_running, gamma_, beta, True, momentum, EPS)
    z.backward(above)
    over = (0, 2, 3)
    variance = x.var(over, correction=0)
    # Sums of x and x² lose digits where the mean is large beside the deviation.
    pixels = h * w * machine.vectors
    lost = gamma(2 * pixels + 8) * (x * x).mean(over) / (variance + EPS)
    off_mean = gamma(2 * pixels + 4) * x.abs().mean(over)
    close(mean.double(), x.mean(over), off_mean)
    close(inverse.double(), (variance + EPS).rsqrt(), (variance + EPS).rsqrt() * (lost + gamma(7)))
    room = (x - wide(x.mean(over))).abs() * wide(inverse) * wide(lost + gamma(16))
    room = (room + wide(off_mean * inverse)) * wide(weight).abs()
    room = room + gamma(4) * (x * wide(scale)).abs() + gamma(4) * wide(shift).abs()
    close(x * wide(scale) + wide(shift), z.detach(), room)
    ratio = batch * h * w / (batch * h * w - 1)
    close(running[0].double(), expected_running[0], off_mean + gamma(3))
    unbiased = (lost + gamma(16)) * (variance + EPS) * ratio
    close(running[1].double(), expected_running[1], unbiased + gamma(3) * (1 + variance * ratio))
    by_weight, by_bias = (torch.full((channels,), torch.nan) for _ in range(2))
    machine.run(
        Kind.COEF_BACK,
        [channels, h * w],
        [weight, mean, inverse, by_weight, by_bias, *back],
        stats=sums_of(machine, above, x),
        batch=batch,
    )
    # The mean may be off in the sum over dz (x - mean), and the sums themselves.
    off_sum = gamma(2 * pixels + 4) * above.abs().sum(over)
    products = (above * x).abs().sum(over)
    off = gamma(2 * pixels + 4) * products + (off_mean + mean.double().abs() * 2**-23) * (
        above.sum(over).abs()
    )
    off = (off + mean.double().abs() * off_sum) * inverse + gamma_.grad.abs() * (lost + gamma(16))
    close(by_bias.double(), beta.grad, off_sum)
    close(by_weight.double(), gamma_.grad, off)
    a, b, d = map(wide, back)
    found = above * a + x * b + d
    m, size = batch * h * w, (weight * inverse).double().abs()
    distance = (x - wide(x.mean(over))).abs() * wide(inverse)
    room = gamma(4) * ((above * a).abs() + (x * b).abs() + d.abs())
    room += variable.grad.abs() * wide(lost + gamma(16))
    room += wide(size) * (above.abs() + wide(above.abs().mean(over))) * wide(2 * lost + gamma(16))
    room += wide(size * off_sum / m) + distance * wide(size * off / m)
    room += wide(size * gamma_.grad.abs() / m * (off_mean * inverse + lost + gamma(16)))
    room += distance * wide(size * gamma_.grad.abs() / m * (2 * lost + gamma(16)))
    close(found, variable.grad, room)


@given(st.integers(1, 20), st.integers(0, 2**31), machines())
def test_batch_norm_by_running_statistics(channels, seed, machine):
    g = torch.Generator().manual_seed(seed)
    weight, bias, mean = vectors(3, channels, g)
    variance = torch.rand(channels, generator=g) + 1e-3
    scale, shift = (torch.full((channels,), torch.nan) for _ in range(2))
    unused = torch.full((channels,), torch.nan)
    f = [weight, bias, scale, shift, unused, unused, mean, variance]
    machine.run(Kind.COEF_EVAL, [channels, 1], f, stats=unused, batch=1, eps=EPS)
    inverse = (variance.double() + EPS).rsqrt()
    expected = weight.double() * inverse
    close(scale.double(), expected, gamma(4) * expected.abs())
    size = bias.double().abs() + (mean * weight).double().abs() * inverse
    close(shift.double(), bias.double() - mean.double() * expected, gamma(3) * size)


@given(activations())
def test_average_pooling_and_its_gradient(drawing):
    machine, g, shape = drawing
    batch, channels, h, w = shape
    a = drawn(machine, shape, g).relu()
    y, above = drawn(machine, shape, g), torch.randn(batch, channels, generator=g)
    held = machine.put(a, border=True)
    features = torch.full((machine.blocks(batch) * machine.block, channels), torch.nan)
    machine.run(Kind.POOL, shape[1:], [features], a=held, batch=batch)
    close(features[:batch].double(), a.mean((2, 3)), gamma(h * w + 2) * a.mean((2, 3)))
    out, stats = machine.empty(*shape, border=False), machine.stats(batch, channels)
    gradient = torch.zeros_like(features)
    gradient[:batch] = above
    machine.run(
        Kind.POOL_BACK,
        shape[1:],
        [gradient],
        o=out,
        a=held,
        y=machine.put(y, border=False),
        stats=stats,
        batch=batch,
    )
    expected = (above.double().view(batch, channels, 1, 1) / (h * w)) * (a > 0)
    close(machine.get(out, batch, border=False), expected, gamma(3) * expected.abs(), machine.dtype)
    close_sums(stats, expected, gamma(3) * expected.abs(), y, vectors=machine.vectors)


@given(activations(even=True))
def test_max_pooling_and_its_gradient(drawing):
    machine, g, (batch, channels, h, w) = drawing
    # Small integers, so that there are many ties and zeros.
    a = torch.randint(-2, 4, (batch, channels, h, w), generator=g).double().relu()
    y = drawn(machine, a.shape, g)
    above = drawn(machine, (batch, channels, h // 2, w // 2), g)
    held = machine.put(a, border=True)
    pooled = machine.empty(batch, channels, h // 2, w // 2, border=True)
    machine.run(Kind.MAXPOOL, [channels, h, w], a=held, o=pooled, batch=batch)
    assert torch.equal(machine.get(pooled, batch, border=True), F.max_pool2d(a, 2))
    out, stats = machine.empty(*a.shape, border=False), machine.stats(batch, channels)
    machine.run(
        Kind.MAXPOOL_BACK,
        [channels, h, w],
        x=machine.put(above, border=False),
        o=out,
        a=held,
        y=machine.put(y, border=False),
        stats=stats,
        batch=batch,
    )
    z = a.clone().requires_grad_()
    F.max_pool2d(z, 2).backward(above)
    expected = z.grad * (a > 0)
    assert torch.equal(machine.get(out, batch, border=False), expected)
    close_sums(stats, expected, torch.zeros_like(expected), y, vectors=machine.vectors)


@pytest.mark.parametrize("dtype", list(BLOCK))
@pytest.mark.parametrize("isa", supported())
@pytest.mark.parametrize("pixel", range(4))
def test_max_pooling_keeps_what_is_not_a_number(isa, dtype, pixel):
    machine = Machine(isa, dtype)
    a = torch.ones(3, 1, 2, 2)
    a[1].view(-1)[pixel] = torch.nan
    pooled = machine.empty(3, 1, 1, 1, border=True)
    machine.run(Kind.MAXPOOL, [1, 2, 2], a=machine.put(a, border=True), o=pooled, batch=3)
    assert machine.get(pooled, 3, border=True).flatten().isnan().tolist() == [False, True, False]


@given(machines(), st.integers(1, 40), st.integers(0, 2**31))
def test_gather(machine, count, seed):
    g = torch.Generator().manual_seed(seed)
    flat = torch.randn(50, generator=g)
    index = torch.randint(50, (count,), generator=g, dtype=torch.int32)
    out = torch.full((count,), torch.nan)
    machine.run(Kind.GATHER, [count], [flat], off=index, w=out, batch=1)
    assert torch.equal(out, flat[index.long()])


def test_the_block_of_images_is_the_kernels_own():
    """Each storage has the same block at any width of registers, or checkpoints would not move."""
    for isa, dtype in itertools.product(supported(), BLOCK):
        machine = Machine(isa, dtype)
        assert machine.block % machine.lanes == 0 and dtype in STORING
