"""The sparse convolutions against PyTorch in float64, to what float32 sums may be off by."""

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import (
    MASKS,
    Layer,
    Machine,
    backward_pattern,
    close,
    close_sums,
    forward_pattern,
    gamma,
    machines,
    make_mask,
)

from paper_repro.engine.build import supported
from paper_repro.engine.program import Kind, Mode


@st.composite
def problems(draw):
    """A machine, a layer and a batch of images that it reads."""
    stride, kernel = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 3]))
    inputs, outputs = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    size = st.integers(8, 34) if stride == 1 else st.integers(4, 17).map(lambda n: 2 * n)
    height, width = draw(size), draw(size)
    batch = draw(st.integers(1, 70))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (outputs, inputs, kernel, kernel)
    weight = torch.randn(shape, generator=g)
    layer = Layer(weight, make_mask(draw(st.sampled_from(MASKS)), shape, g), stride)
    machine = draw(machines())
    x = torch.randn(batch, inputs, height, width, generator=g).to(machine.dtype).double()
    return machine, layer, x, g


def conv(machine, layer, x, mode, threads=1):
    """The convolution of images, and its statistics."""
    (batch, inputs, height, width), outputs = x.shape, layer.weight.shape[0]
    h, w, block = height // layer.stride, width // layer.stride, machine.block
    ptr, off = forward_pattern(machine, layer, height, width)
    row = (width + 2) * block
    out = machine.empty(batch, outputs, h, w, border=False)
    stats = machine.stats(batch, outputs)
    n = [mode, outputs, h, w, inputs * (height + 2) * row, layer.stride * row, layer.stride]
    n += [outputs * h * w * block, h * w * block, w * block, block]
    machine.run(
        Kind.CONV,
        n,
        x=machine.put(x, border=True),
        o=out,
        ptr=ptr,
        off=off,
        w=layer.weight.flatten()[layer.positions.long()],
        stats=stats,
        batch=batch,
        threads=threads,
    )
    return out, stats


def terms(layer):
    return max(1, int(layer.mask.flatten(1).sum(1).max()))


@given(problems())
@settings(max_examples=40)
def test_forward_with_the_statistics_of_its_batch(problem):
    machine, layer, x, _ = problem
    expected = layer.apply(x)
    bound = gamma(terms(layer)) * layer.apply(x.abs(), layer.weight.abs())
    out, stats = conv(machine, layer, x, Mode.STATS)
    close(machine.get(out, len(x), border=False), expected, bound, machine.dtype)
    close_sums(stats, expected, bound, vectors=machine.vectors)
    plain, untouched = conv(machine, layer, x, Mode.STORE)
    assert torch.equal(plain, out) and untouched.isnan().all()


@given(problems(), st.integers(2, 3))
@settings(max_examples=10)
def test_any_number_of_threads_gives_the_same_bits(problem, threads):
    machine, layer, x, _ = problem
    one, several = (conv(machine, layer, x, Mode.STATS, n) for n in (1, threads))
    assert torch.equal(one[0], several[0]) and torch.equal(one[1], several[1])


