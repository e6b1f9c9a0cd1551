"""What every wrapper owes the base optimizer that it wraps, and the norms they share."""

import math

import pytest
import torch
from torch import nn
from toys import (
    BASES,
    WRAPPERS,
    advance,
    backward,
    batches,
    clones,
    equal,
    mlp,
    same_state,
    shared,
    through_disk,
    train,
    weights,
)

from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS, S2SAM, SAM, Perturbing, exact

wrappers = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
bases = pytest.mark.parametrize("base", BASES.values(), ids=BASES)


@wrappers
@bases
def test_at_rho_0_it_is_the_base_optimizer(wrap, base):
    plain, wrapped = mlp(), mlp()
    alone = base(plain.parameters())
    optimizer = wrap(base(wrapped.parameters()), rho=0.0)
    for batch in batches(10):
        losses = [advance(plain, alone, batch), advance(wrapped, optimizer, batch)]
        assert torch.equal(*losses)
        assert equal(plain.parameters(), wrapped.parameters())
    for p, q in zip(plain.parameters(), wrapped.parameters(), strict=True):
        assert same_state(alone.state.get(p, {}), optimizer.state.get(q, {}))


@wrappers
@bases
def test_above_rho_0_it_is_not(wrap, base):
    plain, wrapped = mlp(), mlp()
    train(plain, base(plain.parameters()), batches(3))
    optimizer = wrap(base(wrapped.parameters()))
    train(wrapped, optimizer, batches(3))
    assert not equal(clones(plain), weights(wrapped, optimizer))


def test_what_cannot_be_wrapped():
    sgd = torch.optim.SGD(mlp().parameters(), lr=0.1)
    with pytest.raises(UserError, match=r"S2SAM wraps a torch\.optim\.Optimizer, not generator"):
        S2SAM(mlp().parameters())
    with pytest.raises(UserError, match="S2SAM is already"):
        SAM(S2SAM(sgd))
    with pytest.raises(UserError, match="SAM cannot wrap LBFGS"):
        SAM(torch.optim.LBFGS(mlp().parameters()))
    with pytest.raises(UserError, match="negate the loss instead of maximize=True"):
        S2SAM(torch.optim.SGD(mlp().parameters(), lr=0.1, maximize=True))
    with pytest.raises(UserError, match="instead of maximize"):
        SAM(sgd).add_param_group({"params": mlp().parameters(), "maximize": True})


@wrappers
@pytest.mark.parametrize("rho", [-1e-9, math.nan, math.inf])
def test_bad_rho(wrap, rho):
    if wrap is S2SAM and rho < 0:
        return  # its control
    sgd = torch.optim.SGD(mlp().parameters(), lr=0.1)
    with pytest.raises(UserError, match="rho must be a finite number"):
        wrap(sgd, rho=rho)
    with pytest.raises(UserError, match="rho must be"):
        wrap(torch.optim.SGD([{"params": mlp().parameters(), "rho": rho}], lr=0.1))
    optimizer = wrap(sgd)
    with pytest.raises(UserError, match="rho must be"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "rho": rho})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("rho", [None, "0.1"])
def test_rho_that_is_no_number(rho):
    with pytest.raises(UserError, match="rho must be a finite number"):
        S2SAM(torch.optim.SGD(mlp().parameters(), lr=0.1), rho=rho)


@wrappers
def test_wrapper_and_base_share_groups_and_state(wrap):
    model = mlp()
    optimizer = wrap(BASES["momentum"](model.parameters()))
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert shared(optimizer)
    train(model, optimizer, batches(2))
    optimizer.load_state_dict(through_disk(optimizer.state_dict()))
    assert shared(optimizer)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    assert shared(optimizer)


@wrappers
def test_a_group_added_mid_run_has_its_own_radius(wrap):
    body, head = mlp(dtype=torch.float64), nn.Linear(3, 3).double()
    model = nn.Sequential(body, head)
    optimizer = wrap(torch.optim.SGD(body.parameters(), lr=0.1, momentum=0.9), rho=0.05)
    data = batches(6, dtype=torch.float64)
    train(model, optimizer, data[:3])
    optimizer.add_param_group({"params": head.parameters(), "rho": 0.0, "lr": 0.0})
    still = clones(head)
    train(model, optimizer, data[3:])
    assert equal(still, head.parameters())  # lr = 0 and never perturbed
    assert optimizer.param_groups[1]["momentum"] == 0.9
    assert optimizer.param_groups[1]["rho"] == 0.0

    other = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer.add_param_group({"params": [other]})
    assert optimizer.param_groups[2]["rho"] == 0.05


@wrappers
def test_sparse_gradients_are_refused_before_anything_moves(wrap):
    table = nn.Embedding(5, 3, sparse=True)
    optimizer = wrap(torch.optim.SGD(table.parameters(), lr=0.1))
    before = clones(table)

    def closure():
        loss = table(torch.tensor([1, 2])).sum()
        loss.backward()
        return loss

    with pytest.raises(UserError, match="does not support sparse gradient"):
        optimizer.step(closure)
    assert equal(before, table.parameters())


@wrappers
def test_without_gradients_nothing_happens(wrap):
    model = mlp()
    optimizer = wrap(BASES["momentum"](model.parameters()))
    before = clones(model)
    assert optimizer.step(lambda: torch.tensor(1.0)) == 1.0
    assert equal(before, model.parameters())


def test_exact_of_any_optimizer():
    model = mlp()
    sgd = BASES["momentum"](model.parameters())
    p = next(model.parameters())
    assert exact(None, p) is p
    assert exact(sgd, p) is p
    optimizer = S2SAM(sgd)
    train(model, optimizer, batches(1))
    assert not torch.equal(exact(optimizer, p), p)
    w = exact(optimizer, p).clone()
    optimizer.eval()
    assert torch.equal(p, w)


def test_a_wrapper_that_does_not_perturb_between_steps_shows_w():
    class Plain(Perturbing):
        pass

    model = mlp()
    optimizer = Plain(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.0)
    before = clones(model)
    optimizer.eval()
    with optimizer.unperturbed():
        assert equal(before, model.parameters())
    optimizer.train()
    assert equal(before, weights(model, optimizer))


def test_the_registry_gives_options_their_defaults():
    assert OPTIMIZERS.spec("s2sam").to_dict() == {"name": "s2sam", "rho": 0.05}
    assert OPTIMIZERS.spec("sam").to_dict() == {"name": "sam", "rho": 0.05, "adaptive": False}
    model = mlp()
    base = BASES["sgd"](model.parameters())
    assert OPTIMIZERS.build(OPTIMIZERS.spec("sgd"), base=base, model=model) is base
    built = OPTIMIZERS.build(OPTIMIZERS.spec("sam", rho=0.2), base=base, model=model)
    assert isinstance(built, SAM)
    assert built.base is base
    assert built.model is model
    assert built.param_groups[0]["rho"] == 0.2


@wrappers
def test_step_hooks_and_closure_losses(wrap):
    model = mlp()
    optimizer = wrap(BASES["momentum"](model.parameters()))
    calls = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    batch = batches(1)[0]
    expected = backward(mlp(), batch)
    assert torch.equal(advance(model, optimizer, batch), expected)
    assert calls == [1]
