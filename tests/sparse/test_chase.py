import math

import pytest
import torch
from torch import nn
from toys import advance, equal, images, same_state, through_disk

from paper_repro import models
from paper_repro.errors import UserError
from paper_repro.optim import S2SAM
from paper_repro.sparse import METHODS, Chase, compact, layer_counts, prunable

STEPS = 40


def begin(sparsity=0.8, model=None, wrapper=S2SAM, **options):
    if model is None:
        model = models.build("resnet_digits", classes=3, channels=1, seed=0)
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    optimizer = wrapper(base)
    options = {"total_steps": STEPS, "updates": 10, **options}
    return model, optimizer, Chase(model, optimizer, sparsity=sparsity, **options)


def active(method):
    return sum(method.masks.counts().values())


def removed(method):
    facts = method.facts()
    return sum(facts["channels"].values()) - sum(facts["channels_kept"].values())


def follow(model, optimizer, method, steps=STEPS):
    """The number of weights, and of removed channels, after each update."""
    weights, gone = {}, {}
    for batch in images(steps):
        t = method.steps
        advance(model, optimizer, batch)
        if method.due(t):
            weights[t], gone[t] = active(method), removed(method)
    return weights, gone


def test_the_bound_is_soft_and_the_end_exact():
    model, optimizer, method = begin()
    target = sum(layer_counts(model, 0.8, "erk").values())
    assert active(method) == target
    weights, gone = follow(model, optimizer, method)
    assert list(weights) == [4, 8, 12, 16, 20, 24, 28, 32, 36]
    for t, count in weights.items():
        cosine = math.cos(math.pi * min(1, t / 32.5))
        assert count == target + int(0.5 * (1 + cosine) / 2 * target)
    assert list(weights.values()) == sorted(weights.values(), reverse=True)
    assert weights[32] > target
    assert weights[36] == active(method) == target
    # 48 S_c (1 - (1 - p)^3) of the 48 channels.
    assert list(gone.values()) == sorted(gone.values())
    assert gone[4] == round(24 * (1 - (1 - 4 / 32.5) ** 3))
    assert gone[36] == 24


def test_without_updates_after_the_stop_the_last_one_finishes():
    model, optimizer, method = begin(updates=4, stop=0.95)  # at steps 10, 20 and 30
    weights, gone = follow(model, optimizer, method)
    assert list(weights) == [10, 20, 30]
    assert weights[20] > weights[30] == method.target
    assert gone[30] == 24


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.98])
def test_the_number_of_weights_comes_before_that_of_channels(sparsity):
    model, optimizer, method = begin(sparsity)
    target = sum(layer_counts(model, sparsity, "erk").values())
    follow(model, optimizer, method)
    assert active(method) == target
    assert 0 < removed(method) <= 24
    assert (removed(method) == 24) == (sparsity == 0.98)


def test_weak_and_sparse_channels_go_first_and_never_return():
    model, optimizer, method = begin(sparsity=0.5, wrapper=lambda base: base)
    with torch.no_grad():
        for w in prunable(model).values():
            w.copy_(w.sign() * (w != 0))  # all active weights equally large
    weight = method.masks.weights["stages.1.0.conv1.weight"]
    umm = weight.detach().abs().flatten(1).mean(1)  # hence each channel's density
    others = method.masks.weights["stages.0.0.conv1.weight"].detach().abs().flatten(1).mean(1)
    with torch.no_grad():
        model.stages[0][0].conv1.weight.mul_(1.0 + 1.0 / others.min())  # out of the way
    method._remove_channels(5)
    lost = (~method.alive["stages.1.0.conv1"]).nonzero().flatten()
    assert len(lost) == 5
    assert umm[lost].max() <= umm[method.alive["stages.1.0.conv1"]].min()
    follow(model, optimizer, method)
    assert not method.alive["stages.1.0.conv1"][lost].any()


