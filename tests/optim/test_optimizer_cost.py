"""What every optimizer owes its users: the price of a step."""

import weakref

import pytest
import torch
from optimizer_cases import (
    BUFFERS,
    CASES,
    COST,
    closures,
    every,
    make,
    momentum,
    run,
    strength,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from toys import mlp

from paper_repro.optim import Closure


@every
def test_cost_of_a_step(case):
    model = mlp()
    optimizer = make(case, momentum(model.parameters()))
    run(model, optimizer, 1)  # AsyncSAM has nothing to perturb along yet
    counts = {"gradient": 0, "forward": 0}

    def count(_module, inputs, outputs):
        size = len(inputs[0])
        if outputs.requires_grad:
            # A hook on the outputs runs when the backward pass reaches them.
            outputs.register_hook(lambda g: counts.update(gradient=counts["gradient"] + size))
        else:
            counts["forward"] += size

    model.register_forward_hook(count)
    run(model, optimizer, 20)
    gradients, forwards = COST[case]
    assert counts["gradient"] / 160 == pytest.approx(gradients)
    assert counts["forward"] / 160 == pytest.approx(forwards)
    assert getattr(optimizer, "gradients_per_step", 1.0) == pytest.approx(gradients)
    assert getattr(optimizer, "extra_forwards", 0.0) == forwards
    if case != "sgd":
        assert optimizer.cost() == (pytest.approx(gradients), forwards)


@every
def test_a_step_without_perturbation_costs_one_gradient(case):
    if strength(case) != "rho":
        return
    model = mlp()
    optimizer = make(case, momentum(model.parameters()), rho=0.0)
    passes = []
    model.register_forward_hook(lambda _module, _inputs, z: passes.append(z.requires_grad))
    run(model, optimizer, 12)
    assert passes == [True] * 12
    assert optimizer.cost() == (1.0, 0.0)


class Sized(TorchDispatchMode):
    """Knows the living tensors of one number of elements."""

    def __init__(self, numel):
        super().__init__()
        self.numel = numel
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for t in result if isinstance(result, list | tuple) else [result]:
            if isinstance(t, torch.Tensor) and t.numel() == self.numel:
                self.seen.append(weakref.ref(t))
        return result

    def count(self, own):
        """Distinct ones, those in ``own`` left out."""
        alive = [t for t in (ref() for ref in self.seen) if t is not None]
        self.seen = [weakref.ref(t) for t in alive]
        places = {t.untyped_storage().data_ptr() for t in alive}
        return len(places - {t.untyped_storage().data_ptr() for t in own if t is not None})


class Watched(Closure):
    """Calls ``watch`` before and after every pass, when memory is at its peak."""

    watch = None

    def __call__(self, subset=None):
        self.watch()
        loss = super().__call__(subset)
        self.watch()
        return loss

    def sample_losses(self, outputs=None):
        self.watch()
        return super().sample_losses(outputs)


@every
def test_extra_memory(case, monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 211, bias=False), nn.Tanh(), nn.Linear(211, 3))
    weight = model[0].weight
    optimizer = make(case, momentum(model.parameters()))
    most = 0
    with Sized(weight.numel()) as living:

        def watch(*_):
            nonlocal most
            state = optimizer.state.get(weight, {})
            most = max(most, living.count([weight, weight.grad, state.get("momentum_buffer")]))

        monkeypatch.setattr(Watched, "watch", watch)
        for closure in closures(model, optimizer, 12, kind=Watched):
            optimizer.step(closure)
            watch()
    declared = getattr(optimizer, "extra_buffers", 0.0)
    assert most == declared
    if not CASES[case][1]:
        assert declared == BUFFERS[case]


class Launches(TorchDispatchMode):
    """Counts operations that do work, other than foreach ones, while it is switched on."""

    free = ("aten.view", "aten.split", "aten.detach", "aten.alias", "aten.empty_like", "aten.t.")

    def __init__(self):
        super().__init__()
        self.on = True
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        if self.on and not name.startswith(("aten._foreach", *self.free)):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@every
def test_no_loop_over_parameters_in_the_step(case, monkeypatch):
    def launched(layers):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 3), *(nn.Linear(3, 3) for _ in range(layers)))
        optimizer = make(case, momentum(model.parameters(), foreach=True))
        run(model, optimizer, 2)  # the first steps may allocate
        mode = Launches()

        class Silent(Closure):
            def __call__(self, subset=None):
                mode.on = False
                loss = super().__call__(subset)
                mode.on = True
                return loss

            def sample_losses(self, outputs=None):
                mode.on = False
                losses = super().sample_losses(outputs)
                mode.on = True
                return losses

        steps = list(closures(model, optimizer, 10, kind=Silent))
        with mode:
            for closure in steps:
                optimizer.step(closure)
        return mode.names

    # The mask of SSAM is chosen anew only now and then; in these steps it stays.
    monkeypatch.setattr("optimizer_cases.STEPS", 1000)
    few, many = launched(2), launched(12)
    assert len(few) == len(many), set(many)
