"""What the dynamic methods of the backbone share, under every optimizer."""

import copy
import warnings

import pytest
import torch
from toys import (
    BASES,
    advance,
    backward,
    batches,
    clones,
    convnet,
    equal,
    images,
    mlp,
    same_state,
    snapshot,
    through_disk,
    train,
    weights,
)

from paper_repro.optim import S2SAM, SAM, exact
from paper_repro.sparse import MEST, SET, Random, RigL

OPTIMIZERS = {
    "sgd": lambda p: BASES["momentum"](p),
    "adamw": lambda p: BASES["adamw"](p),
    "s2sam": lambda p: S2SAM(BASES["momentum"](p), rho=0.2),
    "s2sam-adamw": lambda p: S2SAM(BASES["adamw"](p), rho=0.2),
    "sam": lambda p: SAM(BASES["nesterov"](p), rho=0.2),
    "asam": lambda p: SAM(BASES["momentum"](p), rho=0.5, adaptive=True),
}
METHODS = {
    "rigl": lambda m, o, seed=0: RigL(
        m, o, sparsity=0.6, total_steps=24, delta_t=3, distribution="erk", seed=seed
    ),
    "set": lambda m, o, seed=0: SET(
        m, o, sparsity=0.6, total_steps=24, steps_per_epoch=3, seed=seed
    ),
    "mest": lambda m, o, seed=0: MEST(
        m, o, sparsity=0.6, total_steps=24, updates=8, distribution="erk", seed=seed
    ),
}
methods = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
optimizers = pytest.mark.parametrize("wrap", OPTIMIZERS.values(), ids=OPTIMIZERS)


def begin(make, wrap, seed=0, network=mlp):
    model = network()
    optimizer = wrap(model.parameters())
    return model, optimizer, make(model, optimizer, seed)


def state_of(optimizer, p):
    buffers = optimizer.state.get(p, {})
    return {k: b.clone() for k, b in buffers.items() if torch.is_tensor(b) and b.shape == p.shape}


@methods
@optimizers
def test_updates(make, wrap):
    """Counts, zeros, growth from 0, and nothing else touched, at every update of a training."""
    model, optimizer, method = begin(make, wrap, network=convnet)
    counts = method.masks.counts()
    assert 0 < sum(counts.values()) < sum(w.numel() for w in method.masks.weights.values())
    update, seen = method.update, []
    afresh = method.regrown == "zero"

    def watched(t):
        old = method.masks.state_dict()
        params = method.masks.weights
        before = {n: (params[n].detach().clone(), state_of(optimizer, params[n])) for n in old}
        w = {n: exact(optimizer, params[n]).detach().clone() for n in old}
        moved = method.moved
        update(t)
        seen.append(method.moved - moved)
        for name, mask in method.masks.state_dict().items():
            dropped, grown, kept = old[name] & ~mask, mask & ~old[name], old[name] & mask
            assert int(dropped.sum()) == int(grown.sum())
            assert int(mask.sum()) == counts[name]
            u, state = before[name]
            now = {"": (params[name], u), "w": (exact(optimizer, params[name]), w[name])}
            now |= {k: (b, state[k]) for k, b in state_of(optimizer, params[name]).items()}
            for after, earlier in now.values():
                assert not after[~mask].any()
                assert not after[grown].any()
                same = after[kept] == earlier[kept]
                assert (same | (after[kept] == 0)).all() if afresh else same.all()
                assert same.any()
            assert params[name].grad is None or not params[name].grad[~mask].any()

    method.update = watched
    for batch in images(24):
        advance(model, optimizer, batch)
        assert method.masks.counts() == counts
    assert method.steps == 24
    assert method.facts() == {"topology_updates": len(seen), "positions_changed": sum(seen)}
    assert len(seen) >= 5
    assert sum(seen) > 50
    for name, p in method.masks.weights.items():
        assert not p[~method.masks[name]].any()


@methods
@optimizers
def test_resumed_mid_schedule(make, wrap):
    """Stopped before every step in turn, an update's own included."""
    whole, optimizer, method = begin(make, wrap)
    data = batches(13)
    train(whole, optimizer, data)
    for stop in (2, 3, 4, 9):
        model, first, early = begin(make, wrap)
        train(model, first, data[:stop])
        saved = through_disk([model.state_dict(), first.state_dict(), early.state_dict()])
        other = mlp(seed=5)
        second = wrap(other.parameters())
        late = make(other, second, 5)
        for part, state in zip((other, second, late), saved, strict=True):
            part.load_state_dict(state)
        train(other, second, data[stop:])
        assert same_state(snapshot(whole, optimizer), snapshot(other, second))
        assert same_state(method.state_dict(), late.state_dict())


@methods
def test_the_seed_decides(make):
    runs = []
    for seed in (0, 0, 1):
        model, optimizer, method = begin(make, OPTIMIZERS["s2sam"], seed)
        train(model, optimizer, batches(10))
        runs.append(method.masks.state_dict())
    assert same_state(runs[0], runs[1])
    assert not same_state(runs[0], runs[2])


