"""A training step that is recorded once as a CUDA graph and then replayed, without Python."""

from __future__ import annotations

import contextlib
import gc
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from paper_repro.optim import Closure
from paper_repro.sparse import SparseMethod
from paper_repro.sparse.dynamic import DynamicMethod

__all__ = ["CAPTURABLE", "GraphedStep"]

#: Optimizers whose step launches the same operators on the same memory every time: no decision
#: that depends on the step's number or on data, no random draw, no state that is replaced and not
#: written over (as MSAM's factor is). The others train with the plain step.
CAPTURABLE = frozenset({"sgd", "s2sam", "sam"})

Capture = Callable[[Callable[[], None]], Callable[[], None]]
_WARMUP = 3  # steps that run as they are written, after which all state and workspaces exist


class GraphedStep:
    """Takes the place of the plain step: augmentation, forward, backward, masks, optimizer, sums.

    The first steps run eagerly. Then the whole step is captured, and each later one copies its
    batch's indices and learning rate into place and replays. Nothing waits for the device. A
    sparse method goes on wrapping the optimizer's step, so that its topology updates, and steps
    that they replace, run eagerly between replays; they edit weights, masks and optimizer state
    in place, where the graph reads them.

    The base optimizer must be ``torch.optim.SGD``; it runs fused, which accepts a learning rate
    on the device. On the CPU, where there are no graphs, every step runs eagerly through the same
    code; that is how it is tested where there is no GPU.

    Args:
        build: makes a batch's closure from its indices (on the device, always the same tensor).
        count: adds a closure's loss and hits to sums on the device.
        optimizer: that trains, one of ``CAPTURABLE``.
        method: the sparse method attached to it.
        batch_size: samples a step.
        device: to train on.
        capture: turns the step into something that repeats it; for tests.
    """

    def __init__(
        self,
        build: Callable[[Tensor], Closure],
        count: Callable[[Closure], None],
        optimizer: Optimizer,
        method: SparseMethod,
        *,
        batch_size: int,
        device: torch.device,
        capture: Capture | None = None,
    ) -> None:
        self.build = build
        self.count = count
        self.optimizer = optimizer
        self.index = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self.rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.capture = capture or (self._capture if self.stream is not None else lambda body: body)
        if isinstance(method, DynamicMethod):
            self._plain_step = method.replace_step(self._inner)
        else:
            self._plain_step = optimizer.step
            optimizer.step = types.MethodType(  # type: ignore[method-assign]
                lambda _optimizer, closure=None: self._inner(closure), optimizer
            )
        self.reset()

    def reset(self) -> None:
        """Forget the recording, because a checkpoint has put other tensors in place."""
        self._replay: Callable[[], None] | None = None
        self._gradients: list[tuple[Tensor, Tensor]] = []
        self._eager_steps = 0

    def __call__(self, index: Tensor) -> None:
        """One training step on the samples ``index`` (int64 [batch_size])."""
        with self._own_stream():
            self.index.copy_(index)
            # Reaches _inner, or a topology update in its place.
            self.optimizer.step(self._eagerly)  # type: ignore[arg-type]
            self._restore_gradients()

    def _eagerly(self) -> Tensor:
        """The closure of a step that a topology update replaces: gradients, but no step."""
        closure = self.build(self.index)
        loss = closure()
        self.count(closure)
        return loss

    def _inner(self, _closure: Any = None) -> None:
        """The optimizer's own step."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            rate.fill_(group["lr"])
        if self._replay is None and self._eager_steps < _WARMUP:
            self._eager_steps += 1
            self._body()
            return
        if self._replay is None:
            self._replay = self.capture(self._body)
            self._gradients = [
                (p, p.grad)
                for group in self.optimizer.param_groups
                for p in group["params"]
                if p.grad is not None
            ]
        self._replay()

    def _body(self) -> None:
        with self._device_rates():
            closure = self.build(self.index)
            self._plain_step(closure)  # type: ignore[arg-type]
            self.count(closure)

    @contextlib.contextmanager
    def _device_rates(self) -> Iterator[None]:
        """Inside, the base optimizer reads the learning rates from the device."""
        settings = [
            {"lr": rate, "fused": True, "foreach": False, "differentiable": False}
            for rate in self.rates
        ]
        groups = self.optimizer.param_groups
        before = [
            {name: group[name] for name in new} for group, new in zip(groups, settings, strict=True)
        ]
        for group, new in zip(groups, settings, strict=True):
            group.update(new)
        try:
            yield
        finally:
            for group, old in zip(groups, before, strict=True):
                group.update(old)

    @torch.no_grad()
    def _restore_gradients(self) -> None:
        """Put gradients of an eager step where the recording keeps its own."""
        for p, recorded in self._gradients:
            if p.grad is not recorded:
                if p.grad is not None:
                    recorded.copy_(p.grad)
                p.grad = recorded

    @contextlib.contextmanager
    def _own_stream(self) -> Iterator[None]:
        # Warm-up, capture and replay share one stream: autograd remembers streams.
        if self.stream is None:
            yield
            return
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)

    def _capture(self, body: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # A collection during the capture could free another run's graph, which CUDA forbids then.
        gc.collect()
        collecting = gc.isenabled()
        gc.disable()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                body()
        finally:
            if collecting:
                gc.enable()
        return graph.replay