def test_unmasked_mean_magnitude_counts_pruned_weights_as_zeros():
    _, _, method = begin(sparsity=0.5, wrapper=lambda base: base, minimum_ratio=0.0)
    w = {n: method.masks.weights[f"{n}.weight"] for n in ("stages.0.0.conv1", "stages.1.0.conv1")}
    with torch.no_grad():
        for weight in w.values():
            weight.fill_(1.0)
        first = w["stages.0.0.conv1"].view(16, -1)
        first[3].zero_()
        first[3, 0] = 100.0  # one huge weight: mean 100 / 144
        first[5].fill_(0.9)  # many of 0.9
    method._remove_channels(1)
    assert not method.alive["stages.0.0.conv1"][3]
    method._remove_channels(2)
    assert not method.alive["stages.0.0.conv1"][5]
    assert removed(method) == 2


def test_no_group_falls_below_its_minimum():
    model, _, method = begin(0.9, wrapper=lambda base: base, channel_sparsity=0.75)
    with torch.no_grad():
        model.stages[1][0].conv1.weight.mul_(1e-3)
    method._remove_channels(36)
    kept = method.facts()["channels_kept"]
    assert kept == {"stages.0.0.conv1": 16 - (36 - 28), "stages.1.0.conv1": 4}  # β (1 - S_c) 32


def test_weights_stay_out_of_removed_channels():
    model, optimizer, method = begin()
    follow(model, optimizer, method)
    optimizer.eval()
    assert removed(method) == 24
    for group in method.groups:
        dead = ~method.alive[group.name]
        assert not method.masks.weights[group.producer][dead].any()
        for name in group.consumers:
            assert not method.masks.weights[name][:, dead].any()
    small = compact(model).eval()
    kept = method.facts()["channels_kept"]
    assert small.stages[1][0].conv1.out_channels <= kept["stages.1.0.conv1"]
    x = images(1)[0][0]
    torch.testing.assert_close(small(x), model.eval()(x), rtol=1e-4, atol=1e-5)


def test_growth_follows_the_gradient_over_all_layers():
    _, _, method = begin(0.9, wrapper=lambda base: base, channel_sparsity=0.0)
    before = method.masks.state_dict()
    for name, weight in method.masks.weights.items():
        weight.grad = torch.zeros_like(weight)
        if name == "fc.weight":
            weight.grad.fill_(-2.0)
        if name == "stages.0.0.conv1.weight":
            weight.grad.fill_(1.0)
    method.update(4)
    bound = active(method) - sum(int(m.sum()) for m in before.values())
    grown = {n: int((method.masks[n] & ~m).sum()) for n, m in before.items()}
    assert bound > 0
    free = int((~before["fc.weight"]).sum())
    assert grown["fc.weight"] == free
    assert grown["stages.0.0.conv1.weight"] == bound - free
    assert sum(grown.values()) == bound


def test_pruning_goes_by_magnitude_over_all_layers_down_to_a_floor():
    _, _, method = begin(0.8, wrapper=lambda base: base, memory_bound=0.0)
    with torch.no_grad():
        method.masks.weights["stages.1.0.conv2.weight"].mul_(1e-6)
    active = method.masks.state_dict()
    kept = method._prune(active, int(0.7 * method.target))
    assert sum(int(k.sum()) for k in kept.values()) == int(0.7 * method.target)
    name = "stages.1.0.conv2.weight"
    assert int(kept[name].sum()) == method.floor[name] == int(0.5 * active[name].sum())
    size = torch.cat([w.detach().abs()[active[n]] for n, w in method.masks.weights.items()])
    small = torch.cat([k[active[n]] for n, k in kept.items()])
    rest = size > 1e-4
    assert size[rest & small].min() >= size[rest & ~small].max()


def test_after_the_stop_a_falling_fraction_moves():
    _, _, method = begin(memory_bound=0.0)
    method.update(36)  # past the stop: the channels go, and the cosine has nearly ended
    before = method.masks.state_dict()
    for name, weight in method.masks.weights.items():
        weight.grad = torch.randn_like(weight) + 10 * ~before[name]
    method.update(36)
    lost = sum(int((m & ~method.masks[n]).sum()) for n, m in before.items())
    share = 0.005 + 0.495 * (1 + math.cos(math.pi * 36 / 40)) / 2
    assert lost == int(share * method.target)
    assert active(method) == method.target


