"""What loops do to gradients, layers and schedules besides training, and masks must outlast."""

import pytest
import torch
from torch import nn
from toys import backward, batches, clones, equal, train

from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS, S2SAM, SAM, exact
from paper_repro.sparse import DSR, SET, GraNet, Magnitude, Random, RigL, choose_layers


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))
    )


def sparse(method, optimizer):
    return all(
        not exact(optimizer, w).detach()[~method.masks[name]].any()
        and not w.grad[~method.masks[name]].any()
        for name, w in method.masks.weights.items()
    )


def noise(model):
    for p in model.parameters():
        p.grad.add_(torch.randn_like(p.grad), alpha=1e-2)


def anew(model):
    for p in model.parameters():
        p.grad = torch.randn_like(p)


@pytest.mark.parametrize("change", [noise, anew])
@pytest.mark.parametrize("wrap", [lambda base: base, S2SAM], ids=["sgd", "s2sam"])
def test_gradients_changed_after_the_backward_pass_are_masked(wrap, change):
    model = net()
    optimizer = wrap(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    method = RigL(model, optimizer, sparsity=0.8, total_steps=40, delta_t=5)
    for batch in batches(18):
        optimizer.zero_grad()
        backward(model, batch)
        change(model)
        optimizer.step()
    assert method.updates == 3
    assert sparse(method, optimizer)


@pytest.mark.parametrize("name", ["plain", "sam", "fsam", "looksam"])
def test_gradients_changed_within_a_closure_are_masked(name):
    model = net()
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = base
    if name != "plain":
        optimizer = OPTIMIZERS.build(OPTIMIZERS.spec(name), base=base, model=model, total_steps=10)
    method = Random(model, optimizer, sparsity=0.8)
    for batch in batches(4):

        def closure(batch=batch):
            optimizer.zero_grad()
            loss = backward(model, batch)
            noise(model)
            return loss

        optimizer.step(closure)
    assert sparse(method, optimizer)


@pytest.mark.parametrize("fused", [False, True])
def test_a_skipped_step_counts_for_no_update(fused):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=fused)
    method = RigL(model, optimizer, sparsity=0.8, total_steps=100, delta_t=3)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for step, (x, y) in enumerate(batches(6)):
        optimizer.zero_grad()
        before = clones(model)
        loss = nn.functional.cross_entropy(model(x), y) * (1.0 if step == 0 else float("inf"))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if step:
            assert equal(before, clones(model))
    assert (method.steps, method.updates) == (1, 0)
    method.detach()
    assert getattr(optimizer, "_step_supports_amp_scaling", False) is fused


@pytest.mark.parametrize("cls", [RigL, SET, DSR])
def test_a_layer_frozen_in_mid_training_is_left_alone(cls):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    often = {RigL: {"delta_t": 5}, SET: {"steps_per_epoch": 5}, DSR: {"period": 5.0}}[cls]
    method = cls(model, optimizer, sparsity=0.8, distribution="erk", total_steps=100, **often)
    data = batches(60)
    train(model, optimizer, data[:3])
    for p in model[2].parameters():
        p.requires_grad_(False)
    frozen = model[2].weight.detach().clone()
    first = method.masks["0.weight"]
    train(model, optimizer, data[3:])
    assert torch.equal(model[2].weight, frozen)
    assert torch.equal(method.masks["2.weight"], frozen != 0)
    assert not torch.equal(method.masks["0.weight"], first)


def test_a_sparsity_that_no_layer_could_have_is_refused():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    choose_layers(model, include=["0"])
    with pytest.raises(UserError, match="no layer is left to be made 90% sparse"):
        Random(model, optimizer, sparsity=0.9, distribution="uniform")
    assert len(Random(model, optimizer, sparsity=0.0, distribution="uniform").masks) == 0


def test_granet_rests_when_its_training_is_over():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    method = GraNet(model, optimizer, sparsity=0.8, total_steps=20, delta_t=5)
    train(model, optimizer, batches(20))
    done = method.updates
    train(model, optimizer, batches(25, seed=1))
    assert method.updates == done == 3


@pytest.mark.parametrize("wrap", [lambda base: base, SAM], ids=["sgd", "sam"])
def test_masks_that_come_after_training_hold_at_once(wrap):
    model, other = net(), net(1)
    optimizer = wrap(torch.optim.SGD(model.parameters(), lr=0.1))
    method = Magnitude(model, optimizer, sparsity=0.8)
    donor = Magnitude(other, torch.optim.SGD(other.parameters(), lr=0.1), sparsity=0.8)
    train(model, optimizer, batches(3))
    method.masks.load_state_dict(donor.masks.state_dict())
    for name, w in method.masks.weights.items():
        assert not w[~donor.masks[name]].any()
