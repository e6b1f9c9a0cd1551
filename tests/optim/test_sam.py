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
    same_state,
    snapshot,
    train,
    weights,
)

from paper_repro.errors import UserError
from paper_repro.optim import SAM
from paper_repro.optim.batchnorm import still_batch_norm

F64 = torch.float64
bases = pytest.mark.parametrize("base", BASES.values(), ids=BASES)


@pytest.mark.parametrize("adaptive", [False, True], ids=["sam", "asam"])
@bases
def test_the_public_implementations_trajectory_over_40_steps(adaptive, base):
    """The rule of the usual PyTorch SAM, on parameters one by one, around the same base."""
    rho = 0.5 if adaptive else 0.05
    model, plain = mlp(dtype=F64), mlp(dtype=F64)
    optimizer = SAM(base(model.parameters()), rho=rho, adaptive=adaptive)
    inner = base(plain.parameters())
    for group in [*optimizer.param_groups, *inner.param_groups]:
        group["lr"] /= 10

    def differentiate(network, opt, batch):
        # Ten times the usual loss keeps the rule's 1e-12 in a denominator below rounding.
        opt.zero_grad()
        loss = 10 * nn.functional.cross_entropy(network(batch[0]), batch[1])
        loss.backward()
        return loss

    for batch in batches(40, dtype=F64):
        differentiate(plain, inner, batch)
        norms = [
            ((p.abs() if adaptive else 1.0) * p.grad).norm(p=2).detach() for p in plain.parameters()
        ]
        scale = rho / (torch.stack(norms).norm(p=2) + 1e-12)
        old = clones(plain)
        with torch.no_grad():
            for p in plain.parameters():
                p.add_((p.pow(2) if adaptive else 1.0) * p.grad * scale)
        differentiate(plain, inner, batch)
        with torch.no_grad():
            for p, w in zip(plain.parameters(), old, strict=True):
                p.copy_(w)
        inner.step()
        optimizer.step(lambda batch=batch: differentiate(model, optimizer, batch))
        torch.testing.assert_close(flat(clones(model)), flat(clones(plain)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("adaptive", [False, True], ids=["sam", "asam"])
def test_reference(adaptive):
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-2}
    model = mlp(dtype=F64)
    twin = copy.deepcopy(model)
    rho = 0.5 if adaptive else 0.05
    optimizer = SAM(torch.optim.SGD(model.parameters(), **options), rho=rho, adaptive=adaptive)
    data = batches(40, dtype=F64)
    feed = iter([batch for batch in data for _ in range(2)])

    def gradient(values):
        with torch.no_grad():
            for p, value in zip(twin.parameters(), values, strict=True):
                p.copy_(value)
        twin.zero_grad()
        backward(twin, next(feed))
        return [p.grad.clone() for p in twin.parameters()]

    slow = SAM.reference(clones(model), gradient, rho=rho, adaptive=adaptive, **options)
    for batch, shown in zip(data, slow, strict=False):
        advance(model, optimizer, batch)
        torch.testing.assert_close(flat(clones(model)), flat(shown), rtol=0, atol=1e-12)


@pytest.mark.parametrize("adaptive", [False, True], ids=["sam", "asam"])
@bases
def test_by_hand_it_is_the_same(adaptive, base):
    one, two = mlp(), mlp()
    closed = SAM(base(one.parameters()), rho=0.1, adaptive=adaptive)
    hand = SAM(base(two.parameters()), rho=0.1, adaptive=adaptive)
    for i, batch in enumerate(batches(6)):
        advance(one, closed, batch)
        hand.zero_grad()
        backward(two, batch)
        hand.first_step(zero_grad=True)
        assert all(p.grad is None for p in two.parameters())
        backward(two, batch)
        if i % 2:
            hand.step()
        else:
            hand.second_step(zero_grad=True)
            assert all(p.grad is None for p in two.parameters())
        assert equal(one.parameters(), two.parameters())


@pytest.mark.parametrize("rho", [1e-3, 0.05, 2.0])
def test_the_second_gradient_is_taken_rho_uphill(rho):
    model = mlp(dtype=F64)
    optimizer = SAM(BASES["momentum"](model.parameters()), rho=rho)
    seen = []

    def closure():
        optimizer.zero_grad()
        loss = backward(model, batches(1, dtype=F64)[0])
        seen.append((flat(clones(model)), flat([p.grad for p in model.parameters()])))
        return loss

    optimizer.step(closure)
    (w, g), (u, _) = seen
    torch.testing.assert_close(u - w, rho * g / g.norm(), rtol=1e-9, atol=1e-14)


def test_at_rho_0_the_second_pass_is_left_out():
    model = mlp()
    optimizer = SAM(BASES["momentum"](model.parameters()), rho=0.0)
    calls = []

    def closure():
        calls.append(1)
        optimizer.zero_grad()
        return backward(model, batches(1)[0])

    optimizer.step(closure)
    assert len(calls) == 1


def test_no_buffer_between_steps():
    model = mlp()
    optimizer = SAM(BASES["sgd"](model.parameters()))
    train(model, optimizer, batches(2))
    assert not any(torch.is_tensor(v) for s in optimizer.state.values() for v in s.values())
    assert optimizer._moved == optimizer._weights == []


def test_without_a_closure_it_needs_a_first_step():
    model = mlp()
    optimizer = SAM(BASES["sgd"](model.parameters()))
    with pytest.raises(UserError, match="needs a closure"):
        optimizer.step()


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("named", [False, True])
def test_batch_norm_statistics_move_once_a_step_at_w(momentum, named):
    model = convnet(momentum=momentum)
    optimizer = SAM(BASES["momentum"](model.parameters()), model=model if named else None)
    expected = copy.deepcopy(model)
    for i, batch in enumerate(images(4), start=1):
        expected.load_state_dict(model.state_dict())
        expected(batch[0])
        advance(model, optimizer, batch)
        assert equal(model.buffers(), expected.buffers())
        assert model[1].num_batches_tracked == i
        assert model[1].track_running_stats


@pytest.mark.parametrize("named", [False, True])
def test_still_batch_norm_normalises_as_usual(named):
    model = convnet()
    x = images(1)[0][0]
    model(x)
    expected = model(x)
    model.eval()
    shown = model(x)
    model.train()
    before = [b.clone() for b in model.buffers()]
    with pytest.raises(RuntimeError), still_batch_norm(model if named else None):
        assert torch.equal(model(x), expected)
        model.eval()
        assert torch.equal(model(x), shown)  # frozen layers go on using their statistics
        raise RuntimeError
    assert equal(before, model.buffers())
    assert all(m.track_running_stats for m in model if isinstance(m, nn.BatchNorm2d))
    model.train()
    model(x)
    assert not equal(before, model.buffers())


def test_a_layer_that_never_tracked_is_left_alone():
    layer = nn.BatchNorm1d(6, track_running_stats=False)
    with still_batch_norm(layer):
        layer(batches(1)[0][0])
    assert layer.track_running_stats is False


@bases
def test_a_step_that_grad_scaler_skips_leaves_weights_and_state(base):
    model, clean = mlp(), mlp()
    optimizer, other = SAM(base(model.parameters())), SAM(base(clean.parameters()))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    bad = batches(1, seed=5)[0]
    for i, batch in enumerate(batches(4)):
        if i in (0, 2):
            before = snapshot(model, optimizer)
            optimizer.zero_grad()
            scaler.scale(nn.functional.cross_entropy(model(bad[0]), bad[1])).backward()
            optimizer.first_step(zero_grad=True)
            assert not equal(before[0].values(), model.parameters())
            scaler.scale(nn.functional.cross_entropy(model(bad[0]), bad[1])).backward()
            model[0].weight.grad[0, 0] = torch.inf
            scaler.step(optimizer)
            scaler.update()
            optimizer.eval()
            assert same_state(before, snapshot(model, optimizer))
        advance(model, optimizer, batch)
        advance(clean, other, batch)
    assert same_state(snapshot(model, optimizer), snapshot(clean, other))


def test_an_overflow_in_the_first_pass_leaves_no_nan_in_batch_norm():
    model = convnet()
    optimizer = SAM(BASES["momentum"](model.parameters()), rho=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    batch = images(1)[0]
    w = clones(model)
    scaler.scale(backward_loss(model, batch)).backward()
    model[0].weight.grad[0, 0] = torch.inf
    optimizer.first_step(zero_grad=True)
    assert equal(w, model.parameters())  # no direction to look along
    statistics = [b.clone() for b in model.buffers()]
    with still_batch_norm():
        scaler.scale(backward_loss(model, batch)).backward()
    assert equal(statistics, model.buffers())
    assert all(b.isfinite().all() for b in model.buffers())
    model[0].weight.grad[0, 0] = torch.inf
    scaler.step(optimizer)
    scaler.update()
    optimizer.eval()
    assert equal(w, model.parameters())

    # A second pass without an overflow is a step, of the base optimizer's own.
    model[0].weight.grad = torch.full_like(model[0].weight, torch.inf)
    optimizer.first_step(zero_grad=True)
    backward(model, batch)
    optimizer.step()
    assert not equal(w, model.parameters()) and all(p.isfinite().all() for p in model.parameters())


def backward_loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def test_a_closure_step_after_a_skipped_one_starts_at_w():
    model, clean = mlp(), mlp()
    optimizer = SAM(BASES["momentum"](model.parameters()), rho=0.5)
    other = SAM(BASES["momentum"](clean.parameters()), rho=0.5)
    first, second = batches(2)
    backward(model, first)
    optimizer.first_step(zero_grad=True)  # and its second step never comes
    loss = advance(model, optimizer, second)
    assert torch.equal(loss, advance(clean, other, second))
    assert equal(model.parameters(), clean.parameters())


def test_an_error_in_the_second_pass_costs_nothing():
    model, clean = mlp(), mlp()
    optimizer = SAM(BASES["momentum"](model.parameters()))
    other = SAM(BASES["momentum"](clean.parameters()))
    data = batches(3)
    train(model, optimizer, data[:1])
    train(clean, other, data[:1])
    calls = []

    def closure():
        calls.append(1)
        optimizer.zero_grad()
        loss = backward(model, data[1])
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return loss

    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(closure)
    train(model, optimizer, data[1:])
    train(clean, other, data[1:])
    assert equal(model.parameters(), clean.parameters())


def test_between_the_passes_w_is_known_and_can_be_edited():
    model = mlp()
    optimizer = SAM(BASES["momentum"](model.parameters()), rho=0.5)
    w = clones(model)
    backward(model, batches(1)[0])
    optimizer.first_step()
    u = clones(model)
    assert not equal(w, u)
    assert equal(w, weights(model, optimizer))
    with optimizer.unperturbed(), torch.no_grad():
        assert equal(w, model.parameters())
        model[0].weight[0] = 7.0
    assert torch.equal(model[0].weight[1:], u[0][1:])
    torch.testing.assert_close(model[0].weight[0] - 7.0, u[0][0] - w[0][0], rtol=0, atol=1e-5)
    optimizer.eval()
    assert (model[0].weight[0] == 7.0).all()
    assert torch.equal(model[0].weight[1:], w[0][1:])
    assert equal(clones(model)[1:], w[1:])


def test_parameters_without_a_gradient_stay():
    model = mlp()
    frozen = model[0].weight.requires_grad_(False)
    before = frozen.clone()
    optimizer = SAM(BASES["momentum"](model.parameters()))
    train(model, optimizer, batches(3))
    assert torch.equal(frozen, before)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_the_length_is_rho_in_float32_whatever_the_gradients_size(size):
    model = nn.Linear(40, 10, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=0.05)
    model.weight.grad = torch.randn(10, 40, generator=torch.Generator().manual_seed(0)) * size
    optimizer.first_step()
    assert float(model.weight.detach().norm()) == pytest.approx(0.05, rel=1e-6)