def test_the_optimizer_never_sees_the_dense_gradient():
    model, optimizer, method = begin()
    data = images(STEPS)
    for batch in data[:4]:
        advance(model, optimizer, batch)
    assert method.due(4) and method.masks.open
    held = [p.detach().clone() for n, p in model.named_parameters() if "bn" in n]
    advance(model, optimizer, data[4])
    assert equal(held, [p for n, p in model.named_parameters() if "bn" in n])
    for batch in data[5:]:
        advance(model, optimizer, batch)
        for name, weight in method.masks.weights.items():
            pruned = ~method.masks[name]
            assert not weight[pruned].any() and not weight.grad[pruned].any()
            assert not method.weight(name)[pruned].any()
            assert not optimizer.state[weight]["momentum_buffer"][pruned].any()


def test_uniform_leaves_dense_layers_alone():
    model, _, method = begin(distribution="uniform")
    dense = {"conv1.weight", "fc.weight", "stages.1.0.shortcut.0.weight"}
    assert set(method.masks) == set(prunable(model)) - dense


@pytest.mark.parametrize("regrown", ["zero", "keep"])
def test_what_is_pruned_and_grown_at_once_starts_from_zero(regrown):
    model, optimizer, method = begin(0.8, memory_bound=0.5, alpha=1.0, regrown=regrown)
    data = images(9)
    for batch in data[:8]:
        advance(model, optimizer, batch)
    pruned, prune = {}, method._prune

    def watched(active, keep):
        kept = prune(active, keep)
        pruned.update({name: active[name] & ~k for name, k in kept.items()})
        return kept

    method._prune = watched
    assert method.due(8)
    with torch.no_grad():
        for name, weight in method.masks.weights.items():
            # The smallest weights have the largest gradients: all that is pruned is grown again.
            weight.grad = torch.where(method.masks[name], 1 / method.weight(name).abs(), 0.0)
    method.update(8)
    again = {name: gone & method.masks[name] for name, gone in pruned.items()}
    assert sum(int(a.sum()) for a in again.values()) > 100
    for name, where in again.items():
        momentum = optimizer.state[method.masks.weights[name]]["momentum_buffer"]
        for values in (method.weight(name), method.masks.weights[name], momentum):
            assert bool(values[where].any()) is (regrown == "keep" and bool(where.any()))


def test_old_records_of_it_regrew_with_the_value_kept():
    assert METHODS.before("chase") == {"regrown": "keep"}
    assert METHODS.defaults("chase")["regrown"] == "zero"


@pytest.mark.parametrize("stopped", [3, 9, 37])
def test_resumed_it_ends_bit_identical(stopped):
    data = images(STEPS)
    model, optimizer, method = begin()
    for batch in data[:stopped]:
        advance(model, optimizer, batch)
    saved = through_disk([x.state_dict() for x in (model, optimizer, method)])
    kept = method.state_dict()
    for batch in data[stopped:]:
        advance(model, optimizer, batch)
    assert same_state(saved[2], kept)  # a checkpoint in memory is not written to
    again, other, resumed = begin()
    for x, state in zip((again, other, resumed), saved, strict=True):
        x.load_state_dict(state)
    for batch in data[stopped:]:
        advance(again, other, batch)
    assert equal(model.state_dict().values(), again.state_dict().values())
    assert same_state(method.state_dict(), resumed.state_dict())
    assert method.facts() == resumed.facts()


def test_what_it_asks_for_is_the_weight_sparsity():
    assert Chase.nominal_sparsity(METHODS.spec("chase", sparsity=0.7)) == 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": -0.1}, "sparsity must be"),
        ({"updates": 0}, "updates >= 1"),
        ({"stop": 2.0}, "stop in"),
        ({"memory_bound": -1.0}, "memory_bound >= 0"),
        ({"alpha": 0.0}, "alpha in"),
        ({"channel_sparsity": 1.0}, "channel_sparsity in"),
        ({"minimum_ratio": 1.1}, "minimum_ratio in"),
        ({"distribution": "odd"}, "unknown distribution"),
        ({"model": nn.Sequential(nn.Linear(2, 2))}, "no channels"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(UserError, match=message):
        begin(**options)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_overflowed_end_the_run_by_its_loss_and_not_here(value):
    _, _, method = begin()
    with torch.no_grad():
        for weight in method.masks.weights.values():
            weight.fill_(value)
            weight.grad = torch.full_like(weight, value)
    for t in (4, 20, 36):
        method.update(t)
    assert active(method) == method.target
