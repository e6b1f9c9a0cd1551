"""The program of a forward pass."""

from __future__ import annotations

from paper_repro.engine.bound import Bound
from paper_repro.engine.buffers import Size, branches
from paper_repro.engine.lower import Branch, MaxPool, Unit
from paper_repro.engine.program import Kind, Mode, Program, at

__all__ = ["activate", "forward"]


def forward(bound: Bound, train: bool) -> Program:
    """Images (an address to be set in the first operation) to features."""
    program, b = Program(), bound.buffers
    image = b.sizes[0]
    program.add(
        Kind.IMAGES, [image.channels, image.height, image.width, 0, 0, 0, 0], o=at(b.behind[0])
    )
    for i, node in enumerate(bound.nodes):
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
            _convolve(bound, program, branch, size, train)
        activate(bound, program, i + 1, node)
    last = b.sizes[-1]
    program.add(
        Kind.POOL,
        [last.channels, last.height, last.width],
        [at(b.features)],
        a=at(b.behind[-1]),
    )
    return program


def activate(bound: Bound, program: Program, activation: int, node: Unit) -> None:
    """Batch norm, what is added, and ReLU."""
    b, size = bound.buffers, bound.buffers.sizes[activation]
    main, extra = bound.norms[node.main.conv], {}
    f = [at(main.scale), at(main.shift)]
    if node.shortcut is not None:
        short = bound.norms[node.shortcut.conv]
        f += [at(short.scale), at(short.shift)]
        extra["y"] = at(b.before[node.shortcut.conv])
    if node.residual is not None:
        extra["r"] = at(b.behind[node.residual])
    program.add(
        Kind.NORM_RELU,
        [size.channels, size.height, size.width, int(activation in b.passing)],
        f,
        x=at(b.before[node.main.conv]),
        a=at(b.behind[activation]),
        **extra,
    )


def _convolve(bound: Bound, program: Program, branch: Branch, size: Size, train: bool) -> None:
    b, norm = bound.buffers, bound.norms[branch.conv]
    source, block = b.sizes[branch.source], b.block
    ptr, off = bound.forward_patterns[branch.conv]
    row = (source.width + 2) * block
    op = program.add(
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
        w=bound.vector(f"{branch.conv}.weight", bound.weights),
        stats=at(norm.stats),
    )
    op.n[16] = int(branch.source in b.passing)
    module = bound.model.get_submodule(branch.norm)
    program.add(
        Kind.COEF_TRAIN if train else Kind.COEF_EVAL,
        [branch.outputs, size.pixels],
        [
            bound.vector(f"{branch.norm}.weight", bound.weights),
            bound.vector(f"{branch.norm}.bias", bound.weights),
            at(norm.scale),
            at(norm.shift),
            at(norm.mean),
            at(norm.inverse),
            at(module.running_mean),  # type: ignore[arg-type]
            at(module.running_var),  # type: ignore[arg-type]
        ],
        stats=at(norm.stats),
    )