@given(problems(), st.booleans(), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=40)
def test_input_gradient(problem, relu, residual, in_place, shortcut):
    machine, layer, x, g = problem
    (batch, inputs, height, width), outputs = x.shape, layer.weight.shape[0]
    layers = [layer]
    if shortcut:  # a second layer that reads the same activation
        shape = (outputs, inputs, 1, 1)
        extra = make_mask("some", shape, g)
        layers.append(Layer(torch.randn(shape, generator=g), extra, layer.stride))
    h, w, block, s = height // layer.stride, width // layer.stride, machine.block, layer.stride

    def drawn(*shape):
        return torch.randn(shape, generator=g).to(machine.dtype).double()

    above = [drawn(batch, outputs, h, w) for _ in layers]
    padded = torch.cat([machine.put(d, border=True) for d in above])
    base = [i * padded.numel() // len(layers) for i in range(len(layers))]
    a, y, r = (drawn(batch, inputs, height, width) for _ in range(3))
    held_a, held_y = machine.put(a, border=True), machine.put(y, border=False)
    held_r = machine.put(r, border=False)
    out = held_r if residual and in_place else machine.empty(*x.shape, border=False)
    stats = machine.stats(batch, inputs)
    flat = torch.cat([layer.weight.flatten()[layer.positions.long()] for layer in layers])
    row, border = (w + 2) * block, (width + 2) * block
    for number, (i, j) in enumerate(itertools.product(range(s), repeat=2)):
        ptr, off, index = backward_pattern(machine, layers, height, width, base, i, j)
        shift = (i * width + j) * block
        extra = {"r": (held_r, shift)} if residual else {}
        if relu:
            extra["a"] = (held_a, (1 + i) * border + (1 + j) * block)
            extra["y"] = (held_y, shift)
        n = [Mode.RELU_BACK if relu else Mode.STORE, inputs, height // s, width // s]
        n += [outputs * (h + 2) * row, row, 1]
        n += [inputs * height * width * block, height * width * block]
        n += [s * width * block, s * block]
        n += [inputs * (height + 2) * border, (height + 2) * border, s * border, s * block]
        n += [int(number > 0)]
        machine.run(
            Kind.CONV,
            n,
            x=padded,
            o=(out, shift),
            ptr=ptr,
            off=off,
            w=flat[index.long()],
            stats=stats,
            batch=batch,
            **extra,
        )

    def by_torch(gradients, sign=lambda v: v):
        total = sign(r) if residual else torch.zeros_like(x)
        for layer, gradient in zip(layers, gradients, strict=True):
            variable = torch.zeros_like(x).requires_grad_()
            layer.apply(variable, sign(layer.weight)).backward(sign(gradient))
            total = total + variable.grad
        return total * (a > 0) if relu else total

    count = sum(int(layer.mask.transpose(0, 1).flatten(1).sum(1).max()) for layer in layers) + 1
    expected, bound = by_torch(above), gamma(count) * by_torch(above, torch.abs)
    close(machine.get(out, batch, border=False), expected, bound, machine.dtype)
    if relu:
        close_sums(stats, expected, bound, y, vectors=machine.vectors)


@given(problems(), st.booleans(), st.integers(1, 3))
@settings(max_examples=40)
def test_weight_gradient_at_active_positions_and_at_all(problem, everywhere, threads):
    machine, layer, x, g = problem
    (batch, inputs, height, width), outputs = x.shape, layer.weight.shape[0]
    h, w, block = height // layer.stride, width // layer.stride, machine.block
    above = torch.randn(batch, outputs, h, w, generator=g).to(machine.dtype).double()
    count = layer.mask.numel()
    positions = torch.arange(count, dtype=torch.int32) if everywhere else layer.positions
    ptr, off = forward_pattern(machine, layer, height, width, positions)
    row, source_row = (w + 2) * block, (width + 2) * block
    found = torch.full((len(positions),), torch.nan)
    n = [0, outputs, h, w, inputs * (height + 2) * source_row, layer.stride * source_row]
    n += [layer.stride, outputs * (h + 2) * row, (h + 2) * row, row]
    # The gradient lies in a buffer of each thread's, where a block's takes the place of the last.
    padded = machine.empty(threads * block, outputs, h, w, border=True)
    one, zero = torch.ones(outputs), torch.zeros(outputs)
    held = machine.put(above, border=False)
    parts = torch.full((machine.blocks(batch), count), torch.nan)
    pattern = {"ptr": ptr, "off": off}
    sums = torch.full((threads, count, machine.lanes), torch.nan)
    source = machine.put(x, border=True)
    operations = [
        (Kind.NORM_BACK, [outputs, h, w], [one, zero, zero], {"x": held, "y": held, "o": padded}),
        (
            Kind.WGRAD,
            n,
            [parts],
            {"x": source, "y": (padded, row + block), "stats": sums, **pattern},
        ),
        (Kind.WGRAD_SUM, [len(positions)], [parts], {"w": found}),
    ]
    machine.run_all(operations, batch, threads)

    def by_torch(x, above):
        weight = torch.zeros(layer.weight.shape, dtype=torch.float64, requires_grad=True)
        whole = Layer(layer.weight, torch.ones_like(layer.mask), layer.stride)
        whole.apply(x, weight).backward(above)
        return weight.grad.flatten()[positions.long()]

    bound = gamma(batch * h * w + 2) * by_torch(x.abs(), above.abs())
    close(found.double(), by_torch(x, above), bound)


def test_the_plainest_instruction_set_is_always_there():
    assert supported()[-1] == "generic" and Machine("generic", torch.float32).lanes == 4