@methods
@optimizers
@pytest.mark.parametrize("order", ["before", "after"])
def test_schedulers_created_before_and_after(make, wrap, order):
    model = mlp()
    optimizer = wrap(model.parameters())

    def schedule():
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler = schedule() if order == "before" else None
        method = make(model, optimizer)
        scheduler = scheduler or schedule()
        first = optimizer.param_groups[0]["lr"]
        for batch in batches(7):
            advance(model, optimizer, batch)
            scheduler.step()
    assert method.steps == 7
    assert method.updates == 2
    assert optimizer.param_groups[0]["lr"] == pytest.approx(first * 0.5**7)


@methods
@optimizers
def test_detach(make, wrap):
    """Afterwards the model trains on densely, exactly as under an optimizer never touched."""
    model, optimizer, method = begin(make, wrap)
    train(model, optimizer, batches(3))
    method.detach()
    assert not method.masks.open
    twin, other = copy.deepcopy((model, optimizer))
    masks = method.masks.state_dict()
    train(model, optimizer, batches(6, seed=1))
    train(twin, other, batches(6, seed=1))
    assert equal(model.parameters(), twin.parameters())
    assert method.steps == 3
    assert same_state(masks, method.masks.state_dict())
    w = dict(zip([n for n, _ in model.named_parameters()], weights(model, optimizer), strict=True))
    assert all(w[name][~mask].any() for name, mask in masks.items())


@methods
def test_a_step_that_grad_scaler_skips_is_not_counted(make):
    model, optimizer, method = begin(make, OPTIMIZERS["s2sam"])
    clean, other, reference = begin(make, OPTIMIZERS["s2sam"])
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    for t, batch in enumerate(batches(8)):
        if t in (2, 3):  # SET's and MEST's first update is due at step 2, RigL's at 3
            before = snapshot(model, optimizer), method.state_dict()
            optimizer.zero_grad()
            backward(model, batch)
            model[2].bias.grad[0] = torch.inf
            scaler.scale(torch.ones(()))
            scaler.step(optimizer)
            scaler.update()
            assert same_state(before, (snapshot(model, optimizer), method.state_dict()))
        advance(model, optimizer, batch)
        advance(clean, other, batch)
        assert same_state(snapshot(model, optimizer), snapshot(clean, other))
    assert same_state(method.state_dict(), reference.state_dict())


@methods
def test_sam_by_hand_keeps_what_is_dropped_at_zero(make):
    """Also where RigL's update takes the place of the second of SAM's two steps."""
    one, closed, first = begin(make, OPTIMIZERS["sam"])
    two, hand, second = begin(make, OPTIMIZERS["sam"])
    for batch in batches(8):
        hand.zero_grad()
        backward(two, batch)
        hand.first_step(zero_grad=True)
        backward(two, batch)
        hand.step()
        advance(one, closed, batch)
        assert all(not p[~second.masks[n]].any() for n, p in second.masks.weights.items())
        if not (second.replaces_step and second.updates):  # RigL then reads another gradient
            assert equal(one.parameters(), two.parameters())
    assert second.updates == first.updates == 2
    assert second.masks.counts() == first.masks.counts()


def test_masks_open_only_for_the_backward_pass_of_an_update():
    model, optimizer, method = begin(METHODS["rigl"], OPTIMIZERS["s2sam"])
    for t, batch in enumerate(batches(19)):
        assert method.masks.open is method.due(t)
        optimizer.zero_grad()
        backward(model, batch)
        inactive = [p.grad[~method.masks[name]].any() for name, p in method.masks.weights.items()]
        assert all(inactive) if method.due(t) else not any(inactive)
        optimizer.step()
    assert method.updates == 5


@methods
@pytest.mark.parametrize("sparsity", [0.0, 0.98])
def test_extreme_sparsities(make, sparsity):
    model = convnet()
    optimizer = OPTIMIZERS["s2sam"](model.parameters())
    other = convnet()
    kind = type(make(other, OPTIMIZERS["sgd"](other.parameters())))
    options = {"steps_per_epoch": 2} if kind is SET else {}
    method = kind(model, optimizer, sparsity=sparsity, total_steps=12, **options)
    counts = method.masks.counts()
    train(model, optimizer, images(12))
    assert method.masks.counts() == counts
    assert all(n >= 1 for n in counts.values())
    assert (sparsity == 0.0) == (not counts)
    assert all(torch.isfinite(p).all() for p in clones(model))


@pytest.mark.parametrize(
    ("off", "said"), [(0, False), (1, False), (-2, False), (3, True), (-3, True), (9, True)]
)
def test_a_sparsity_missed_by_more_than_a_weight_a_layer_is_said(off, said):
    model = convnet()
    method = Random(model, sparsity=0.8, distribution="uniform-rigl")
    layers = list(method.masks)
    assert len(layers) == 2 and method.missed(0.8) == 0.0
    sizes = [w.numel() for w in method.masks.weights.values()]
    before = method.masks[layers[0]].flatten()
    exact = 1 - sum(method.masks.counts().values()) / sum(sizes)
    where = (before if off > 0 else ~before).nonzero().flatten()[: abs(off)]
    mask = before.clone()
    mask[where] = off < 0  # sparser by ``off`` weights
    method.masks.replace({layers[0]: mask.view_as(method.masks[layers[0]])})
    missed = method.missed(exact)
    assert bool(missed) is said
    if said:
        assert missed == pytest.approx(off / sum(sizes))
