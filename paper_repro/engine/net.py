"""A network that trains with its zeros left out: the engine as a module with one parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from weakref import ref

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
from paper_repro.engine.watch import TOUCHED, Watch, check_masks, check_read, check_tensors
from paper_repro.errors import UserError
from paper_repro.optim import exact
from paper_repro.sparse import prunable
from paper_repro.sparse.export import TRAINED_APART

__all__ = ["STORAGES", "SparseNet"]

#: How activations are stored: weights and sums are float32 in both.
STORAGES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class _Owner(Protocol):
    """Masks that live as long as the net, and know its optimizer."""

    @property
    def optimizer(self) -> torch.optim.Optimizer | None: ...

    def settle(self) -> None: ...


class SparseNet(nn.Module):
    r"""A model's forward and backward pass over its active weights only, on the CPU.

    Called like the model, with gradients by autograd, but with one flat parameter that holds the
    active weights of masked layers and all of every other parameter::

        net = SparseNet(model, masks)                 # masks: boolean tensors by parameter name
        optimizer = S2SAM(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), rho=0.05)
        loss_fn(net(images), labels).backward(); optimizer.step(); optimizer.zero_grad()
        net.write_back(optimizer=optimizer)           # the exact weights w into the model

    Time and memory of the convolutions, of the optimizer and of its state fall with density.
    Arithmetic is float32 with batch-norm statistics summed in float64; the sums' order differs from
    PyTorch's, so results agree to rounding. The bits do not depend on the number of threads.

    Batch norm's running statistics are the model's own buffers. A model in evaluation mode
    (``net.eval()``) uses them. A forward pass keeps activations for one backward pass, that of the
    latest one in training mode.

    The model's parameters are not trained: they are what :meth:`write_back` or
    :func:`paper_repro.sparse.export_weights` last put there. Where something else wrote to them
    since, the next forward pass raises, for :meth:`take_in` to take them over.

    A state dict holds the active weights, where they lie, and batch norm's buffers. Load it before
    the optimizer's, or both by :mod:`paper_repro.engine.checkpoint`. Copies and pickles of the net
    itself are refused.

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
        check_masks(named, prunable(model), masks)
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
        self.probe = nn.BatchNorm1d(1, affine=False, dtype=torch.float32)
        #: While true, a backward pass also leaves the gradients by all positions of masked layers
        #: in ``dense``.
        self.open = False
        self.dense: dict[str, Tensor] = {}
        #: Whether ``dense`` is of the latest backward pass.
        self.dense_is_fresh = False
        self._norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        self._generation = 0  # of what the activations are
        self._known: list[int] = []
        self._held: list[Tensor] = []
        #: What puts the weights into the model where it is exported: None for the net itself.
        self._owner: _Owner | None = None
        self._resize(batch)
        self._watch = Watch(model, self._norms)
        self._watch.note(self.flat)
        self.own()
        self.train(model.training)

    def _resize(self, batch: int) -> None:
        lanes = self.library.engine_lanes()
        threads = self.threads or torch.get_num_threads()
        with torch.inference_mode(False):  # training is to write to them too
            self.activations = Buffers(
                self.network, self.image, batch, STORAGES[self.storage], lanes, threads
            )
        self._forget()

    def _forget(self) -> None:
        self._generation += 1
        self._programs: dict[str, Program] = {}
        self._bound: Bound | None = None

    def _bind(self) -> None:
        """Addresses anew, where tensors were replaced that programs read.

        Raises:
            UserError: by such as the kernels cannot read.
        """
        if self._bound is not None and self._addresses() == self._known:
            return
        check_read(self.model, self.flat.detach(), len(self.layout))
        self._forget()
        self._known = self._addresses()
        with torch.inference_mode(False):
            # While they live, nothing else can lie at these addresses.
            self._held = [t.detach() for t in self._read()]
            self.gradients = torch.zeros(len(self.layout), dtype=torch.float32)
            self._bound = Bound(
                self.network,
                self.model,
                self.activations,
                self.layout,
                self.flat.detach(),
                self.gradients,
                self.library,
            )

    def _program(self, name: str) -> Program:
        """``train``, ``eval``, ``back`` or ``open``, made at its first use after a change."""
        if name not in self._programs:
            assert self._bound is not None
            with torch.inference_mode(False):
                if name in ("train", "eval"):
                    made = forward(self._bound, train=name == "train")
                elif name == "open":
                    shapes = self.layout.shapes
                    self.dense = {
                        n: torch.zeros(shapes[n], dtype=torch.float32) for n in self.layout.active
                    }
                    made = backward(self._bound, self.dense)
                else:
                    made = backward(self._bound)
            self._programs[name] = made
        return self._programs[name]

    def _read(self) -> Iterator[Tensor]:
        """The tensors that programs read and that others may replace."""
        yield self.flat
        for norm in self._norms:
            held = norm._buffers  # several times as fast as attributes, and each step looks
            for name in ("running_mean", "running_var"):
                if (t := held.get(name)) is not None:
                    yield t

    def _addresses(self) -> list[int]:
        return [t.data_ptr() for t in self._read()]

    def _check_model(self) -> None:
        """Raise a UserError where training would go past what was done to the model."""
        if self._watch.touched():
            # Of another type or on another device is what says more.
            check_read(self.model, self.flat.detach(), len(self.layout))
            raise UserError(TOUCHED)
        if self.training:
            self._watch.check_trainable()

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
        self._check_model()
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
        self._bind()
        track = False
        if train:
            if self._let_go:
                self.own(self._owner)
            self.probe(torch.zeros(2, 1, dtype=torch.float32))
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
        before = self._dense_before() if self.open else {}
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
            for other, earlier in before.items():
                self.dense[other] += earlier
        return self.gradients.clone()

    def _dense_before(self) -> dict[str, Tensor]:
        """What the next dense gradients are added to, as autograd adds to ``flat.grad``.

        Backward passes with closed masks before them have left active positions only.
        """
        gradient = self.flat.grad
        if gradient is None or not gradient.any():  # zero_grad() in either way
            return {}
        if self.dense_is_fresh:
            return {name: dense.clone() for name, dense in self.dense.items()}
        return {name: self.layout.unpack(gradient, name) for name in self.layout.active}

    def dense_gradient(self, name: str) -> Tensor:
        """The gradient by a masked layer's weights, by pruned ones too where it was open.

        0 where there is none.
        """
        gradient = self.flat.grad
        if gradient is None or not gradient.any():
            return torch.zeros(self.layout.shapes[name], dtype=self.flat.dtype)
        return self.dense[name] if self.dense_is_fresh else self.layout.unpack(gradient, name)

    @torch.no_grad()
    def write_back(
        self, flat: Tensor | None = None, *, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        """Put the weights into the model's parameters.

        Args:
            flat: another flat vector in their place.
            optimizer: with it the exact weights w; without, the weights as they stand, which under
                S2SAM are the perturbed u until ``optimizer.eval()``.
        """
        source = exact(optimizer, self.flat) if flat is None else flat
        for name, p in self.model.named_parameters():
            p.copy_(self.layout.unpack(source, name))
        self._watch.note(self.flat)

    @torch.no_grad()
    def take_in(self) -> None:
        """Take the model's parameters over, e.g. after ``model.load_state_dict``; masks stay.

        As with PyTorch's parameters, an optimizer's own copies of the weights are left alone: under
        S2SAM do it between ``optimizer.eval()`` and ``optimizer.train()``.

        Raises:
            UserError: they are no longer float32 on the CPU.
        """
        named = dict(self.model.named_parameters())
        check_tensors(named)
        self.flat.copy_(self.layout.pack(named))
        self.write_back()

    @torch.no_grad()
    def settle(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Put the weights into the model, unless it has later ones.

        Raises:
            UserError: something else wrote to the model's parameters, and the net trained on.
        """
        if not self._watch.touched():
            self.write_back(optimizer=optimizer)
            return
        source = exact(optimizer, self.flat)
        named = dict(self.model.named_parameters())
        if all(torch.equal(p, self.layout.unpack(source, name)) for name, p in named.items()):
            self._watch.note(self.flat)
        elif self._watch.trained(self.flat):
            raise UserError(TOUCHED)

    def own(self, owner: _Owner | None = None) -> None:
        """See that an export of the model is of what is trained here.

        Args:
            owner: what knows the optimizer, which then lives as long as the net.
        """
        self._owner, self._let_go = owner, False
        TRAINED_APART[self.model] = ref(owner or self)

    def let_go(self) -> None:
        """Leave the model to others, with the weights in it, until the net trains again."""
        owner = self._owner or self
        owner.settle()
        if TRAINED_APART.get(self.model, lambda: None)() is owner:
            del TRAINED_APART[self.model]
        self._let_go = True

    def get_extra_state(self) -> dict[str, dict[str, Tensor]]:
        """What ``flat`` alone does not say: where its weights lie, and batch norm's buffers."""
        return {
            "active": {name: active.int() for name, active in self.layout.active.items()},
            "buffers": {name: b.detach() for name, b in self.model.named_buffers()},
        }

    @torch.no_grad()
    def set_extra_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take batch norm's buffers; the positions have been taken before the weights."""
        for name, buffer in self.model.named_buffers():
            buffer.copy_(state["buffers"][name])

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # First of all: the weights' number may be another one.
        extra = state_dict.get(f"{prefix}_extra_state")
        if extra is not None:
            self._lie_at(extra["active"])
        super()._load_from_state_dict(state_dict, prefix, *rest)  # type: ignore[arg-type]

    def _lie_at(self, active: Mapping[str, Tensor]) -> None:
        """Adopt a state dict's positions."""
        shapes = self.layout.shapes
        if set(active) != set(self.layout.active):
            raise UserError("the state dict's masks are of other layers than this net's")
        found = {name: a.long() for name, a in active.items()}
        for name, a in found.items():  # the kernels read memory where they say
            if len(a) and not (a[0] >= 0 and (a.diff() > 0).all() and a[-1] < shapes[name].numel()):
                raise UserError(f"the state dict's mask of {name!r} is of another shape")
        if all(torch.equal(found[name], mine) for name, mine in self.layout.active.items()):
            return
        optimizer = None if self._owner is None else self._owner.optimizer
        if optimizer is not None and optimizer.state.get(self.flat):
            raise UserError(
                "the weights in this state dict lie elsewhere than those of the optimizer's state: "
                "load the optimizer's first, or both by paper_repro.engine.checkpoint.load"
            )
        self.adopt(Layout(shapes, found))

    def __getstate__(self) -> dict[str, Any]:
        raise UserError(
            "a SparseNet holds addresses of memory, so it cannot be copied or pickled: take its "
            "state_dict(), or write_back() and copy the model"
        )

    @torch.no_grad()
    def publish(self, optimizer: torch.optim.Optimizer) -> None:
        """Put the exact weights w and the latest gradients into the model, for measurements."""
        self.write_back(optimizer=optimizer)
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
