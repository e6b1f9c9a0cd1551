"""DSR: the threshold, the exact total, where weights go, and when."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import advance, convnet, images

from paper_repro.errors import UserError
from paper_repro.optim import S2SAM
from paper_repro.sparse import DSR, METHODS
from paper_repro.sparse.dsr import apportion


def dsr(model=None, sparsity=0.6, total_steps=100, wrap=None, **options):
    model = convnet() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    optimizer = optimizer if wrap is None else wrap(optimizer)
    options = {"distribution": "uniform-rigl", **options}
    return DSR(model, optimizer, sparsity=sparsity, total_steps=total_steps, **options)


def spread(method):
    """Give every active weight a distinct size: 1/n, 2/n, ..., 1 over all layers."""
    active = sum(method.masks.counts().values())
    values = torch.arange(1, active + 1) / active
    values = values[torch.randperm(active, generator=torch.Generator().manual_seed(3))]
    with torch.no_grad():
        for name, weight in method.masks.weights.items():
            mask = method.masks[name]
            part, values = values.split([int(mask.sum()), len(values) - int(mask.sum())])
            weight[mask] = part
    return active


@pytest.mark.parametrize(
    ("pruned", "factor"),
    [(0.05, 2.0), (0.085, 2.0), (0.095, 1.0), (0.105, 1.0), (0.115, 0.5), (0.4, 0.5)],
)
def test_the_threshold_doubles_below_and_halves_above(pruned, factor):
    method = dsr(sparsity=0.2)
    active = spread(method)
    method.threshold = pruned
    before = method.masks.state_dict()
    method.update(0)
    after = method.masks.state_dict()
    assert method.threshold == pruned * factor
    gone = sum(int((before[n] & ~after[n]).sum()) for n in before)
    came = sum(int((after[n] & ~before[n]).sum()) for n in before)
    room = sum(int((~m).sum()) for m in before.values())
    # The sizes are k / active, so those below the threshold are counted by hand.
    assert gone == came == min(room, sum(k / active < pruned for k in range(1, active + 1)))
    assert sum(method.masks.counts().values()) == active


def test_exactly_those_below_the_threshold_go_and_none_comes_back_there():
    method = dsr()
    spread(method)
    method.threshold = 0.3
    before, weights = method.masks.state_dict(), method.masks.weights
    small = {n: before[n] & (weights[n].detach().abs() < 0.3) for n in before}
    method.update(0)
    for name, gone in small.items():
        assert torch.equal(before[name] & ~method.masks[name], gone)
        assert not weights[name][~method.masks[name]].any()
        assert not weights[name][method.masks[name] & ~before[name]].any()  # newcomers are 0


def test_growth_is_in_proportion_to_what_is_left():
    method = dsr(sparsity=0.8)
    first, second = method.masks
    with torch.no_grad():  # one layer loses half of its weights, the other none
        for name, weight in method.masks.weights.items():
            weight.copy_(method.masks[name].float())
        weight = method.masks.weights[first]
        index = method.masks[first].nonzero()[::2]
        weight[tuple(index.T)] = 1e-4
    before = method.masks.counts()
    lost = len(index)
    left = {first: before[first] - lost, second: before[second]}
    method.update(0)
    counts = method.masks.counts()
    grown = {name: counts[name] - left[name] for name in left}
    assert sum(grown.values()) == lost
    for name in left:
        assert abs(grown[name] - lost * left[name] / sum(left.values())) < 1


def test_a_layer_keeps_its_largest_weight():
    method = dsr()
    first = next(iter(method.masks))
    with torch.no_grad():
        for name, weight in method.masks.weights.items():
            weight.copy_(method.masks[name].float() * (1e-9 if name == first else 1.0))
        where = tuple(method.masks[first].nonzero()[4])
        method.masks.weights[first][where] = 2e-9
    method.update(0)
    assert method.masks[first][where]
    assert method.masks.weights[first][where] == 2e-9
    assert method.masks.counts()[first] >= 1


def test_no_more_are_pruned_than_there_is_room_for():
    method = dsr(sparsity=0.05)
    active = spread(method)
    room = sum(int((~method.masks[n]).sum()) for n in method.masks)
    method.threshold = 0.9  # nearly all
    before = method.masks.state_dict()
    method.update(0)
    gone = [
        method.masks.weights[n].new_tensor(0) + int((before[n] & ~method.masks[n]).sum())
        for n in before
    ]
    assert sum(gone) == room
    assert sum(method.masks.counts().values()) == active


def test_the_total_stays_through_a_training():
    method = dsr(sparsity=0.85, total_steps=40, schedule="imagenet", period=2, threshold=0.02)
    model, optimizer = method.model, method.optimizer
    total = sum(method.masks.counts().values())
    layers = []
    for batch in images(40):
        advance(model, optimizer, batch)
        assert sum(method.masks.counts().values()) == total
        layers.append(tuple(method.masks.counts().values()))
    assert method.updates == 8  # after steps 2, 4, 6, 8, 12, 16, 24 and 32
    assert len(set(layers)) > 1  # layers shrink and grow


def test_it_judges_w_also_where_the_model_stands_perturbed():
    method = dsr(wrap=lambda base: S2SAM(base, rho=5.0))
    for batch in images(2):
        advance(method.model, method.optimizer, batch)
    weights = {n: method.weight(n).clone() for n in method.masks}
    sizes = torch.cat([w[method.masks[n]].abs() for n, w in weights.items()])
    method.threshold = float(sizes.median())
    before, threshold = method.masks.state_dict(), method.threshold
    method.update(0)
    for name in before:
        stay = before[name] & (weights[name].abs() >= threshold)
        assert torch.equal(before[name] & method.masks[name], stay)


def updates(total_steps, **options):
    method = dsr(total_steps=total_steps, **options)
    return [t + 1 for t in range(total_steps) if method.due(t)]


def test_the_published_schedule_for_cifar10_in_200_epochs():
    done = updates(100_000)
    epochs = {100: (0, 25), 200: (25, 80), 400: (80, 140), 800: (140, 190)}
    expected = [
        t
        for period, (first, last) in epochs.items()
        for t in range(period, 500 * last, period)
        if t >= 500 * first
    ]
    assert done == expected
    assert updates(100_000, period=100.0) == done


def test_the_published_schedule_for_imagenet_in_125000_steps():
    done = updates(125_000, schedule="imagenet")
    assert done[:2] == [1000, 2000]
    gaps = {
        q: {b - a for a, b in pairwise(done) if a // 31_250 == q == b // 31_250} for q in range(4)
    }
    assert gaps == {0: {1000}, 1: {2000}, 2: {4000}, 3: {8000}}
    assert max(done) < 0.95 * 125_000
    assert updates(125_000, schedule="imagenet", period=1000.0) == done
    assert updates(125_000, schedule="imagenet", period=0.008) == done


def test_runs_before_there_was_a_choice_had_imagenets_schedule():
    old = METHODS.spec("dsr", sparsity=0.9, schedule="imagenet", period=0.008)
    assert METHODS.before("dsr") == {"schedule": "imagenet"}
    assert METHODS.spec("dsr", sparsity=0.9)["schedule"] == "cifar10"
    model = convnet()
    method = METHODS.build(
        old,
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        total_steps=125_000,
    )
    assert [t + 1 for t in range(4000) if method.due(t)] == [1000, 2000, 3000, 4000]


@pytest.mark.parametrize("steps", [880, 9372])
def test_shorter_trainings_have_as_many_updates(steps):
    for schedule, steps_there in (("cifar10", 100_000), ("imagenet", 125_000)):
        there = len(updates(steps_there, schedule=schedule))
        assert len(updates(steps, schedule=schedule)) == pytest.approx(there, rel=0.15)
    assert len(updates(steps, period=5000.0)) <= 1  # in steps it is not scaled


def test_updates_end_at_the_stop():
    assert max(updates(1000, stop=0.5)) < 500
    assert updates(1000, stop=0.0) == []


@pytest.mark.parametrize(
    "bad",
    [{"period": 0.0}, {"fraction": 0.0}, {"fraction": 1.0}, {"threshold": 0.0}, {"stop": 2.0}],
)
def test_bad_options(bad):
    with pytest.raises(UserError, match="DSR needs period > 0"):
        dsr(**bad)
    with pytest.raises(UserError, match="unknown schedule 'mnist' of DSR; known are cifar10, im"):
        dsr(schedule="mnist")


def test_the_threshold_is_saved():
    method = dsr()
    method.threshold = 0.125
    other = dsr()
    other.load_state_dict(method.state_dict())
    assert other.threshold == 0.125 == other.facts()["threshold"]
    assert METHODS.defaults("dsr")["threshold"] == 1e-3 == dsr().threshold


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=6), st.data()
)
def test_apportioning(members, draw):
    weight = {str(i): w for i, (w, _) in enumerate(members)}
    room = {str(i): r for i, (_, r) in enumerate(members)}
    total = draw.draw(st.integers(0, sum(room.values())))
    given_ = apportion(total, weight, room)
    assert sum(given_.values()) == total
    assert all(0 <= given_[n] <= room[n] for n in room)
    if all(room[n] >= total for n in room):  # nobody is full: shares are off by less than one
        whole = sum(weight.values())
        assert all(abs(given_[n] - total * weight[n] / whole) < 1 for n in weight)


def test_apportioning_without_room():
    with pytest.raises(ValueError, match="no room for 3"):
        apportion(3, {"a": 1}, {"a": 2})
