"""SET-ITOP and RigL-ITOP: long intervals, a decaying death rate, and R_s."""

import warnings

import pytest
import torch
from toys import advance, convnet, images

from paper_repro.errors import UserError
from paper_repro.sparse import SETITOP, RigL, RigLITOP

T = 40
kinds = pytest.mark.parametrize("kind", [SETITOP, RigLITOP])


def build(kind, delta_t=5, total_steps=T, **options):
    model = convnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return kind(model, optimizer, sparsity=0.8, total_steps=total_steps, delta_t=delta_t, **options)


def test_the_published_intervals():
    import inspect

    for kind, interval in ((SETITOP, 1500), (RigLITOP, 4000)):
        defaults = {p.name: p.default for p in inspect.signature(kind).parameters.values()}
        assert defaults["delta_t"] == interval
        assert defaults["death_rate"] == 0.5


@kinds
def test_too_long_an_interval_is_said(kind):
    with pytest.warns(
        UserWarning, match=f"{kind.__name__} makes no topology update.*after 40 steps"
    ):
        build(kind, delta_t=T)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method = build(kind, delta_t=T - 1)
        assert any(method.due(t) for t in range(T))
        model = convnet()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        RigL(model, optimizer, sparsity=0.5, total_steps=9, stop=0.0)  # static on purpose


def test_when_updates_are_due():
    # SET's follow the step, RigL's replace it: after 5 steps both.
    assert [t for t in range(T) if build(SETITOP).due(t)] == [4, 9, 14, 19, 24, 29, 34]
    assert [t for t in range(T) if build(RigLITOP).due(t)] == [5, 10, 15, 20, 25, 30, 35]


@kinds
def test_the_death_rate_falls_over_all_of_the_training(kind):
    method = build(kind)
    moved = []
    for batch in images(T):
        before = method.masks.counts(), method.updates
        weights = {n: method.masks[n] for n in method.masks}
        advance(method.model, method.optimizer, batch)
        assert method.masks.counts() == before[0]
        if method.updates > before[1]:
            moved.append(sum(int((weights[n] != method.masks[n]).sum()) for n in weights))
    assert len(moved) == 7
    rates = [method.drop_fraction(t) for t in range(T) if method.due(t)]
    assert rates == sorted(rates, reverse=True)
    assert 0.45 < rates[0] < 0.5
    assert 0.005 < rates[-1] < 0.05  # RigL's own would have stopped at 75 %
    assert moved[0] > 4 * moved[-1]


@kinds
def test_r_s_is_what_was_ever_active(kind):
    method = build(kind)
    ever = method.masks.state_dict()
    start = method.explored()
    assert start == pytest.approx(1 - method.masks.sparsity())
    for batch in images(T):
        advance(method.model, method.optimizer, batch)
        ever = {n: ever[n] | method.masks[n] for n in ever}
    size = sum(m.numel() for m in ever.values())
    assert method.facts()["explored"] == sum(int(m.sum()) for m in ever.values()) / size
    assert method.explored() > 1.5 * start
    other = build(kind)
    other.load_state_dict(method.state_dict())
    assert other.explored() == method.explored()


def test_one_grows_by_gradient_and_one_at_random():
    name = "3.weight"
    rigl, by_chance = build(RigLITOP), build(SETITOP)
    for method in (rigl, by_chance):
        advance(method.model, method.optimizer, images(1)[0])
    assert torch.equal(rigl.growth_score(name), rigl.masks.weights[name].grad.abs())
    assert not torch.equal(by_chance.growth_score(name), by_chance.growth_score(name))
    assert isinstance(by_chance, RigL)
    assert not by_chance.replaces_step


@kinds
@pytest.mark.parametrize("bad", [{"delta_t": 0}, {"death_rate": 0.0}, {"death_rate": 1.5}])
def test_bad_options(kind, bad):
    with pytest.raises(UserError, match="ITOP needs delta_t >= 1"):
        build(kind, **bad)
