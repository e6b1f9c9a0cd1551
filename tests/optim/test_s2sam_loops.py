"""S2-SAM in training loops as people write them."""

import copy

import pytest
import torch
from torch import nn
from toys import (
    BASES,
    advance,
    backward,
    batches,
    clones,
    convnet,
    equal,
    flat,
    images,
    mlp,
    perturbation,
    same_state,
    snapshot,
    train,
    weights,
)

from paper_repro.optim import S2SAM

bases = pytest.mark.parametrize("base", BASES.values(), ids=BASES)
F64 = torch.float64


@bases
def test_set_to_none_makes_no_difference(base):
    runs = []
    for set_to_none in (True, False):
        model = mlp()
        optimizer = S2SAM(base(model.parameters()))
        for batch in batches(8):
            optimizer.zero_grad(set_to_none=set_to_none)
            backward(model, batch)
            optimizer.step()
        runs.append(snapshot(model, optimizer))
    assert same_state(*runs)


@bases
def test_when_gradients_are_zeroed_makes_no_difference(base):
    """Also before the next step's perturbation would have been used by the released code."""
    runs = []
    for early in (True, False):
        model = mlp()
        optimizer = S2SAM(base(model.parameters()))
        for batch in batches(8):
            if not early:
                optimizer.zero_grad()
            backward(model, batch)
            optimizer.step()
            if early:
                optimizer.zero_grad()
        runs.append(snapshot(model, optimizer))
    assert same_state(*runs)


@bases
def test_parameters_whose_gradient_comes_and_goes(base):
    """Each step behaves as if only the parameters with a gradient existed."""
    model = mlp(dtype=F64)
    named = list(model.parameters())
    optimizer = S2SAM(base(named), rho=0.1)
    pattern = [(1, 1, 1, 1), (1, 0, 0, 1), (0, 0, 0, 0), (0, 1, 1, 0), (1, 1, 1, 1), (0, 0, 0, 1)]
    for present, batch in zip(pattern, batches(6, dtype=F64), strict=True):
        optimizer.zero_grad()
        w = weights(model, optimizer)
        backward(model, batch)
        for p, keep in zip(named, present, strict=True):
            if not keep:
                p.grad = None
        held = [None if p.grad is None else p.grad.clone() for p in named]
        optimizer.step()
        live = [g for g in held if g is not None]
        norm = flat(live).norm() if live else torch.ones(())
        after = weights(model, optimizer)
        for i, (p, keep) in enumerate(zip(named, present, strict=True)):
            assert torch.equal(after[i], w[i]) is not bool(keep)
            expected = 0.1 * held[i] / norm if keep else torch.zeros_like(p)
            torch.testing.assert_close(p.detach() - after[i], expected)


def test_a_parameter_that_stays_away_is_left_alone_from_the_start():
    model = mlp()
    frozen = model[0].weight.requires_grad_(False)
    optimizer = S2SAM(BASES["adamw"](model.parameters()))
    before = frozen.clone()
    train(model, optimizer, batches(4))
    assert torch.equal(frozen, before)
    assert frozen not in optimizer.state
    frozen.requires_grad_(True)
    train(model, optimizer, batches(2))
    assert not torch.equal(frozen, before)


def test_clipping_by_norm_leaves_the_perturbation_as_it_is():
    runs = []
    for most in (1e-3, 1e9):
        model = mlp(dtype=F64)
        optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=0.3)
        for batch in batches(4, dtype=F64):
            optimizer.zero_grad()
            backward(model, batch)
            nn.utils.clip_grad_norm_(model.parameters(), most)
            optimizer.step()
        runs.append(perturbation(model, optimizer))
    torch.testing.assert_close(*runs, rtol=1e-10, atol=1e-14)
    assert float(runs[0].norm()) == pytest.approx(0.3, rel=1e-12)


def test_accumulated_gradients_are_one_gradient():
    whole, parts = mlp(dtype=F64), mlp(dtype=F64)
    one = S2SAM(BASES["momentum"](whole.parameters()))
    two = S2SAM(BASES["momentum"](parts.parameters()))
    for x, y in batches(5, dtype=F64):
        one.zero_grad()
        two.zero_grad()
        backward(whole, (x, y))
        for half in (slice(0, 4), slice(4, 8)):
            (nn.functional.cross_entropy(parts(x[half]), y[half]) / 2).backward()
        one.step()
        two.step()
        torch.testing.assert_close(flat(clones(whole)), flat(clones(parts)), rtol=0, atol=1e-13)


@bases
def test_a_step_that_grad_scaler_skips_leaves_everything(base):
    model, clean = mlp(), mlp()
    optimizer, other = S2SAM(base(model.parameters())), S2SAM(base(clean.parameters()))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    plain = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    for i, batch in enumerate(batches(6)):
        if i in (0, 3):  # before there is any state, and later
            optimizer.zero_grad()
            scaler.scale(nn.functional.cross_entropy(model(batch[0]), batch[1])).backward()
            model[0].weight.grad[0, 0] = torch.inf
            before = snapshot(model, optimizer)
            scaler.step(optimizer)
            scaler.update()
            assert same_state(before, snapshot(model, optimizer))
        for m, opt, s in ((model, optimizer, scaler), (clean, other, plain)):
            opt.zero_grad()
            s.scale(nn.functional.cross_entropy(m(batch[0]), batch[1])).backward()
            s.step(opt)
            s.update()
    assert scaler.get_scale() < plain.get_scale()
    torch.testing.assert_close(flat(clones(model)), flat(clones(clean)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_statistics_move_once_a_step(momentum):
    model = convnet(momentum=momentum)
    optimizer = S2SAM(BASES["momentum"](model.parameters()))
    expected = copy.deepcopy(model)
    for i, batch in enumerate(images(4), start=1):
        expected.load_state_dict(model.state_dict())
        expected(batch[0])
        advance(model, optimizer, batch)
        assert equal(model.buffers(), expected.buffers())
        assert model[1].num_batches_tracked == i
