"""A network that trains with its zeros left out: the engine as a module with one parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from paper_repro.engine.backward import backward
from paper_repro.engine.bound import Bound
from paper_repro.engine.buffers import Buffers, Size
from paper_repro.engine.build import library
from paper_repro.engine.forward import forward
from paper_repro.engine.layout import Layout
from paper_repro.engine.lower import Unit, check_image, lower
from paper_repro.engine.program import Call, Program
from paper_repro.errors import UserError
from paper_repro.optim import exact
from paper_repro.sparse import prunable

__all__ = ["STORAGES", "SparseNet"]

#: How activations are stored: weights and sums are float32 in both.
STORAGES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class SparseNet(nn.Module):
    r"""A model's forward and backward pass over its active weights only, on the CPU.

    Called like the model, with gradients by autograd, but with one flat parameter that holds the
    active weights of masked layers and all of every other parameter::

        net = SparseNet(model, masks)                 # masks: boolean tensors by parameter name
        optimizer = S2SAM(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), rho=0.05)
        loss_fn(net(images), labels).backward(); optimizer.step(); optimizer.zero_grad()
        net.write_back()                              # the weights into the model

    Time and memory of the convolutions, of the optimizer and of its state fall with density.
    Arithmetic is float32 with batch-norm statistics summed in float64; the sums' order differs from
    PyTorch's, so results agree to rounding. The bits do not depend on the number of threads.

    Batch norm's running statistics are the model's own buffers. A model in evaluation mode
    (``net.eval()``) uses them. A forward pass keeps activations for one backward pass, that of the
    latest one in training mode.

    Args:
        model: a network that :func:`paper_repro.engine.lower` covers, on the CPU, in float32.
        masks: boolean masks of the masked weights, by parameter name.
        storage: ``float32``, or ``bfloat16`` for activations and their gradients: half the memory
            traffic for gradients with the relative error of bfloat16.
        batch: images of a training step (more are taken, at the price of new buffers).
        image: channels, height and width of an image.
        threads: None for as many as PyTorch uses; one block of images (16, or 32 in bfloat16) is
            one thread's.
        isa: the instruction set, see :data:`paper_repro.engine.build.INSTRUCTION_SETS`.

    Raises:
        Uncovered: the engine does not cover the network.
        UserError: the kernels cannot be compiled, or an argument is out of range.
    """

    model: nn.Module

    def __init__(
        self,
        model: nn.Module,
        masks: Mapping[str, Tensor],
        storage: str = "float32",
        batch: int = 64,
        image: tuple[int, int, int] = (3, 32, 32),
        threads: int | None = None,
        isa: str | None = None,
    ) -> None:
        super().__init__()
        if storage not in STORAGES:
            raise UserError(f"storage is {' or '.join(STORAGES)}, not {storage!r}")
        self.network = lower(model)
        check_image(self.network, *image[1:])
        first = self.network.nodes[0]
        if isinstance(first, Unit) and first.main.inputs != image[0]:
            raise UserError(f"the network takes {first.main.inputs} channels, not {image[0]}")
        named = dict(model.named_parameters())
        _check(named, prunable(model), masks)
        if batch < 1:
            raise UserError(f"batch is at least 1, not {batch}")
        self.library = library(isa)
        self.storage = storage
        self.image = Size(*image)
        self.threads = threads
        # Not a submodule: its parameters are not this module's.
        object.__setattr__(self, "model", model)
        self.layout = Layout.of(named, masks)
        self.flat = nn.Parameter(self.layout.pack(named))
        # Runs in every training pass, so that a hook on batch norm's forward passes finds one.
        self.probe = nn.BatchNorm1d(1, affine=False)
        #: While true, a backward pass also leaves the gradients by all positions of masked layers
        #: in ``dense``.
        self.open = False
        self.dense: dict[str, Tensor] = {}
        #: Whether ``dense`` is of the latest backward pass.
        self.dense_is_fresh = False
        self._norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        self._generation = 0  # of what the activations are
        self._known: list[int] = []
        self._resize(batch)
        self.train(model.training)

    def _resize(self, batch: int) -> None:
        lanes = self.library.engine_lanes()
        threads = self.threads or torch.get_num_threads()
        self.activations = Buffers(
            self.network, self.image, batch, STORAGES[self.storage], lanes, threads
        )
        self._forget()

    def _forget(self) -> None:
        self._generation += 1
        self._programs: dict[str, Program] = {}
        self._bound: Bound | None = None

    def _program(self, name: str) -> Program:
        """``train``, ``eval``, ``back`` or ``open``, made at its first use after a change."""
        if self._bound is None or self._addresses() != self._known:
            self._forget()
            self._known = self._addresses()
            self.gradients = torch.zeros(len(self.layout))
            self._bound = Bound(
                self.network,
                self.model,
                self.activations,
                self.layout,
                self.flat.detach(),
                self.gradients,
                self.library,
            )
        if name not in self._programs:
            if name in ("train", "eval"):
                made = forward(self._bound, train=name == "train")
            elif name == "open":
                shapes = self.layout.shapes
                self.dense = {n: torch.zeros(shapes[n]) for n in self.layout.active}
                made = backward(self._bound, self.dense)
            else:
                made = backward(self._bound)
            self._programs[name] = made
        return self._programs[name]

    def _addresses(self) -> list[int]:
        """Where the tensors lie that programs read and that others may replace."""
        running = (t for m in self._norms for t in (m.running_mean, m.running_var))
        return [self.flat.data_ptr(), *(t.data_ptr() for t in running if t is not None)]

    def _call(self, batch: int, track: bool = False) -> Call:
        norm = self._norms[0]
        momentum = float(norm.momentum or 0.0) if track else 0.0
        threads = self.threads or torch.get_num_threads()
        blocks = -(-batch // self.activations.block)
        return Call(
            batch, blocks, min(threads, blocks, self.activations.threads), momentum, norm.eps
        )

    def _run(self, name: str, images: Tensor | None, call: Call) -> None:
        program = self._program(name)
        if images is not None:
            op = program.first()
            op.x = images.data_ptr()
            op.n[3:7] = images.stride()
        program.run(self.library, int(self.storage == "bfloat16"), call)

    def forward(self, images: Tensor) -> Tensor:
        """Images float32 [B, C, H, W], in any memory format, to logits float32 [B, classes]."""
        size = (self.image.channels, self.image.height, self.image.width)
        if images.dim() != 4 or images.shape[1:] != size:
            raise UserError(
                f"the engine was made for images {list(size)}, not a batch {list(images.shape)}"
            )
        if len(images) == 0:
            raise UserError("a batch has at least one image")
        if images.device.type != "cpu":
            raise UserError(f"the engine computes on the CPU, the images are on {images.device}")
        images = images.detach().float()
        if self.training:
            last = self.activations.sizes[-1]
            if len(images) * last.pixels == 1:
                raise UserError("batch norm needs more than one value a channel to train on")
            logits: Tensor = _Step.apply(self.flat, self, images)
            return logits
        with torch.no_grad():
            parts = [self._features(part, False) for part in images.split(self.activations.batch)]
            return torch.cat([self._classify(part) for part in parts])

    def _features(self, images: Tensor, train: bool) -> Tensor:
        if len(images) > self.activations.batch:
            self._resize(len(images))
        track = False
        if train:
            self.probe(torch.zeros(2, 1))
            track = self.probe.track_running_stats and self._norms[0].track_running_stats
            if track:
                for norm in self._norms:
                    norm.num_batches_tracked.add_(1)  # type: ignore[union-attr, operator]
        self._generation += 1
        self._run("train" if train else "eval", images, self._call(len(images), track))
        return self.activations.features[: len(images)].clone()

    def _classifier(self) -> tuple[Tensor, Tensor]:
        name = self.network.classifier
        weight = self.layout.unpack(self.flat, f"{name}.weight")
        return weight, self.flat.detach()[self.layout.slices[f"{name}.bias"]]

    def _classify(self, features: Tensor) -> Tensor:
        weight, bias = self._classifier()
        return torch.addmm(bias, features, weight.t())

    def _backward(self, gradient: Tensor, features: Tensor) -> Tensor:
        """The flat gradient from that by the logits."""
        call = self._call(len(gradient))
        weight, _ = self._classifier()
        torch.mm(gradient, weight, out=self.activations.feature_gradient[: len(gradient)])
        self._run("open" if self.open else "back", None, call)
        self.dense_is_fresh = self.open
        name, slices = self.network.classifier, self.layout.slices
        by_weight = gradient.t() @ features
        active = self.layout.active.get(f"{name}.weight")
        flat = by_weight.flatten()
        self.gradients[slices[f"{name}.weight"]] = flat if active is None else flat[active]
        self.gradients[slices[f"{name}.bias"]] = gradient.sum(0)
        if self.open:
            if f"{name}.weight" in self.dense:
                self.dense[f"{name}.weight"].copy_(by_weight)
            for other, dense in self.dense.items():
                self.gradients[slices[other]] = dense.flatten()[self.layout.active[other]]
        return self.gradients.clone()

    @torch.no_grad()
    def write_back(self, flat: Tensor | None = None) -> None:
        """Put the weights, or another flat vector, into the model's parameters."""
        source = self.flat if flat is None else flat
        for name, p in self.model.named_parameters():
            p.copy_(self.layout.unpack(source, name))

    @torch.no_grad()
    def publish(self, optimizer: torch.optim.Optimizer) -> None:
        """Put the exact weights w and the latest gradients into the model, for measurements."""
        self.write_back(exact(optimizer, self.flat))
        for name, p in self.model.named_parameters():
            gradient = self.flat.grad
            p.grad = None if gradient is None else self.layout.unpack(gradient, name)

    def perturbation(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """What the weights stand off the exact w, dense, by parameter."""
        epsilon = self.flat.detach() - exact(optimizer, self.flat).detach()
        return self.layout.unpack_all(epsilon)

    def adopt(self, layout: Layout) -> None:
        """Go on with another layout, to which the weights and their gradient are moved."""
        old, self.layout = self.layout, layout
        gradient = self.flat.grad
        self.flat.grad = None
        moved = old.moved(self.flat, layout)
        # A graph that is still alive, such as a loss's, would have the next gradient in the old
        # size. PyTorch lets go of it where the type changes, and only there.
        self.flat.data = moved.double()
        self.flat.data = moved
        if gradient is not None:
            self.flat.grad = old.moved(gradient, layout)
        self.dense_is_fresh = False
        self._forget()


def _check(
    named: Mapping[str, Tensor], maskable: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> None:
    """The kernels read memory where masks say: no mask of another shape may reach them."""
    for name, p in named.items():
        if p.dtype != torch.float32 or p.device.type != "cpu":
            raise UserError(f"the engine needs float32 on the CPU: {name} is {p.dtype}, {p.device}")
    for name, mask in masks.items():
        if name not in maskable:
            raise UserError(
                f"{name!r} is not a weight of a convolution or linear layer, so it has no mask"
            )
        if mask.shape != named[name].shape:
            raise UserError(
                f"the mask of {name!r} has shape {tuple(mask.shape)}, "
                f"the weight has {tuple(named[name].shape)}"
            )


class _Step(torch.autograd.Function):
    """Forward and backward pass of a training step."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, net: SparseNet, images: Tensor) -> Tensor:
        features = net._features(images, True)
        ctx.net, ctx.generation, ctx.features = net, net._generation, features
        ctx.version = flat._version
        return net._classify(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        net: SparseNet = ctx.net
        if ctx.generation != net._generation or net._addresses() != net._known:
            raise RuntimeError(
                "the engine keeps the activations of its latest forward pass only: call backward "
                "before the next forward pass and before masks change"
            )
        if ctx.version != net.flat._version:
            raise RuntimeError("the weights were changed between forward and backward pass")
        return net._backward(gradients[0].float(), ctx.features), None, None
